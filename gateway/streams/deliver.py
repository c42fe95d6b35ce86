"""Deliver: from a reading's offsets to a flush, which is what may leave next, with its release in the audit log.

A flush is judged, then released, then written. Whoever writes it asks `flush.holds()` with nothing awaited between the answer and
the write: what a change has forbidden since is judged again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from prometheus_client import Counter

from consent.index import FOREVER
from gateway.access.decision import Decision
from gateway.audit.record import Entry, Ranges, Receipt
from gateway.audit.release import Outdated
from gateway.catalog.directory import DatasetView
from gateway.errors import ExchangeError
from gateway.streams.blocks import BLOCK_EVENTS, Block
from gateway.streams.disclosed import Under
from gateway.streams.log import OffsetOutOfRange, TopicGone
from gateway.streams.reading import Permit, Reading
from gateway.streams.sealing import unopened
from gateway.streams.views import Judged

FLUSH_BYTES = 4 * 1024 * 1024
"""The most bytes of one flush, and of what leaves under one grant."""
GRANT_S = 1.0
"""Seconds for which a stream may begin flushes under one grant, so that it writes an entry a second at most while little comes."""

delivered = Counter("exchange_events_delivered_total", "Events that left, by dataset.", ["dataset"])
delivered_bytes = Counter("exchange_delivered_bytes_total", "Bytes of events that left, by dataset.", ["dataset"])


@dataclass(slots=True)
class Part:
    """The first `count` frames of a judgement of one partition, examined from offset `start` to `next`."""

    block: Block
    judged: Judged
    count: int
    start: int
    next: int

    @property
    def partition(self) -> int:
        return self.judged.partition

    @property
    def frames(self) -> Sequence[bytes]:
        whole = self.count == len(self.judged.frames)
        return self.judged.frames if whole else self.judged.frames[: self.count]

    def size(self) -> int:
        """Bytes of its events."""
        return self.judged.size if self.count == len(self.judged.frames) else sum(map(len, self.frames))


@dataclass(slots=True)
class Closed:
    """What left under a grant: the last position by partition, events, and bytes of events."""

    last: dict[int, int] = field(default_factory=dict)
    events: int = 0
    size: int = 0


@dataclass(slots=True)
class Flush:
    """What may leave next. `receipt` is None while it is not released, which it need not be if it has no events."""

    permit: Permit
    parts: list[Part]
    stamp: int
    """The number of the last forbidding change that permit and judgements know."""
    until_ms: int = FOREVER
    """When the first of its judgements ends, in milliseconds since 1970."""
    receipt: Receipt | None = None
    awaits_key: bool = False
    """True if it ends before an event whose key-encryption key is away: what comes after it waits for that."""

    @property
    def events(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def last_with_events(self) -> Part | None:
        """The part whose last event ends the flush."""
        return next((part for part in reversed(self.parts) if part.count), None)

    def size(self) -> int:
        """Bytes of its events."""
        return sum(part.size() for part in self.parts)

    def holds(self) -> bool:
        """True if nothing that was decided since it was judged forbids it."""
        return self.permit.view.is_current(self.stamp) and time.time_ns() // 1_000_000 < self.until_ms

    def whole(self) -> Closed:
        """The account of a flush that leaves at once and whole, as a page does."""
        last = {part.partition: part.judged.offsets[part.count - 1] for part in self.parts if part.count}
        return Closed(last, self.events, self.size())

    def spans(self) -> dict[int, tuple[int, int]]:
        """By partition, the positions that it covers: (first, the one after the last)."""
        spans: dict[int, tuple[int, int]] = {}
        for part in self.parts:
            spans[part.partition] = (spans.get(part.partition, (part.start, 0))[0], part.next)
        return spans


@dataclass(slots=True)
class Grant:
    """What a stream may send by one entry of the log: positions (first, the one after the last) by partition, under one decision and
    what was known then. They may lie past the log's end: what comes there within `GRANT_S` leaves without an entry of its own.
    """

    receipt: Receipt
    decision: str
    stamp: int
    spans: dict[int, tuple[int, int]]
    until: float
    """By `time.monotonic`."""
    closed: Closed = field(default_factory=Closed)
    """What has left under it, for the entry that closes it."""
    events: int = 0
    """That were to leave under it, whether they did or not."""
    size: int = 0

    def takes(self, flush: Flush) -> bool:
        """True if this flush may leave under it too, and is counted; a change or another decision ends it."""
        if (flush.permit.decision.id, flush.stamp) != (self.decision, self.stamp) or time.monotonic() >= self.until:
            return False
        events, size = self.events + flush.events, self.size + flush.size()
        within = all(_lies_in(span, self.spans.get(partition)) for partition, span in flush.spans().items())
        if not within or events > BLOCK_EVENTS or size > FLUSH_BYTES:
            return False
        self.events, self.size = events, size
        flush.receipt = self.receipt
        return True


def _lies_in(span: tuple[int, int], granted: tuple[int, int] | None) -> bool:
    return granted is not None and granted[0] <= span[0] and span[1] <= granted[1]


async def judge_next(reading: Reading, *, most_events: int = BLOCK_EVENTS, most_bytes: int = FLUSH_BYTES, will_wait: bool = False) -> Flush:
    """The next flush from where `reading` stands, judged and not released; without parts if there is nothing to examine.

    Who `will_wait` for more does not ask the log for what a fetch waits for already; the others find what was there when they asked.
    Raises the problems of `Reading.permit`, `cursor_expired`, `log_went_back`, `log_unavailable`.
    """
    # (1) the contract is in force and (2) policy allows it: the decision in memory, or a new one
    # The stamp is read first: a change that comes while this waits, for the decision or the log, makes all of it be judged again.
    stamp = reading.streams.stamp.value
    permit = await reading.permit()
    if permit.bucket is not None:
        most_events = min(most_events, permit.bucket.available())
    flush = Flush(permit, [], stamp)
    dataset = reading.dataset
    examined = events = size = 0
    offsets = dict(reading.offsets)
    for partition in reading.in_turn():
        while examined < BLOCK_EVENTS and events < most_events and size < most_bytes:
            # (3) the log, by the block that every subscriber shares
            offset = offsets[partition]
            block = await _block_at(reading, dataset, partition, offset, will_wait=will_wait)
            if block is None:
                break
            if examined and examined + block.next - offset > BLOCK_EVENTS:
                return flush  # what is judged and joined once is of whole blocks
            # (4) consent and (5) the lens
            judged = await permit.view.judge(block, offset, time.time_ns() // 1_000_000)
            if judged.next == offset:
                flush.awaits_key = True
                break
            part = _cut(block, judged, offset, most_events - events, most_bytes - size)
            flush.parts.append(part)
            flush.until_ms = min(flush.until_ms, judged.until_ms)
            offsets[partition] = part.next
            examined += part.next - offset
            events += part.count
            size += part.size()
    return flush


async def _block_at(reading: Reading, dataset: DatasetView, partition: int, offset: int, *, will_wait: bool) -> Block | None:
    """The block that holds `offset`; None at the end, or if who `will_wait` need not ask.

    Raises `cursor_expired`, `log_went_back`, `log_unavailable`.
    """
    if will_wait and reading.streams.blocks.is_awaited(dataset, partition, offset):
        return None
    try:
        return await reading.streams.blocks.at(dataset, partition, offset, 0)
    except OffsetOutOfRange as error:
        raise await reading.lost_its_place(error, offset) from error
    except TopicGone as error:
        raise ExchangeError("cursor_expired") from error


async def judge_again(reading: Reading, flush: Flush) -> bool:
    """Judge a flush again that is on its way out and does not hold any more.

    True if each of its events may leave as it stands: it then knows what was decided since. Without an answer it is no.
    """
    stamp = reading.streams.stamp.value
    try:
        permit = await reading.permit()
        fresh = [await permit.view.judge(part.block, part.start, time.time_ns() // 1_000_000) for part in flush.parts]
    except ExchangeError:
        return False
    if not all(_still_has(judged, part) for judged, part in zip(fresh, flush.parts, strict=True)):
        return False
    flush.permit, flush.stamp = permit, stamp
    flush.until_ms = min(judged.until_ms for judged in fresh)
    return True


def _still_has(judged: Judged, part: Part) -> bool:
    """True if a new judgement has every event of the part, byte for byte; it may have more."""
    found = dict(zip(judged.offsets, judged.frames, strict=True))
    return all(found.get(offset) == frame for offset, frame in zip(part.judged.offsets, part.frames, strict=False))


async def take_grant(reading: Reading, flush: Flush, closes: Closed | None) -> Grant | None:
    """`release` for a stream: the grant has room for what may come behind the flush. None if the flush is to be judged anew."""
    room = BLOCK_EVENTS - sum(part.next - part.start for part in flush.parts)
    spans = flush.spans()
    if room > 0:
        beginnings = {partition: (reading.offsets[partition], reading.offsets[partition]) for partition in reading.partitions}
        spans = {partition: (first, after + room) for partition, (first, after) in (beginnings | spans).items()}
    until = time.monotonic() + GRANT_S
    receipt = await release(reading, flush, spans, closes)
    if receipt is None:
        return None
    return Grant(receipt, flush.permit.decision.id, flush.stamp, spans, until, events=flush.events, size=flush.size())


async def release(reading: Reading, flush: Flush, spans: dict[int, tuple[int, int]], closes: Closed | None) -> Receipt | None:
    """(6) Write the flush's release; durable on return. None if it does not hold any more: nothing is written, it is to be judged anew.

    `spans` are the positions that it grants, by partition. `closes` is what the grant before really let out, for a stream; a page closes
    its own grant at once. Raises `audit_unavailable`.
    """
    if not flush.holds():
        return None
    # What it knows: the changes that are applied, and the one that its judgement is of, which may just be being applied.
    change = max(reading.streams.changes.applied, flush.stamp)
    try:
        flush.receipt = await reading.streams.audit.release(_entry(reading, flush.permit.decision, spans, closes, change))
    except Outdated:
        return None
    return flush.receipt


async def close(reading: Reading, closes: Closed) -> None:
    """Close a stream's last grant without opening another. If the log is away the grant stays open, which counts as delivered."""
    decision = reading.last_decision
    if decision is not None:
        with suppress(ExchangeError):
            await reading.streams.audit.release(_entry(reading, decision, {}, closes, reading.streams.changes.applied))


