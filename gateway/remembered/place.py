"""The place outside the database that remembers what was forbidden, append-only: a file on one machine, else a topic of the log.

A database that was restored from a dump, or failed over to a standby that was behind, has forgotten withdrawals, ends and erasures.
The place has not: it says that the database went back, and what is to be applied again. Nothing in it names a person: people stand
there by `sref`, which means nobody once its row is gone.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread
import orjson
import structlog

from gateway.keys import SecretKey, b64
from gateway.streams.log import EventLog, LogUnavailable, TopicGone

log = structlog.get_logger(__name__)

TOPIC = "exchange.control"
FILE = "remembered.jsonl"
WINDOW_BYTES, WINDOW_RECORDS = 256 * 1024, 200
"""How much of the end is read at first to find the last mark; twice as much each time until there is one."""
MOST_BYTES, MOST_RECORDS = 512 * 1024, 1000
"""Of one append to the log."""
READ_BYTES = 1024 * 1024


class PlaceAway(Exception):
    """The place does not answer, or did not acknowledge: what was sent may or may not be there."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A change as it is remembered. `redo` is what applying it again needs, None where nothing does or nothing was left to say.

    `mark`: with this one, every change up to `n` is remembered. A change with much to say stands in several, the last of which may mark.
    """

    n: int
    kind: str
    object: str
    forbids: bool
    redo: Mapping[str, Any] | None = None
    mark: bool = False


class Lines:
    """Entries as lines of JSON, each with a keyed hash of what it says: who can write to the place cannot make the exchange believe it."""

    def __init__(self, key: SecretKey) -> None:
        self._key = key

    def write(self, entry: Remembered) -> bytes:
        """The line, without its end."""
        members: dict[str, Any] = {"n": entry.n, "kind": entry.kind, "object": entry.object, "forbids": entry.forbids}
        if entry.redo is not None:
            members["redo"] = entry.redo
        if entry.mark:
            members["mark"] = True
        return orjson.dumps(members | {"mac": self._mac(members)})

    def read(self, line: bytes) -> Remembered | None:
        """The entry; None for what a crash has left of one, and for what is not the exchange's own."""
        try:
            members = orjson.loads(line)
            told = members.pop("mac")
            if not hmac.compare_digest(told, self._mac(members)):
                log.warning("not_our_own_entry", n=members["n"])
                return None
            return Remembered(
                members["n"], members["kind"], members["object"], members["forbids"], members.get("redo"), members.get("mark", False)
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def _mac(self, members: Mapping[str, Any]) -> str:
        return b64(self._key.mac(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)))


class Place(Protocol):
    """Every method may be repeated: appending again what is there does no harm."""

    where: str
    """For people: what it is and where."""

    async def append(self, entries: Sequence[Remembered]) -> None:
        """Append, in this order; durable on return. Raises `PlaceAway`."""

    async def tail(self) -> list[Remembered]:
        """The last entries: the last mark is among them, if there is one. Raises `PlaceAway`."""

    def everything(self) -> AsyncIterator[Remembered]:
        """All entries, oldest first. Raises `PlaceAway`."""


