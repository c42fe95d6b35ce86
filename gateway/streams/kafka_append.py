"""Appending to Kafka: what waits for a partition goes out as one record batch, one batch a partition at a time, each exactly once.

Kafka tells repeated batches by (producer id, sequence number) per partition. With one batch under way per partition, repeating it
after a lost answer is always safe. What stays unknown at its deadline is never sent again: its callers get `LogUnavailable`, and the
partition goes on under a new producer id, because the next sequence number is unknown too.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from gateway.streams.kafka_connection import DEADLINE_S
from gateway.streams.log import MAX_BATCH_RECORDS, LogUnavailable, Position, TopicGone
from gateway.streams.record_batch import encode

_BATCH_BYTES = 448 * 1024
"""What is collected into one batch. A broker's collector treats larger buffers as its exception, and spends more than they save."""

Keyed = Sequence[tuple[bytes | None, bytes]]


class Outcome(Enum):
    """What became of a batch."""

    APPENDED = "appended"
    NOT_APPENDED = "not appended, worth repeating"
    UNKNOWN = "perhaps appended, safe to repeat"
    OUT_OF_SEQUENCE = "not appended, because the broker does not know or expect this producer id and sequence"
    LOST = "appended, but the broker no longer tells where"
    REFUSED = "not appended, and never will be"
    GONE = "the topic is gone"


@dataclass(slots=True)
class _Append:
    records: Keyed
    size: int
    deadline: float
    position: asyncio.Future[Position]


@dataclass(slots=True)
class Batch:
    """One record batch, whole or not at all; `encoded` does not change between attempts."""

    lane: Lane
    appends: list[_Append]
    count: int
    encoded: bytes
    deadline: float
    unsure: bool = False
    attempts: int = 0


@dataclass(slots=True)
class Lane:
    """One partition of one topic (by id): what waits for it, what is under way, and where its sequence stands."""

    topic: str
    topic_id: str
    partition: int
    node: int
    producer: tuple[int, int] | None = None
    sequence: int = 0
    waiting: deque[_Append] = field(default_factory=deque)
    batch: Batch | None = None
    busy: bool = False

    def pending(self) -> list[_Append]:
        return [*(self.batch.appends if self.batch else ()), *self.waiting]


class Brokers(Protocol):
    """What appending needs of the cluster."""

    async def new_producer(self) -> tuple[int, int]:
        """A new (producer id, epoch). Raises `LogUnavailable`."""

    async def leader(self, topic: str, topic_id: str, partition: int, newer_than: float) -> int:
        """The node that leads the partition, not older than that monotonic time. Raises `TopicGone`, `LogUnavailable`."""

    def produce(self, node: int, batches: Sequence[Batch], timeout_s: float) -> Awaitable[list[tuple[Outcome, int, str]]]:
        """Send one request, before this returns where a connection is open; for each batch its outcome, its first offset and a reason.

        Raises nothing.
        """


