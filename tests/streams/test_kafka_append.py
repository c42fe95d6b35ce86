"""Appending exactly once, against a broker in memory that keeps Kafka's rule of sequence numbers and fails in every way it can."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
from kafka.record.memory_records import MemoryRecords

from gateway.streams.kafka_append import Appender, Batch, Outcome
from gateway.streams.log import LogUnavailable, Position, TopicGone


class FlakyBroker:
    """Keeps records per partition, and the last sequence number per partition and producer, as Kafka does."""

    def __init__(self, seed: int = 0, *, flaky: float = 0.0) -> None:
        self.records: defaultdict[int, list[bytes]] = defaultdict(list)
        self.requests: list[int] = []
        self.topic_is_gone = False
        self.down = False
        self.answers_are_lost = False
        self._random = random.Random(seed)
        self._flaky = flaky
        self._producers = 0
        self._last: dict[tuple[int, int], tuple[int, int, int]] = {}

    def forget_producers(self) -> None:
        """As a leader does that lost the end of its log: it expects other numbers than the producer has."""
        self._last = {key: (first, last + 1000, offset) for key, (first, last, offset) in self._last.items()}

    async def new_producer(self) -> tuple[int, int]:
        await asyncio.sleep(0)
        if self.down:
            raise LogUnavailable("down")
        self._producers += 1
        return self._producers, 0

    async def leader(self, topic: str, topic_id: str, partition: int, newer_than: float) -> int:  # noqa: ARG002 - as the protocol has it
        await asyncio.sleep(0)
        if self.topic_is_gone:
            raise TopicGone(topic)
        if self._random.random() < self._flaky:
            raise LogUnavailable("no answer")
        return 1

    async def produce(
        self,
        node: int,  # noqa: ARG002 - as the protocol has it
        batches: Sequence[Batch],
        timeout_s: float,  # noqa: ARG002
    ) -> list[tuple[Outcome, int, str]]:
        self.requests.append(len(batches))
        await asyncio.sleep(self._random.random() * 0.002)
        if self.down:
            return [(Outcome.NOT_APPENDED, -1, "down")] * len(batches)
        if self._random.random() < self._flaky:
            return [(Outcome.UNKNOWN, -1, "lost on the way")] * len(batches)
        outcomes = [self._take(batch) for batch in batches]
        if self.answers_are_lost or self._random.random() < self._flaky:
            return [(Outcome.UNKNOWN, -1, "lost on the way back")] * len(batches)
        return outcomes

    def _take(self, batch: Batch) -> tuple[Outcome, int, str]:
        if self.topic_is_gone or self._random.random() < self._flaky:
            return Outcome.NOT_APPENDED, -1, "not the leader"
        stored = next(MemoryRecords(batch.encoded))
        key = batch.lane.partition, stored.producer_id
        first, last = stored.base_sequence, stored.base_sequence + batch.count - 1
        if key in self._last:
            before = self._last[key]
            if (first, last) == before[:2]:
                return Outcome.APPENDED, before[2], ""
            if first != before[1] + 1:
                return Outcome.OUT_OF_SEQUENCE, -1, "out of sequence"
        kept = self.records[batch.lane.partition]
        self._last[key] = first, last, len(kept)
        kept.extend(record.value for record in stored)
        return Outcome.APPENDED, self._last[key][2], ""


def append(appender: Appender, partition: int, values: list[bytes]) -> asyncio.Task[Position]:
    records = [(None, value) for value in values]
    return asyncio.ensure_future(appender.append("t", "id", partition, 1, records, sum(map(len, values))))


@pytest.mark.parametrize("seed", range(10))
def test_whatever_fails_the_acknowledged_stand_once_where_they_were_said_to(seed: int) -> None:
    async def test() -> None:
        broker = FlakyBroker(seed, flaky=0.25)
        appender = Appender(broker, deadline_s=2, backoff_s=0.002)
        chance = random.Random(seed)
        values = [[f"{number}/{place}".encode() for place in range(chance.randint(1, 5))] for number in range(400)]
        tasks = []
        for number, each in enumerate(values):
            tasks.append(append(appender, number % 8, each))
            if chance.random() < 0.2:
                await asyncio.sleep(0.002)
            if chance.random() < 0.02:
                broker.forget_producers()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        times = Counter(value for records in broker.records.values() for value in records)
        assert set(times.values()) == {1}
        acknowledged = 0
        for each, result in zip(values, results, strict=True):
            if isinstance(result, Position):
                acknowledged += 1
                assert broker.records[result.partition][result.first : result.first + result.count] == each
            else:
                assert isinstance(result, LogUnavailable)
        assert acknowledged > 100

    asyncio.run(test())


def test_what_one_caller_appends_to_several_partitions_is_one_request() -> None:
    async def test() -> None:
        broker = FlakyBroker()
        appender = Appender(broker)
        await append(appender, 0, [b"first"])
        broker.requests.clear()
        await asyncio.gather(*(append(appender, partition, [b"v"]) for partition in range(8)))
        assert broker.requests == [8]

    asyncio.run(test())


def test_what_waits_for_a_partition_goes_out_together_and_in_order() -> None:
    async def test() -> None:
        broker = FlakyBroker()
        appender = Appender(broker)
        positions = await asyncio.gather(*(append(appender, 0, [b"%d" % number]) for number in range(100)))
        assert [position.first for position in positions] == list(range(100))
        assert len(broker.requests) < 5

    asyncio.run(test())


def test_a_batch_of_unknown_fate_is_never_sent_under_another_number() -> None:
    async def test() -> None:
        broker = FlakyBroker()
        appender = Appender(broker, deadline_s=0.3)
        broker.answers_are_lost = True
        with pytest.raises(LogUnavailable):
            await append(appender, 0, [b"unknown"])
        assert len(broker.requests) > 1
        broker.answers_are_lost = False
        assert (await append(appender, 0, [b"known"])).first == 1
        assert broker.records[0] == [b"unknown", b"known"]

    asyncio.run(test())


def test_a_refused_numbering_costs_nothing_that_was_certainly_not_appended() -> None:
    async def test() -> None:
        broker = FlakyBroker()
        appender = Appender(broker)
        await append(appender, 0, [b"first"])
        broker.forget_producers()
        assert (await append(appender, 0, [b"second"])).first == 1
        assert broker.records[0] == [b"first", b"second"]

    asyncio.run(test())


def test_a_topic_that_goes_while_an_append_waits_is_gone() -> None:
    async def test() -> None:
        broker = FlakyBroker()
        appender = Appender(broker)
        await append(appender, 0, [b"v"])
        broker.topic_is_gone = True
        with pytest.raises(TopicGone):
            await append(appender, 0, [b"v"])

    asyncio.run(test())


def test_a_log_that_closes_leaves_nobody_waiting() -> None:
    async def test() -> None:
        broker = FlakyBroker()
        appender = Appender(broker)
        await append(appender, 0, [b"v"])
        broker.down = True
        waiting = [append(appender, 0, [b"v"]) for _ in range(3)]
        await asyncio.sleep(0.05)
        await appender.drain(0.1)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [LogUnavailable] * 3

    asyncio.run(test())
