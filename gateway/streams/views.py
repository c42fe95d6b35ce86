"""Views: what one contract sees of a block, judged by consent and rendered by its lens, built once for all its subscribers.

A judgement carries the number of the last forbidding change that it knows and the instant until which it holds. Whoever is about
to write asks `holds` first: a judgement that does not hold is made again, and never sent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import ref as weakref

import anyio.to_thread
from prometheus_client import Counter

from consent.index import FOREVER, ConsentIndex, DoubtView
from consent.sealing import Broken, KeyAway
from consent.subjects import secrets_of
from gateway.access.lens import Lens, Rendered, Shape, Unfit
from gateway.database import Database
from gateway.streams.blocks import Block, decode, undecodable
from gateway.streams.sealing import Opening
from gateway.streams.shared import Shared

CHUNK_BYTES = 40 * 1024
"""Events are joined to chunks of about this size, so that a subscriber has little unsent that can still be taken back."""
KEPT_SHAPES = 8
KEPT_SECRETS = 1_000_000

unfit = Counter("exchange_events_unfit_total", "Events that do not fit a lens and are not delivered.", ["dataset"])
withheld = Counter("exchange_events_withheld_total", "Events that consent or a row filter held back.", ["dataset"])
_SEALED, _HIDDEN, _BROKEN = -1, -2, -3
"""In place of an epoch: the record stands as it is stored until somebody may see it opened; it was opened, and is not for this shape;
it will never open."""
AWAY_MS = 1000
"""For so long a judgement holds that ends before an event whose key-encryption key is away: then the key is looked for again."""

Chunk = tuple[bytes, int, int]
"""Joined frames: (text, index of the first, index after the last)."""
Row = tuple[int, int, str | None, Rendered]
"""A record that a shape lets pass: (offset, time of append in milliseconds, sref, what the shape made of it)."""
Shaped = tuple[list[Row], frozenset[str]]
"""The rows of a block, and the subjects that they are about."""
Allows = Callable[[str, int, int], bool]


@dataclass(frozen=True, slots=True)
class Judged:
    """What may leave of a block: `frames` are whole events, `offsets` where each stands; positions up to `next` are examined."""

    block: weakref[Block]
    """Of what it is: a judgement keeps no block in memory."""
    partition: int
    frames: Sequence[bytes]
    offsets: Sequence[int]
    next: int
    """The block's end, or an event before it that does not open now, and may later: nobody passes that."""
    size: int
    """Bytes of all frames."""
    stamp: int
    """The number of the last forbidding change that it knows."""
    until_ms: int
    srefs: Sequence[str | None] = ()
    """Whose event each frame is; empty where events are about nobody."""
    unopened: Sequence[int] = ()
    """Where events stand that would pass and will never open."""
    joined: dict[bytes, list[Chunk]] = field(default_factory=dict)

    @property
    def memory(self) -> int:
        """About the bytes that it takes: its frames, one by one and joined once, and 150 bytes of objects for each."""
        return 2 * self.size + 150 * len(self.frames) + 500


class Judgements:
    """The judgements of all views, `most_bytes` of them at most: those that nobody has asked for the longest go first."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        # The view itself is in the key: its number could be another's, once it is gone.
        self._kept: OrderedDict[tuple[View, int, int], Judged] = OrderedDict()

    def get(self, view: View, block: Block, start: int) -> Judged | None:
        """What this view made of the block from offset `start` on."""
        key = (view, id(block), start)
        found = self._kept.get(key)
        if found is None or found.block() is not block:
            return None
        self._kept.move_to_end(key)
        return found

    def keep(self, view: View, block: Block, start: int, judged: Judged) -> None:
        key = (view, id(block), start)
        before = self._kept.pop(key, None)
        self._held += judged.memory - (before.memory if before else 0)
        self._kept[key] = judged
        while self._held > self._most and len(self._kept) > 1:
            self._held -= self._kept.popitem(last=False)[1].memory

    def clear(self) -> None:
        self._kept.clear()
        self._held = 0


class SubjectSecrets:
    """The secrets that pseudonyms are made from, by `sref`: loaded once, a block's worth at a time. Those of `erased` are gone."""

    def __init__(self, database: Database, erased: AbstractSet[str] = frozenset(), most: int = KEPT_SECRETS) -> None:
        self._database = database
        self._most = most
        self.erased = erased
        self.known: dict[str, bytes] = {}
        self._reading = Shared[frozenset[str], dict[str, bytes]]()

    async def load(self, srefs: Collection[str]) -> None:
        """Have the secrets of these subjects in `known`, where they exist. Raises `database_unavailable`."""
        asked: set[str] = set()
        found: dict[str, bytes] = {}
        # Again, because whoever makes room, we or another while we read, drops some that were there.
        while missing := [sref for sref in srefs if sref not in self.known and sref not in asked]:
            asked.update(missing)
            # A hundred streams that come to the events of somebody new would take every thread to ask the same.
            found |= await self._reading.ask(frozenset(missing), partial(anyio.to_thread.run_sync, self._read, missing))
            if len(self.known) > self._most:
                self.known.clear()
            # Whoever was erased while we read stays forgotten.
            self.known.update({sref: secret for sref, secret in found.items() if sref not in self.erased})

    def forget(self, srefs: AbstractSet[str]) -> None:
        """Drop the secrets of these subjects."""
        for sref in srefs:
            self.known.pop(sref, None)

    def _read(self, srefs: list[str]) -> dict[str, bytes]:
        with self._database.reading() as session:
            return secrets_of(session, srefs)


