"""The event log of one machine, in one SQLite file.

What every call needs to know (topics, and where each partition begins and ends) stands in memory. It changes after the commit, on the
event loop, and the same step wakes whoever waits for a record: memory is never ahead of the disk.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gateway.streams.log import Fetched, LogUnavailable, OffsetOutOfRange, Position, Record, Topic, TopicGone, batch_bytes
from gateway.streams.sqlite_file import SQLiteFile

# A record stands under one integer, its partition's number and its offset, which is also its place in the file.
_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
# A partition without a topic is one whose records are being deleted. Numbers are never used again.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, id TEXT NOT NULL, retention_ms INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partitions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, topic_id TEXT, partition INTEGER NOT NULL,
    earliest INTEGER NOT NULL DEFAULT 0, "end" INTEGER NOT NULL DEFAULT 0, last_ms INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic_id, partition)
);
CREATE TABLE IF NOT EXISTS records (place INTEGER PRIMARY KEY, timestamp_ms INTEGER NOT NULL, key BLOB, value BLOB NOT NULL);
"""
_DELETED_AT_ONCE = 5000


@dataclass(slots=True)
class _Partition:
    """One partition: its number in the file, its bounds, and who waits for its next record."""

    number: int
    earliest: int = 0
    end: int = 0
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    def place(self, offset: int) -> int:
        return self.number << _OFFSET_BITS | offset

    def wake(self) -> None:
        waiting, self.waiting = self.waiting, set()
        for call in waiting:
            if not call.done():
                call.set_result(None)


@dataclass(slots=True)
class _Held:
    """A topic and its partitions."""

    topic: Topic
    retention_ms: int | None
    partitions: list[_Partition]

    def partition(self, partition: int) -> _Partition:
        if not 0 <= partition < len(self.partitions):
            raise ValueError(f"{self.topic.name} has no partition {partition}")
        return self.partitions[partition]


class SQLiteLog:
    """`EventLog` in the SQLite file at `path`, which never grows beyond `max_bytes`, if given.

    Records older than their topic's retention are deleted every `sweep_s` seconds.
    """

    def __init__(self, path: Path, *, max_bytes: int | None = None, sweep_s: float = 5.0) -> None:
        self._file = SQLiteFile(path, _SCHEMA, max_bytes=max_bytes)
        self._sweep_s = sweep_s
        self._topics: dict[str, _Held] = {}
        self._deleted: list[_Partition] = []

    async def start(self) -> None:
        """Raises `LogUnavailable` if the file cannot be opened."""
        await self._file.open()
        held, self._deleted = await self._file.read(_load)
        self._topics = {each.topic.name: each for each in held}
        self._sweeper = asyncio.create_task(self._sweep_for_ever())

    async def stop(self) -> None:
        self._sweeper.cancel()
        await self._file.close()

    # Topics.

    async def ensure_topic(self, name: str, *, partitions: int, retention_ms: int | None) -> Topic:
        topic = Topic(name, secrets.token_hex(16), partitions)

        def made(numbers: list[int]) -> None:
            if numbers:
                self._topics[name] = _Held(topic, retention_ms, [_Partition(number) for number in numbers])

        if name not in self._topics:
            await self._file.write(partial(_insert_topic, topic=topic, retention_ms=retention_ms), made)
        return self._held(name).topic

    async def topic(self, name: str) -> Topic:
        return self._held(name).topic

    async def delete_topic(self, name: str) -> None:
        held = self._topics.get(name)
        if held is None:
            return
        topic_id = held.topic.id

        def delete(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM topics WHERE id = ?", (topic_id,))
            db.execute("UPDATE partitions SET topic_id = NULL WHERE topic_id = ?", (topic_id,))

        def deleted(_: None) -> None:
            if self._topics.get(name) is held:
                del self._topics[name]
                self._deleted += held.partitions
            for partition in held.partitions:
                partition.wake()

        await self._file.write(delete, deleted)
        with suppress(LogUnavailable):  # the topic is gone; the next sweep goes on with its records
            await self._empty_deleted()

    # Records.

    async def append(
        self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes]], *, topic_id: str | None = None
    ) -> Position:
        batch_bytes(records)
        held = self._held(topic, topic_id)
        known = held.partition(partition)
        count = len(records)

        def insert(db: sqlite3.Connection) -> int:
            # The time of a partition never runs backwards, whatever the clock does.
            advance = """UPDATE partitions SET "end" = "end" + ?, last_ms = max(last_ms, ?)
                         WHERE number = ? AND topic_id = ? RETURNING "end", last_ms"""
            row = db.execute(advance, (count, int(time.time() * 1000), known.number, held.topic.id)).fetchone()
            if row is None:
                raise TopicGone(topic)
            end, at = row
            rows = [(place, at, key, value) for place, (key, value) in enumerate(records, known.place(end - count))]
            db.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", rows)
            return int(end)

        def inserted(end: int) -> Position:
            known.end = end
            known.wake()
            return Position(partition, end - count, count)

        return await self._file.write(insert, inserted)

    async def fetch(self, topic: str, partition: int, offset: int, *, max_bytes: int, wait_ms: int, topic_id: str | None = None) -> Fetched:
        deadline = time.monotonic() + wait_ms / 1000
        while True:
            held = self._held(topic, topic_id)
            known = held.partition(partition)
            if not known.earliest <= offset <= known.end:
                raise OffsetOutOfRange(known.earliest, known.end)
            if offset == known.end:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not await _woken(known, left_s):
                    return Fetched((), known.earliest, known.end)
                continue
            select = partial(_select, first=known.place(offset), end=known.place(known.end), max_bytes=max_bytes)
            records = await self._file.read(select)
            if records and records[0][0] == offset:
                return Fetched(records, known.earliest, known.end)
            if known.earliest <= offset and self._topics.get(topic) is held:  # else it was deleted just now
                raise LogUnavailable(f"offset {offset} is not in the file")

    async def earliest(self, topic: str, partition: int) -> int:
        return self._held(topic).partition(partition).earliest

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        known = self._held(topic).partition(partition)
        return known.earliest, known.end

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        known = self._held(topic).partition(partition)
        earliest, end = known.place(known.earliest), known.place(known.end)
        return await self._file.read(partial(_first_since, earliest=earliest, end=end, timestamp_ms=timestamp_ms)) & _OFFSET_MASK

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self._file.write(lambda db: db.execute("SELECT 1"), lambda _: None)
        except TimeoutError as error:
            raise LogUnavailable("no answer within a second") from error

    # Deletion.

    def _held(self, name: str, topic_id: str | None = None) -> _Held:
        held = self._topics.get(name)
        if held is None or topic_id not in (None, held.topic.id):
            raise TopicGone(name)
        return held

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            try:
                await self._empty_deleted()
                for held in list(self._topics.values()):
                    if held.retention_ms is not None:
                        await self._expire(held, int(time.time() * 1000) - held.retention_ms)
            except (LogUnavailable, TopicGone):
                continue  # the next round tries again

    async def _expire(self, held: _Held, oldest_ms: int) -> None:
        for partition, known in enumerate(held.partitions):
            if known.earliest < known.end:
                await self._delete_records(known, await self.offset_at(held.topic.name, partition, oldest_ms))

    async def _empty_deleted(self) -> None:
        while self._deleted:
            partition = self._deleted.pop()
            try:
                await self._delete_records(partition, partition.end)
                await self._file.write(partial(_drop_partition, number=partition.number), lambda _: None)
            except LogUnavailable:
                self._deleted.append(partition)
                raise

    async def _delete_records(self, partition: _Partition, before: int) -> None:
        """In parts, so that appends get their turn. `earliest` moves with each part."""

        def deleted(earliest: int) -> None:
            partition.earliest = earliest

        while partition.earliest < before:
            earliest = min(before, partition.earliest + _DELETED_AT_ONCE)
            await self._file.write(partial(_delete_before, partition=partition, earliest=earliest), deleted)