def _entry(reading: Reading, decision: Decision, grant: dict[int, tuple[int, int]], closes: Closed | None, change: int) -> Entry:
    contract, caller = reading.contract, reading.caller
    return Entry(
        kind="release",
        action="receive",
        actor=caller.actor if caller else None,
        organization=caller.organization_id if caller else None,
        dataset=reading.slug,
        contract=reading.contract_id,
        purpose=contract.purpose if contract else None,
        decision=decision.id,
        revision=decision.revision,
        change=change,
        ranges=Ranges(grant, closes.last if closes else {}),
        closed=(closes.events, closes.size) if closes else None,
        provider=contract.provider_id if contract else reading.owner_id,
        consumer=contract.consumer_id if contract else None,
    )


def pass_over(reading: Reading, flush: Flush) -> None:
    """Stand after all that the flush has examined."""
    for part in flush.parts:
        move_on(reading, part, part.next)


def move_on(reading: Reading, part: Part, offset: int) -> None:
    """Stand at this offset of the part's partition: what lies before it is decided."""
    before = reading.offsets[part.partition]
    reading.offsets[part.partition] = offset
    if part.judged.unopened and (passed := sum(before <= position < offset for position in part.judged.unopened)):
        unopened.labels(reading.slug).inc(passed)


def count_delivered(reading: Reading, events: int, size: int) -> None:
    """Metrics."""
    delivered.labels(reading.slug).inc(events)
    delivered_bytes.labels(reading.slug).inc(size)


