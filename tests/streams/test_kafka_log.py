"""What the Kafka log alone must stand: brokers that die, other producers' batches, retention by the broker."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sized
from contextlib import asynccontextmanager
from functools import partial

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from gateway.streams.kafka_log import KafkaLog
from gateway.streams.log import LogUnavailable, OffsetOutOfRange, Topic
from tests.engines import Kafka


@asynccontextmanager
async def topic_of(kafka: Kafka, *, partitions: int = 1) -> AsyncIterator[tuple[KafkaLog, Topic]]:
    log = KafkaLog(kafka.bootstrap)
    await log.start()
    try:
        yield log, await log.ensure_topic(f"kafka-{time.time_ns()}", partitions=partitions, retention_ms=None)
    finally:
        await log.stop()


@asynccontextmanager
async def killed(kafka: Kafka) -> AsyncIterator[None]:
    """The broker is dead within, and back afterwards, also for the tests that follow."""
    await asyncio.to_thread(kafka.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(kafka.start)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within half a minute")


def more_than(found: Sized, count: int) -> bool:
    return len(found) > count


async def values(log: KafkaLog, topic: str, partition: int = 0) -> list[bytes]:
    offset, end = await log.bounds(topic, partition)
    found: list[bytes] = []
    while offset < end:
        fetched = await log.fetch(topic, partition, offset, max_bytes=1_000_000, wait_ms=0)
        found += [value for *_, value in fetched.records]
        offset = fetched.records[-1][0] + 1
    return found


def test_a_broker_killed_during_appends_loses_nothing_acknowledged_and_repeats_nothing(kafka: Kafka) -> None:
    async def test() -> None:
        async with topic_of(kafka, partitions=3) as (log, topic):
            acknowledged: dict[bytes, tuple[int, int]] = {}
            refused: list[bytes] = []
            stop = asyncio.Event()

            async def append_for_ever(worker: int) -> None:
                number = 0
                while not stop.is_set():
                    value = f"{worker}-{number}".encode()
                    number += 1
                    try:
                        position = await log.append(topic.name, worker % 3, [(None, value), (None, value + b"+")])
                        acknowledged[value] = position.partition, position.first
                    except LogUnavailable:
                        refused.append(value)

            workers = [asyncio.create_task(append_for_ever(worker)) for worker in range(9)]
            for _ in range(2):
                await asyncio.sleep(0.5)
                async with killed(kafka):
                    before = len(acknowledged)
                await until(partial(more_than, acknowledged, before + 100))
            stop.set()
            await asyncio.gather(*workers)
            found = [await values(log, topic.name, partition) for partition in range(3)]
            times = Counter(value for partition in found for value in partition)
            assert set(times.values()) == {1}
            for value, (partition, first) in acknowledged.items():
                assert found[partition][first : first + 2] == [value, value + b"+"]
            assert set(times) <= {each + suffix for each in [*acknowledged, *refused] for suffix in (b"", b"+")}

    asyncio.run(asyncio.wait_for(test(), 120))


def test_a_waiting_fetch_goes_on_by_itself_after_the_broker_came_back(kafka: Kafka) -> None:
    async def test() -> None:
        async with topic_of(kafka) as (log, topic):
            await log.append(topic.name, 0, [(None, b"first")])
            seen: list[bytes] = []

            async def follow() -> None:
                offset = 0
                while True:
                    try:
                        fetched = await log.fetch(topic.name, 0, offset, max_bytes=1000, wait_ms=20_000)
                    except LogUnavailable:
                        continue
                    seen.extend(value for *_, value in fetched.records)
                    offset += len(fetched.records)

            following = asyncio.create_task(follow())
            await asyncio.sleep(0.3)
            async with killed(kafka):
                pass
            await log.append(topic.name, 0, [(None, b"second")])
            await until(lambda: len(seen) == 2)
            following.cancel()
            assert seen == [b"first", b"second"]

    asyncio.run(asyncio.wait_for(test(), 60))


def test_without_a_broker_calls_fail_within_their_bound_and_work_again_by_themselves(kafka: Kafka) -> None:
    async def test() -> None:
        async with topic_of(kafka) as (log, topic):
            await log.append(topic.name, 0, [(None, b"before")])
            async with killed(kafka):
                started = time.monotonic()
                with pytest.raises(LogUnavailable):
                    await log.ping()
                assert time.monotonic() - started < 1.5
                await asyncio.sleep(1)  # what is known of a topic counts for a second
                started = time.monotonic()
                results = await asyncio.gather(
                    log.append(topic.name, 0, [(None, b"meanwhile")]),
                    log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=0),
                    log.bounds(topic.name, 0),
                    log.topic(topic.name),
                    log.ensure_topic("never", partitions=1, retention_ms=None),
                    return_exceptions=True,
                )
                assert [type(result) for result in results] == [LogUnavailable] * 5
                assert 9 < time.monotonic() - started < 13
                fresh = KafkaLog(kafka.bootstrap)
                await fresh.start()
            assert (await log.append(topic.name, 0, [(None, b"after")])).count == 1
            assert await fresh.topic(topic.name) == topic
            assert await values(log, topic.name) == [b"before", b"after"]
            await fresh.stop()

    asyncio.run(asyncio.wait_for(test(), 90))


def test_a_broker_that_is_silent_is_unavailable_within_the_bound_and_nothing_is_appended_twice(kafka: Kafka) -> None:
    async def test() -> None:
        async with topic_of(kafka) as (log, topic):
            await log.append(topic.name, 0, [(None, b"before")])
            await asyncio.sleep(1)
            process = kafka._process._running
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            try:
                started = time.monotonic()
                with pytest.raises(LogUnavailable):
                    await log.ping()
                assert time.monotonic() - started < 1.5
                results = await asyncio.gather(
                    log.append(topic.name, 0, [(None, b"meanwhile")]),
                    log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=0),
                    log.topic(topic.name),
                    return_exceptions=True,
                )
                assert [type(result) for result in results] == [LogUnavailable] * 3
                assert time.monotonic() - started < 13
            finally:
                process.send_signal(signal.SIGCONT)
            await log.append(topic.name, 0, [(None, b"after")])
            found = await values(log, topic.name)
            assert found[0] == b"before"
            assert found.count(b"meanwhile") <= 1  # it may come in late: its caller was told that nobody knows
            assert found.count(b"after") == 1

    asyncio.run(asyncio.wait_for(test(), 60))


def test_records_that_the_broker_deleted_are_out_of_range(kafka: Kafka) -> None:
    async def test() -> None:
        async with topic_of(kafka) as (log, topic):
            await log.append(topic.name, 0, [(None, b"v")] * 10)

            def delete() -> None:
                admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
                admin.delete_records({TopicPartition(topic.name, 0): 6})
                admin.close()

            await asyncio.to_thread(delete)
            assert await log.bounds(topic.name, 0) == (6, 10)
            with pytest.raises(OffsetOutOfRange) as before:
                await log.fetch(topic.name, 0, 5, max_bytes=1000, wait_ms=0)
            assert (before.value.earliest, before.value.end) == (6, 10)
            fetched = await log.fetch(topic.name, 0, 6, max_bytes=1000, wait_ms=0)
            assert [offset for offset, *_ in fetched.records] == [6, 7, 8, 9]
            assert fetched.earliest == 6

    asyncio.run(test())


def test_batches_of_other_producers_are_read_too(kafka: Kafka) -> None:
    async def test() -> None:
        async with topic_of(kafka) as (log, topic):
            await log.append(topic.name, 0, [(b"k", b"ours")])

            def produce() -> None:
                for settings in ({"compression_type": "gzip"}, {}):
                    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, **settings)
                    for number in range(3):
                        producer.send(topic.name, b"theirs" * 100, key=b"%d" % number, headers=[("h", b"x")])
                    producer.close()

            await asyncio.to_thread(produce)
            fetched = await log.fetch(topic.name, 0, 0, max_bytes=1_000_000, wait_ms=0)
            assert [offset for offset, *_ in fetched.records] == list(range(7))
            assert [value for *_, value in fetched.records] == [b"ours"] + [b"theirs" * 100] * 6
            assert [key for _, _, key, _ in fetched.records] == [b"k", b"0", b"1", b"2", b"0", b"1", b"2"]

    asyncio.run(test())


def test_an_end_of_a_transaction_is_passed_over(kafka: Kafka) -> None:
    async def test() -> None:
        async with topic_of(kafka) as (log, topic):

            def produce() -> None:
                producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic.name)
                producer.init_transactions()
                producer.begin_transaction()
                producer.send(topic.name, b"theirs")
                producer.commit_transaction()
                producer.close()

            await asyncio.to_thread(produce)
            for _ in range(500):  # the broker writes the end after it has answered
                if await log.bounds(topic.name, 0) == (0, 2):
                    break
                await asyncio.sleep(0.01)
            waiting = asyncio.create_task(log.fetch(topic.name, 0, 1, max_bytes=1000, wait_ms=5000))
            await asyncio.sleep(0.1)
            await log.append(topic.name, 0, [(None, b"ours")])
            assert [(offset, value) for offset, _, _, value in (await waiting).records] == [(2, b"ours")]

    asyncio.run(asyncio.wait_for(test(), 60))


def test_more_fetches_than_connections_are_still_woken(kafka: Kafka) -> None:
    async def test() -> None:
        async with topic_of(kafka, partitions=2) as (log, topic):
            waiting = [asyncio.create_task(log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=20_000)) for _ in range(230)]
            await asyncio.sleep(1.5)
            started = time.monotonic()
            await log.append(topic.name, 0, [(None, b"v")])
            fetched = await asyncio.gather(*waiting)
            assert time.monotonic() - started < 2
            assert all(each.records for each in fetched)

    asyncio.run(asyncio.wait_for(test(), 60))