class Stamp:
    """The number of the last forbidding change that this process has applied: what was judged before it must be judged again.

    0 stands for whatever was in force when the process loaded its state.
    """

    def __init__(self) -> None:
        self.value = 0

    def advance(self, number: int) -> None:
        """Every cache has applied this change. Called in the order of the changes, one at a time."""
        self.value = number


class View:
    """A lens, and whose events may pass through it."""

    def __init__(
        self,
        dataset: str,
        lens: Lens,
        allows: Allows | None,
        consents: ConsentIndex,
        secrets: SubjectSecrets,
        stamp: Stamp,
        judgements: Judgements,
        opening: Opening | None = None,
        doubts: DoubtView | None = None,
    ) -> None:
        self._dataset = dataset
        self._consents = consents
        self.lens = lens
        self._allows = allows
        self._secrets = secrets
        self._stamp = stamp
        self._judgements = judgements
        self._opening = opening
        self._doubts = doubts

    def is_current(self, stamp: int) -> bool:
        """True if no forbidding change was applied since `stamp`."""
        return stamp == self._stamp.value

    def holds(self, judged: Judged, now_ms: int) -> bool:
        """True if nothing that was decided since forbids what was judged."""
        return judged.stamp == self._stamp.value and now_ms < judged.until_ms

    async def judge(self, block: Block, start: int, now_ms: int) -> Judged:
        """Judge the block's records from offset `start`. Raises `database_unavailable`."""
        kept = self._judgements.get(self, block, start)
        if kept is not None and self.holds(kept, now_ms):
            return kept
        # These rows are judged, even if they are dropped from the block while we wait for secrets and keys.
        rows, srefs = _shaped(block, self.lens.shape, self._dataset, self._opening)
        place = 0 if start <= block.first else bisect_left(rows, start, key=lambda row: row[0])
        # The stamp is read before consent is, and before we wait: a change that comes since is then judged again, not missed.
        stamp = self._stamp.value
        end = await self._open(self._opening, block, rows, place, now_ms) if self._opening is not None else len(rows)
        if self.lens.shape.pseudonymises:  # last, for what it loads others may drop while one waits
            await self._secrets.load(srefs)
        shown = rows if place == 0 and end == len(rows) else rows[place:end]
        if shown is not rows:
            srefs = frozenset(row[2] for row in shown if row[2] is not None)
        judged = self._judge(block, shown, srefs, stamp, now_ms)
        if end < len(rows):
            judged = replace(judged, next=rows[end][0], until_ms=min(judged.until_ms, now_ms + AWAY_MS))
        self._judgements.keep(self, block, start, judged)
        return judged

    def lets_pass(self, sref: str | None, appended_ms: int, now_ms: int) -> bool:
        """Whether consent lets an event of this subject pass now, that was appended then."""
        allows = self._allows
        return sref not in self._secrets.erased and (allows is None or (sref is not None and allows(sref, appended_ms, now_ms)))

    async def _open(self, opening: Opening, block: Block, rows: list[Row], place: int, now_ms: int) -> int:
        """Render the rows from `place` on whose sealed fields somebody may see now.

        The place after the last of them: before the first whose key-encryption key is away, else the end. Raises `database_unavailable`.
        """
        sealed = (
            index
            for index in range(place, len(rows))
            if rows[index][3][2] == _SEALED and self.lets_pass(rows[index][2], rows[index][1], now_ms)
        )
        wanted: list[tuple[int, dict[str, Any], str | None]] = [(index, *decode(rows[index][3][0], block.subject)) for index in sealed]
        keys = await opening.keys_for((event, sref) for _, event, sref in wanted)
        bad, end = 0, len(rows)
        for index, event, sref in wanted:
            offset, appended_ms, _, (value, _, mark) = rows[index]
            if mark != _SEALED:
                continue  # another view of this shape has opened it meanwhile
            made: Rendered | None = None
            try:
                made = opening.render(self.lens.shape, event, value, sref, appended_ms, keys)
            except KeyAway:
                end = index
                break
            except Broken:
                made = (b"", None, _BROKEN)
            except Unfit:
                bad += 1
            rows[index] = (offset, appended_ms, sref, made or (b"", None, _HIDDEN))
        if bad:
            unfit.labels(self._dataset).inc(bad)
        return end

    def _judge(self, block: Block, rows: list[Row], about: frozenset[str], stamp: int, now_ms: int) -> Judged:
        fill, allows, secrets, erased = self.lens.fill, self._allows, self._secrets.known, self._secrets.erased
        frames: list[bytes] = []
        offsets: list[int] = []
        srefs: list[str | None] = []
        unopened: list[int] = []
        held_back = bad = 0
        doubtful, since_ms = self._doubts(about, now_ms) if self._doubts is not None else (about, FOREVER)
        for offset, appended_ms, sref, parts in rows:
            if sref in erased or (
                allows is not None
                and (sref is None or ((sref in doubtful or appended_ms < since_ms) and not allows(sref, appended_ms, now_ms)))
            ):
                held_back += 1
                continue
            if parts[2] < 0:
                if parts[2] == _BROKEN:
                    unopened.append(offset)
                continue
            try:
                frames.append(fill(parts, sref, secrets))
            except Unfit:
                bad += 1
                continue
            offsets.append(offset)
            srefs.append(sref)
        if held_back:
            withheld.labels(self._dataset).inc(held_back)
        if bad:
            unfit.labels(self._dataset).inc(bad)
        until_ms = self._consents.next_instant(now_ms) if allows is not None else FOREVER
        size = sum(map(len, frames))
        shown = srefs if any(srefs) else ()
        return Judged(weakref(block), block.partition, frames, offsets, block.next, size, stamp, until_ms, shown, unopened)


