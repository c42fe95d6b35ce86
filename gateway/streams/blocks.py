"""Blocks: runs of decoded records, read once per partition and process and shared by all subscribers.

A block has at most `BLOCK_EVENTS` records, so that what is rendered of it is one grant at most. Blocks live in one memory of
bounded size: a slow subscriber holds none, it reads again when it comes.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client import Counter

from gateway.catalog.directory import DatasetView
from gateway.streams.log import EventLog, Record

BLOCK_EVENTS = 1000
FETCH_BYTES = 1024 * 1024
KEPT_SHAPES = 8
OVERHEAD = 6
"""A decoded record takes about this many times the bytes of its JSON."""

undecodable = Counter("exchange_events_undecodable_total", "Stored records that are no event and are passed over.", ["dataset"])


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record as the lens needs it; `sref` is the value at the dataset's subject pointer."""

    offset: int
    appended_ms: int
    sref: str | None
    event: dict[str, Any]
    value: bytes


@dataclass(eq=False, slots=True)
class Block:
    """Records of one partition from `first` up to, and without, `next`. `shapes` holds what each shape made of them."""

    partition: int
    first: int
    next: int
    records: list[Decoded]
    size: int
    shapes: dict[bytes, list[Any]] = field(default_factory=dict)

    def index_of(self, offset: int) -> int:
        """The place of the first record at or after `offset`."""
        return 0 if offset <= self.first else bisect_left(self.records, offset, key=lambda record: record.offset)

    def keep_shape(self, key: bytes, made: list[Any]) -> list[Any]:
        """Keep what a shape made of the records, among a few, and return it."""
        if len(self.shapes) >= KEPT_SHAPES:
            self.shapes.clear()
        self.shapes[key] = made
        return made


class Blocks:
    """The decoded blocks of all topics of this process, the least recently used dropped first."""

    def __init__(self, log: EventLog, most_bytes: int) -> None:
        self._log = log
        self._most = most_bytes
        self._held = 0
        self._blocks: OrderedDict[tuple[str, int, int], Block] = OrderedDict()
        self._firsts: dict[tuple[str, int], list[int]] = {}
        self._fetching: dict[tuple[str, int, int, bool], asyncio.Task[Block | None]] = {}

    async def at(self, dataset: DatasetView, partition: int, offset: int, wait_ms: int) -> Block | None:
        """The block that holds `offset`, fetched if need be; None if nothing came within `wait_ms`. Raises what `EventLog.fetch` raises.

        Subscribers that ask for the same offset at once share one fetch.
        """
        found = self.held(dataset.topic, partition, offset)
        if found is not None:
            return found
        key = (dataset.topic, partition, offset, wait_ms > 0)
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(dataset, partition, offset, wait_ms))
            self._fetching[key] = task
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
        return await asyncio.shield(task)

    def held(self, topic: str, partition: int, offset: int) -> Block | None:
        """The block in memory that holds `offset`."""
        firsts = self._firsts.get((topic, partition))
        if not firsts:
            return None
        place = bisect_left(firsts, offset + 1) - 1
        if place < 0:
            return None
        block = self._blocks[topic, partition, firsts[place]]
        if not block.first <= offset < block.next:
            return None
        self._blocks.move_to_end((topic, partition, block.first))
        return block

    def forget(self) -> None:
        """Drop everything, for example when topics were made again."""
        self._blocks.clear()
        self._firsts.clear()
        self._held = 0

    def forget_shapes(self) -> None:
        """Drop what was made of the records; as they are stored they stay."""
        for block in self._blocks.values():
            block.shapes.clear()

    async def _fetch(self, dataset: DatasetView, partition: int, offset: int, wait_ms: int) -> Block | None:
        fetched = await self._log.fetch(dataset.topic, partition, offset, max_bytes=FETCH_BYTES, wait_ms=wait_ms, topic_id=dataset.topic_id)
        records = fetched.records
        if not records:
            return None
        start, wanted = offset, None
        for place in range(0, len(records), BLOCK_EVENTS):
            part = records[place : place + BLOCK_EVENTS]
            block = _decode(dataset, partition, start, part)
            start = block.next
            self._keep(dataset.topic, block)
            wanted = wanted or block
        return wanted

    def _keep(self, topic: str, block: Block) -> None:
        firsts = self._firsts.setdefault((topic, block.partition), [])
        place = bisect_left(firsts, block.first)
        if place < len(firsts) and firsts[place] == block.first:
            return
        firsts.insert(place, block.first)
        self._blocks[topic, block.partition, block.first] = block
        self._held += block.size
        while self._held > self._most and len(self._blocks) > 1:
            (old_topic, old_partition, old_first), old = self._blocks.popitem(last=False)
            old_firsts = self._firsts[old_topic, old_partition]
            del old_firsts[bisect_left(old_firsts, old_first)]
            self._held -= old.size


def _decode(dataset: DatasetView, partition: int, first: int, records: Any) -> Block:
    path = tuple(dataset.subject_pointer.split("/")[1:]) if dataset.subject_pointer else None
    decoded, size = [], 0
    for offset, appended_ms, _key, value in records:
        record = _decode_one((offset, appended_ms, None, value), path)
        if record is None:
            undecodable.labels(dataset.slug).inc()
            continue
        decoded.append(record)
        size += len(value)
    return Block(partition, first, records[-1][0] + 1, decoded, size * OVERHEAD + 1000)


def _decode_one(record: Record, path: tuple[str, ...] | None) -> Decoded | None:
    offset, appended_ms, _, value = record
    try:
        event = orjson.loads(value)
        subject: Any = event["data"] if path else None
        for name in path or ():
            subject = subject[name]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(event, dict) or not (subject is None or isinstance(subject, str)):
        return None
    return Decoded(offset, appended_ms, subject, event, value)
