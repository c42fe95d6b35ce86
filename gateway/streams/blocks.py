"""Blocks: runs of records, read once per partition and process and shared by all subscribers.

A block has at most `BLOCK_EVENTS` records, so that what is rendered of it is one grant at most. Blocks live in one memory of
bounded size: a slow subscriber holds none, it reads again when it comes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from prometheus_client import Counter

from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import steps_of
from gateway.streams.log import EventLog, Record
from gateway.streams.shared import Shared

BLOCK_EVENTS = 1000
FETCH_BYTES = 2 * 1024 * 1024
OVERHEAD = 3
"""What shapes make of a record takes, with the record, about this many times the bytes of its JSON."""

undecodable = Counter("exchange_events_undecodable_total", "Stored records that are no event and are passed over.", ["dataset"])


@dataclass(eq=False, slots=True, weakref_slot=True)
class Block:
    """Records of one partition from `first` up to, and without, `next`. `shapes` holds what each shape made of them."""

    partition: int
    first: int
    next: int
    records: Sequence[Record]
    subject: tuple[str, ...] | None
    """Where in an event its subject stands."""
    size: int
    shapes: dict[bytes, Any] = field(default_factory=dict)


class Blocks:
    """The blocks of all topics of this process, the least recently used dropped first."""

    def __init__(self, log: EventLog, most_bytes: int) -> None:
        self._log = log
        self._most = most_bytes
        self._held = 0
        self._blocks: OrderedDict[tuple[str, int, int], Block] = OrderedDict()
        self._firsts: dict[tuple[str, int], list[int]] = {}
        self._fetching = Shared[tuple[str, int, int, bool], Block | None]()

    async def at(self, dataset: DatasetView, partition: int, offset: int, wait_ms: int) -> Block | None:
        """The block that holds `offset`, fetched if need be; None if nothing came within `wait_ms`. Raises what `EventLog.fetch` raises.

        Subscribers that ask for the same offset at once share one fetch.
        """
        found = self.held(dataset.topic, partition, offset)
        if found is not None:
            return found
        key = (dataset.topic, partition, offset, wait_ms > 0)
        return await self._fetching.ask(key, lambda: self._fetch(dataset, partition, offset, wait_ms))

    def is_awaited(self, dataset: DatasetView, partition: int, offset: int) -> bool:
        """True if `offset` is not in memory, and a fetch waits at the log: what comes there is answered to it as soon as it has come."""
        waits = self._fetching.is_under_way((dataset.topic, partition, offset, True))
        return waits and self.held(dataset.topic, partition, offset) is None

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
            block = _block(dataset, partition, start, part)
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


def _block(dataset: DatasetView, partition: int, first: int, records: Sequence[Record]) -> Block:
    path = ("data", *steps_of(dataset.subject_pointer)) if dataset.subject_pointer else None
    size = sum(len(record[3]) for record in records)
    return Block(partition, first, records[-1][0] + 1, records, path, size * OVERHEAD + 1000)


def decode(value: bytes, subject: tuple[str, ...] | None) -> tuple[dict[str, Any], str | None]:
    """A stored event and its subject's `sref`. Raises `ValueError`, `KeyError`, `TypeError` for what is no event."""
    event = orjson.loads(value)
    found: Any = None
    if subject is not None:
        found = event
        for name in subject:
            found = found[name]
    if event.__class__ is not dict or not (found is None or found.__class__ is str):
        raise TypeError
    return event, found