def count_disclosed(reading: Reading, permit: Permit, part: Part, first: int, last: int) -> None:
    """The part's frames from place `first` up to, and without, `last` are written: whose events they were."""
    if part.judged.srefs and last > first:
        contract = reading.contract
        under = Under(reading.contract_id or "", reading.slug, contract.purpose if contract else "", permit.decision.id)
        reading.streams.disclosures.count(under, part.judged.srefs, first, last)


async def wait_for_more(reading: Reading, seconds: float, change: asyncio.Event, gone: asyncio.Future[None] | None = None) -> bool:
    """Wait until a partition has something new, `change` is set or the subscriber is `gone`; False if none came within `seconds`.

    Raises `log_unavailable`.
    """
    streams, dataset = reading.streams, reading.dataset
    milliseconds = max(1, int(seconds * 1000))
    waiting = {
        asyncio.ensure_future(streams.blocks.at(dataset, partition, reading.offsets[partition], milliseconds))
        for partition in reading.partitions
    }
    changed = asyncio.ensure_future(change.wait())
    try:
        others = {changed, gone} if gone is not None else {changed}
        done, _ = await asyncio.wait({*waiting, *others}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done & waiting:
            error = task.exception()
            if error is not None and not isinstance(error, (OffsetOutOfRange, TopicGone)):
                raise error
        return bool(done)
    finally:
        for task in (*waiting, changed):
            task.cancel()
        await asyncio.gather(*waiting, changed, return_exceptions=True)


def _cut(block: Block, judged: Judged, start: int, most_events: int, most_bytes: int) -> Part:
    """As many frames as fit, at least one; what lies between the last of them and the next frame is examined with them."""
    frames = judged.frames
    if len(frames) <= most_events and judged.size <= most_bytes:
        return Part(block, judged, len(frames), start, judged.next)
    size = count = 0
    for frame in frames:
        if count and (count >= most_events or size + len(frame) > most_bytes):
            break
        size += len(frame)
        count += 1
    return Part(block, judged, count, start, judged.next if count == len(frames) else judged.offsets[count])