class RememberedFile:
    """A `Place` in the data folder: JSON lines, mode 0600, flushed to the disk with each append. It has one writer."""

    def __init__(self, path: Path, lines: Lines) -> None:
        self.where = f"the file {path}"
        self._lines = lines
        self._path = path

    async def append(self, entries: Sequence[Remembered]) -> None:
        await anyio.to_thread.run_sync(self._append, entries)

    async def tail(self) -> list[Remembered]:
        return await anyio.to_thread.run_sync(self._tail)

    async def everything(self) -> AsyncIterator[Remembered]:
        try:
            with self._path.open("rb") as file:
                for line in file:
                    if (entry := self._lines.read(line)) is not None:
                        yield entry
        except FileNotFoundError:
            return
        except OSError as error:
            raise PlaceAway(f"{self._path}: {error.strerror}") from error

    def _append(self, entries: Sequence[Remembered]) -> None:
        lines = b"".join(self._lines.write(entry) + b"\n" for entry in entries)
        try:
            is_new = not self._path.exists()
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                # What a crash or a full disk has left of a line is closed, so that it spoils no other. It marks nothing.
                end = os.lseek(descriptor, 0, os.SEEK_END)
                torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
                _write_all(descriptor, b"\n" + lines if torn else lines)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                _flush_folder(self._path.parent)
        except OSError as error:
            raise PlaceAway(f"{self._path}: {error.strerror}") from error

    def _tail(self) -> list[Remembered]:
        try:
            with self._path.open("rb") as file:
                size, window = file.seek(0, os.SEEK_END), WINDOW_BYTES
                while True:
                    file.seek(max(0, size - window))
                    lines = file.read().split(b"\n")[0 if window >= size else 1 :]
                    entries = [entry for line in lines if (entry := self._lines.read(line)) is not None]
                    if window >= size or any(entry.mark for entry in entries):
                        return entries
                    window *= 2
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PlaceAway(f"{self._path}: {error.strerror}") from error


class RememberedTopic:
    """A `Place` in the event log: one topic with one partition, kept for good. Several exchanges may share the log.

    `exchange` gives this one's identifier, which is the same in every copy of its database; it blocks, and is asked once.
    """

    def __init__(self, event_log: EventLog, lines: Lines, exchange: Callable[[], str]) -> None:
        self.where = f"the topic {TOPIC}"
        self._log = event_log
        self._lines = lines
        self._exchange = exchange
        self._name = ""

    async def append(self, entries: Sequence[Remembered]) -> None:
        topic = await self._topic()
        try:
            await self._log.ensure_topic(topic, partitions=1, retention_ms=None)
            for part in _parts([(None, self._lines.write(entry)) for entry in entries]):
                await self._log.append(topic, 0, part)
        except (LogUnavailable, TopicGone) as error:
            raise PlaceAway(f"{topic}: {error}") from error

    async def tail(self) -> list[Remembered]:
        topic = await self._topic()
        try:
            earliest, end = await self._log.bounds(topic, 0)
            window = WINDOW_RECORDS
            while True:
                entries = [entry async for entry in self._between(max(earliest, end - window), end)]
                if end - window <= earliest or any(entry.mark for entry in entries):
                    return entries
                window *= 2
        except TopicGone:
            return []
        except LogUnavailable as error:
            raise PlaceAway(f"{topic}: {error}") from error

    async def everything(self) -> AsyncIterator[Remembered]:
        topic = await self._topic()
        try:
            earliest, end = await self._log.bounds(topic, 0)
            async for entry in self._between(earliest, end):
                yield entry
        except TopicGone:
            return
        except LogUnavailable as error:
            raise PlaceAway(f"{topic}: {error}") from error

    async def _topic(self) -> str:
        if not self._name:
            self._name = f"{TOPIC}.{await anyio.to_thread.run_sync(self._exchange)}"
            self.where = f"the topic {self._name}"
        return self._name

    async def _between(self, offset: int, end: int) -> AsyncIterator[Remembered]:
        while offset < end:
            fetched = await self._log.fetch(self._name, 0, offset, max_bytes=READ_BYTES, wait_ms=0)
            if not fetched.records:
                raise LogUnavailable(f"offset {offset} gave nothing")
            for found, _, _, value in fetched.records:
                if found < end and (entry := self._lines.read(value)) is not None:
                    yield entry
            offset = fetched.records[-1][0] + 1
            await asyncio.sleep(0)


def _parts(records: Sequence[tuple[None, bytes]]) -> list[list[tuple[None, bytes]]]:
    parts: list[list[tuple[None, bytes]]] = [[]]
    size = 0
    for record in records:
        if parts[-1] and (size + len(record[1]) > MOST_BYTES or len(parts[-1]) >= MOST_RECORDS):
            parts.append([])
            size = 0
        parts[-1].append(record)
        size += len(record[1])
    return [part for part in parts if part]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _flush_folder(folder: Path) -> None:
    """Make the new file's name durable too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