class Appender:
    """Lanes, and the requests that carry their batches. Lives on one event loop."""

    def __init__(self, brokers: Brokers, *, deadline_s: float = DEADLINE_S, backoff_s: float = 0.1) -> None:
        self._brokers = brokers
        self._deadline_s = deadline_s
        self._backoff_s = backoff_s
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._ready: list[Lane] = []
        self._flush_scheduled = False
        self._producer: tuple[int, int] | None = None
        self._producer_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def append(self, topic: str, topic_id: str, partition: int, node: int, records: Keyed, size: int) -> Position:
        lane = self._lanes.get((topic_id, partition))
        if lane is None:
            lane = self._lanes[topic_id, partition] = Lane(topic, topic_id, partition, node)
        position: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        lane.waiting.append(_Append(records, size, time.monotonic() + self._deadline_s, position))
        if not lane.busy:
            self._next(lane)
        return await position

    def forget(self, topic_id: str) -> None:
        """Drop the idle lanes of a topic that is gone: no topic ever has this id again."""
        for key in [key for key, lane in self._lanes.items() if key[0] == topic_id and not lane.busy]:
            del self._lanes[key]

    async def drain(self, timeout_s: float) -> None:
        """Wait for what is under way, then fail the rest."""
        positions = [append.position for lane in self._lanes.values() for append in lane.pending()]
        if positions:
            await asyncio.wait(positions, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        for lane in self._lanes.values():
            self._fail(lane.pending(), LogUnavailable("the log is closing"))

    # From lane to request.

    def _next(self, lane: Lane) -> None:
        """Take the lane's next batch on its way, if something waits."""
        lane.busy = bool(lane.batch or lane.waiting)
        if not lane.busy:
            return
        if lane.producer is None and self._producer is None:
            self._spawn(self._identify(lane))
            return
        if lane.producer is None:
            lane.producer, lane.sequence = self._producer, 0
        self._ready.append(lane)
        if not self._flush_scheduled:  # after this turn of the loop: what one caller appends to several partitions is one request
            self._flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        ready, self._ready = self._ready, []
        requests: dict[int, list[Batch]] = defaultdict(list)
        for lane in ready:
            if lane.batch is None:
                lane.batch = self._cut(lane)
            if lane.batch is None:
                lane.busy = False
            else:
                requests[lane.node].append(lane.batch)
        for node, batches in requests.items():
            # Half the deadline at most: a broker that is silent, not gone, leaves time for a second attempt.
            timeout_s = min(self._deadline_s / 2, max(0.1, min(batch.deadline for batch in batches) - time.monotonic()))
            self._spawn(self._follow(batches, self._brokers.produce(node, batches, timeout_s)))

    def _cut(self, lane: Lane) -> Batch | None:
        """A batch of the appends that wait, in order, up to the largest batch; an append is never divided."""
        now = time.monotonic()
        appends: list[_Append] = []
        records: list[tuple[bytes | None, bytes]] = []
        size = 0
        while lane.waiting:
            first = lane.waiting[0]
            if first.deadline <= now:
                self._fail([lane.waiting.popleft()], LogUnavailable("the log did not take it in time"))
                continue
            if appends and (size + first.size > _BATCH_BYTES or len(records) + len(first.records) > MAX_BATCH_RECORDS):
                break
            appends.append(lane.waiting.popleft())
            records.extend(first.records)
            size += first.size
        if not appends:
            return None
        assert lane.producer is not None
        encoded = encode(records, producer_id=lane.producer[0], producer_epoch=lane.producer[1], sequence=lane.sequence)
        return Batch(lane, appends, len(records), encoded, deadline=appends[0].deadline)

    # From answer to caller.

    async def _follow(self, batches: list[Batch], answer: Awaitable[list[tuple[Outcome, int, str]]]) -> None:
        for batch, (outcome, offset, reason) in zip(batches, await answer, strict=True):
            self._settle(batch, outcome, offset, reason)
        self._flush()  # in this turn of the loop: a turn in which requests are parsed is longer than the broker takes

    def _settle(self, batch: Batch, outcome: Outcome, offset: int, reason: str) -> None:
        batch.attempts += 1
        lane = batch.lane
        if outcome is Outcome.APPENDED:
            lane.batch = None
            lane.sequence = (lane.sequence + batch.count) & 0x7FFFFFFF  # as Kafka wraps it
            for append in batch.appends:
                if not append.position.done():
                    append.position.set_result(Position(lane.partition, offset, len(append.records)))
                offset += len(append.records)
            self._next(lane)
        elif outcome is Outcome.GONE:
            self._give_up(batch, TopicGone(lane.topic))
        elif outcome in (Outcome.REFUSED, Outcome.LOST):
            batch.unsure |= outcome is Outcome.LOST
            self._give_up(batch, LogUnavailable(reason))
        elif outcome is Outcome.OUT_OF_SEQUENCE:
            self._renumber(batch, reason)
        else:
            batch.unsure |= outcome is Outcome.UNKNOWN
            self._spawn(self._again(batch, reason))

    def _renumber(self, batch: Batch, reason: str) -> None:
        """The broker refuses our numbering. Only what certainly was not appended may go out under another producer id."""
        if batch.unsure:
            self._give_up(batch, LogUnavailable(reason))
            return
        lane = batch.lane
        lane.batch = None
        lane.waiting.extendleft(reversed(batch.appends))
        self._new_identity(lane)
        self._next(lane)

    def _give_up(self, batch: Batch, error: Exception) -> None:
        lane = batch.lane
        self._fail(batch.appends, error)
        lane.batch = None
        if batch.unsure:
            self._new_identity(lane)
        self._next(lane)

    async def _again(self, batch: Batch, reason: str) -> None:
        """Look up the leader again after a pause, and send the same bytes."""
        asked = time.monotonic()
        await asyncio.sleep(self._backoff_s * min(batch.attempts, 5))
        lane = batch.lane
        if time.monotonic() >= batch.deadline:
            self._give_up(batch, LogUnavailable(reason))
            return
        try:
            lane.node = await self._brokers.leader(lane.topic, lane.topic_id, lane.partition, asked)
        except TopicGone as error:
            self._give_up(batch, error)
            return
        except LogUnavailable:
            pass  # the next attempt fails as well, and so it goes until the deadline
        self._next(lane)

    async def _identify(self, lane: Lane) -> None:
        async with self._producer_lock:
            if self._producer is None:
                try:
                    self._producer = await self._brokers.new_producer()
                except LogUnavailable as error:
                    self._fail(lane.waiting, error)
                    lane.waiting.clear()
        self._next(lane)

    def _new_identity(self, lane: Lane) -> None:
        """Other lanes keep the producer id that they have: their numbering is in order."""
        if lane.producer == self._producer:
            self._producer = None
        lane.producer = None

    @staticmethod
    def _fail(appends: Iterable[_Append], error: Exception) -> None:
        for append in appends:
            if not append.position.done():
                append.position.set_exception(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