async def _woken(partition: _Partition, timeout_s: float) -> bool:
    """True once something was appended to the partition, or its topic is gone; False after the time."""
    call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    partition.waiting.add(call)
    try:
        async with asyncio.timeout(timeout_s):
            await call
    except TimeoutError:
        return False
    finally:
        partition.waiting.discard(call)
    return True


# In the threads of the file.


def _load(db: sqlite3.Connection) -> tuple[list[_Held], list[_Partition]]:
    """The topics, and the partitions whose deletion was not finished."""
    select = 'SELECT number, earliest, "end" FROM partitions WHERE topic_id IS ? ORDER BY partition'

    def partitions(topic_id: str | None) -> list[_Partition]:
        return [_Partition(*row) for row in db.execute(select, (topic_id,))]

    topics = []
    for name, topic_id, retention_ms in db.execute("SELECT name, id, retention_ms FROM topics"):
        held = partitions(topic_id)
        topics.append(_Held(Topic(name, topic_id, len(held)), retention_ms, held))
    return topics, partitions(None)


def _insert_topic(db: sqlite3.Connection, *, topic: Topic, retention_ms: int | None) -> list[int]:
    """The numbers of the partitions, or none if there is a topic of that name."""
    if db.execute("INSERT OR IGNORE INTO topics VALUES (?, ?, ?)", (topic.name, topic.id, retention_ms)).rowcount == 0:
        return []
    insert = "INSERT INTO partitions (topic_id, partition) VALUES (?, ?) RETURNING number"
    return [db.execute(insert, (topic.id, partition)).fetchone()[0] for partition in range(topic.partitions)]


def _drop_partition(db: sqlite3.Connection, *, number: int) -> None:
    db.execute("DELETE FROM partitions WHERE number = ?", (number,))


def _delete_before(db: sqlite3.Connection, *, partition: _Partition, earliest: int) -> int:
    db.execute("UPDATE partitions SET earliest = ? WHERE number = ?", (earliest, partition.number))
    db.execute("DELETE FROM records WHERE place >= ? AND place < ?", (partition.place(0), partition.place(earliest)))
    return earliest


def _select(db: sqlite3.Connection, *, first: int, end: int, max_bytes: int) -> list[Record]:
    """Records from place `first`, at least one, until they have `max_bytes`."""
    records: list[Record] = []
    size = 0
    select = "SELECT place, timestamp_ms, key, value FROM records WHERE place >= ? AND place < ? ORDER BY place"
    for place, at, key, value in db.execute(select, (first, end)):
        size += len(value) + (len(key) if key else 0)
        if records and size > max_bytes:
            break
        records.append((place & _OFFSET_MASK, at, key, value))
    return records


def _first_since(db: sqlite3.Connection, *, earliest: int, end: int, timestamp_ms: int) -> int:
    """The first place whose time is `timestamp_ms` or later, or `end`: times never fall, so it is halved down to it."""
    select = "SELECT timestamp_ms FROM records WHERE place >= ? AND place < ? ORDER BY place LIMIT 1"
    low, high = earliest, end
    while low < high:
        middle = (low + high) // 2
        row = db.execute(select, (middle, end)).fetchone()
        if row is not None and row[0] < timestamp_ms:
            low = middle + 1
        else:
            high = middle
    return low
