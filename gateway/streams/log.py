"""The event log: partitioned, append-only, read from any offset. Two engines keep this one contract.

`kafka_log.KafkaLog` is for several machines, `sqlite_log.SQLiteLog` for one. Both hold, and one suite tests:

- offsets of a partition are strictly increasing; gaps are allowed;
- an append to one position (topic, partition) is atomic and, once acknowledged, durable;
- a record's `timestamp_ms` is the log's own clock at append (Kafka: LogAppendTime);
- a fetch at any offset between `earliest` and `end` gives the records from there on, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

MAX_EVENT_BYTES = 900 * 1024
"""The largest value of one record, in bytes."""
MAX_BATCH_BYTES = 1024 * 1024
"""The largest sum of keys and values of one append, in bytes; the caller cuts larger parts."""
MAX_BATCH_RECORDS = 4000
"""The most records of one append. Framing takes up to 15 bytes a record, and 64 KiB beside the batch are allowed for it."""


class LogUnavailable(Exception):
    """The log did not acknowledge or answer in time. What was sent may or may not have been appended."""


class TopicGone(Exception):
    """The topic does not exist, or exists under another topic id than the one asked for."""


class OffsetOutOfRange(Exception):
    """The offset asked for is before `earliest` or beyond `end`."""

    def __init__(self, earliest: int, end: int) -> None:
        super().__init__(f"offset outside {earliest}..{end}")
        self.earliest = earliest
        self.end = end


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the log knows it: `id` changes when a topic is deleted and made again under its name."""

    name: str
    id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where a batch of `count` records stands: offsets `first` to `first + count - 1` of `partition`."""

    partition: int
    first: int
    count: int


# A record as it is read: (offset, timestamp_ms, key, value). A tuple, because hundreds of thousands pass each second.
Record = tuple[int, int, bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch gave: `records` in offset order from the offset asked for, and the bounds of the partition.

    `end` is the offset after the partition's last record.
    """

    records: Sequence[Record]
    earliest: int
    end: int


def bytes_of(records: Iterable[tuple[bytes | None, bytes]]) -> int:
    """The sum of keys and values in bytes."""
    return sum(map(len, filter(None, chain.from_iterable(records))))


def batch_bytes(records: Sequence[tuple[bytes | None, bytes]]) -> int:
    """`bytes_of` the records. Raises `ValueError` if one append may not carry them, or if there are none."""
    size = bytes_of(records)
    if not 0 < len(records) <= MAX_BATCH_RECORDS or size > MAX_BATCH_BYTES:
        raise ValueError(
            f"an append of {len(records)} records with {size} bytes; 1 to {MAX_BATCH_RECORDS} and {MAX_BATCH_BYTES} are allowed"
        )
    return size


class EventLog(Protocol):
    """What the stream plane needs of a log. All methods are coroutines of the gateway's event loop; none blocks it.

    Where `topic_id` is given, a topic with another id under that name is `TopicGone`: an offset means nothing in a recreated topic.
    A partition that the topic does not have is a `ValueError`.
    """

    async def start(self) -> None:
        """Open the log. Does not fail when a broker is away: the calls below do, with `LogUnavailable`."""

    async def stop(self) -> None:
        """Finish what is under way and close."""

    async def ensure_topic(self, name: str, *, partitions: int, retention_ms: int | None) -> Topic:
        """Make the topic unless it exists (then its partitions and retention are left as they are) and return it."""

    async def topic(self, name: str) -> Topic:
        """The topic under this name. Raises `TopicGone`, `LogUnavailable`. Cached for at most a second."""

    async def delete_topic(self, name: str) -> None:
        """Delete the topic and its records; no error if there is none."""

    async def append(
        self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes]], *, topic_id: str | None = None
    ) -> Position:
        """Append (key, value) records as one atomic batch and return where they stand, once durable (Kafka: acks=all, idempotent).

        Raises `LogUnavailable` (unknown whether it was appended), `TopicGone`, `ValueError` over `MAX_BATCH_BYTES` or `MAX_BATCH_RECORDS`.
        Many appends may be under way at once; they need not be in order.
        """

    async def fetch(self, topic: str, partition: int, offset: int, *, max_bytes: int, wait_ms: int, topic_id: str | None = None) -> Fetched:
        """Records from `offset`: at least one if there is any, about `max_bytes` at most; waits up to `wait_ms` for the first.

        Raises `OffsetOutOfRange`, `TopicGone`, `LogUnavailable`.
        """

    async def earliest(self, topic: str, partition: int) -> int:
        """The first retained offset. Those who ask for it at once may share one answer."""

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(earliest, end): the first retained offset, and the offset after the last record."""

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """The offset of the first record appended at or after `timestamp_ms`, or `end` if there is none."""

    async def ping(self) -> None:
        """Return if the log answers within a second, else raise `LogUnavailable`."""