def _shaped(block: Block, shape: Shape, dataset: str, opening: Opening | None) -> Shaped:
    """The block's records as this shape renders them, kept with the block for every contract that has the shape.

    A record is decoded here, once for a shape, and its decoded form let go at once: keeping it costs more than decoding it again
    for the second shape that a dataset seldom has. Where fields must be opened for the shape, a record stands as it is stored until
    somebody may see it.
    """
    shape_key = shape.key if opening is None else shape.key + opening.key
    made: Shaped | None = block.shapes.get(shape_key)
    if made is not None:
        return made
    rows: list[Row] = []
    bad = ill = 0
    add, render, subject = rows.append, shape.render, block.subject
    for offset, appended_ms, _key, value in block.records:
        try:
            event, sref = decode(value, subject)
        except (ValueError, KeyError, TypeError):
            ill += 1
            continue
        try:
            rendered = render(event, value, appended_ms) if opening is None else (value, None, _SEALED)
        except Unfit:
            bad += 1
            continue
        if rendered is not None:
            add((offset, appended_ms, sref, rendered))
    if bad:
        unfit.labels(dataset).inc(bad)
    if ill:
        undecodable.labels(dataset).inc(ill)
    if len(block.shapes) >= KEPT_SHAPES:
        block.shapes.clear()
    made = block.shapes[shape_key] = (rows, frozenset(row[2] for row in rows if row[2] is not None))
    return made


def chunks(judged: Judged, before: bytes, between: bytes, count: int) -> list[Chunk]:
    """The first `count` frames joined to chunks. `before` starts a frame, `between` parts two.

    A text ends without `between`, so that its last event can carry a cursor. All frames of a judgement are joined once per format.
    """
    if count < len(judged.frames):
        return _join(judged.frames[:count], before, between)
    made = judged.joined.get(before)
    if made is None:
        made = judged.joined[before] = _join(judged.frames, before, between)
    return made


def _join(frames: Sequence[bytes], before: bytes, between: bytes) -> list[Chunk]:
    made: list[Chunk] = []
    first = size = 0
    joint = between + before
    for index, frame in enumerate(frames):
        if size and size + len(frame) > CHUNK_BYTES:
            made.append((before + joint.join(frames[first:index]), first, index))
            first, size = index, 0
        size += len(frame)
    if frames:
        made.append((before + joint.join(frames[first:]), first, len(frames)))
    return made
