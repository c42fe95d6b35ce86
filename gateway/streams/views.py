"""Views: what one contract sees of a block, judged by consent and rendered by its lens, built once for all its subscribers.

A judgement carries the number of the last forbidding change that it knows and the instant until which it holds. Whoever is about
to write asks `holds` first: a judgement that does not hold is made again, and never sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import anyio.to_thread
from prometheus_client import Counter

from consent.index import FOREVER, ConsentIndex
from consent.sealing import Broken
from consent.subjects import secrets_of
from gateway.access.lens import Lens, Rendered, Shape, Unfit
from gateway.database import Database
from gateway.streams.blocks import Block, Decoded
from gateway.streams.sealing import Opening, unopened

CHUNK_BYTES = 40 * 1024
"""Events are joined to chunks of about this size, so that a subscriber has little unsent that can still be taken back."""
KEPT_JUDGEMENTS = 64

unfit = Counter("exchange_events_unfit_total", "Events that do not fit a lens and are not delivered.", ["dataset"])
withheld = Counter("exchange_events_withheld_total", "Events that consent or a row filter held back.", ["dataset"])
SEALED: Rendered = (b"", None, -1)
"""Stands where a record is not rendered yet: it is opened once somebody may see it."""

Chunk = tuple[bytes, int, int]
"""Joined frames: (text, index of the first, index after the last)."""
Allows = Callable[[str, int, int], bool]


@dataclass(frozen=True, slots=True)
class Judged:
    """What may leave of a block: `frames` are whole events, `offsets` where each stands; positions up to `next` are examined."""

    block: Block
    frames: Sequence[bytes]
    offsets: Sequence[int]
    next: int
    size: int
    """Bytes of all frames."""
    stamp: int
    """The number of the last forbidding change that it knows."""
    until_ms: int
    srefs: Sequence[str | None] = ()
    """Whose event each frame is; empty where events are about nobody."""
    joined: dict[bytes, list[Chunk]] = field(default_factory=dict)


class SubjectSecrets:
    """The secrets that pseudonyms are made from, by `sref`: loaded once, a block's worth at a time. Those of `erased` are gone."""

    def __init__(self, database: Database, erased: AbstractSet[str] = frozenset()) -> None:
        self._database = database
        self.erased = erased
        self.known: dict[str, bytes] = {}

    async def load(self, srefs: Iterable[str]) -> None:
        """Have the secrets of these subjects in `known`, where they exist. Raises `database_unavailable`."""
        missing = [sref for sref in srefs if sref not in self.known]
        if missing:
            found = await anyio.to_thread.run_sync(self._read, missing)
            if len(self.known) > 1_000_000:
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
        opening: Opening | None = None,
    ) -> None:
        self._dataset = dataset
        self._consents = consents
        self.lens = lens
        self._allows = allows
        self._secrets = secrets
        self._stamp = stamp
        self._opening = opening
        self._judged: OrderedDict[tuple[int, int], Judged] = OrderedDict()

    def is_current(self, stamp: int) -> bool:
        """True if no forbidding change was applied since `stamp`."""
        return stamp == self._stamp.value

    def holds(self, judged: Judged, now_ms: int) -> bool:
        """True if nothing that was decided since forbids what was judged."""
        return judged.stamp == self._stamp.value and now_ms < judged.until_ms

    async def judge(self, block: Block, start: int, now_ms: int) -> Judged:
        """Judge the block's records from offset `start`. Raises `database_unavailable`."""
        kept = self._judged.get((id(block), start))
        if kept is not None and kept.block is block and self.holds(kept, now_ms):
            return kept
        shape = self.lens.shape
        if shape.pseudonymises:
            await self._secrets.load({record.sref for record in block.records if record.sref is not None})
        closed = await self._open(self._opening, block, start, now_ms) if self._opening is not None else 0
        # From here on nothing is awaited: what was opened stands in the block until it is judged.
        judged = self._judge(block, start, now_ms)
        if closed:
            return judged  # and not kept: a key-encryption key may come back
        self._judged[id(block), start] = judged
        if len(self._judged) > KEPT_JUDGEMENTS:
            self._judged.popitem(last=False)
        return judged

    def forget(self) -> None:
        """Drop what was made of events: frames and pseudonyms."""
        self._judged.clear()
        self.lens.forget()

    def _passes(self, record: Decoded, now_ms: int) -> bool:
        sref, allows = record.sref, self._allows
        return sref not in self._secrets.erased and (allows is None or (sref is not None and allows(sref, record.appended_ms, now_ms)))

    async def _open(self, opening: Opening, block: Block, start: int, now_ms: int) -> int:
        """Render the block's records whose sealed fields somebody may see now; how many do not open, and stay sealed."""
        keys = await opening.keys_for(record for record in block.records if self._passes(record, now_ms))
        rendered = _shaped(block, self.lens.shape, self._dataset, opening)
        closed = bad = 0
        for index in range(block.index_of(start), len(block.records)):
            record = block.records[index]
            if rendered[index] is not SEALED or not self._passes(record, now_ms):
                continue
            try:
                rendered[index] = opening.render(self.lens.shape, record, keys)
            except Broken:
                closed += 1
            except Unfit:
                rendered[index] = None
                bad += 1
        if closed:
            unopened.labels(self._dataset).inc(closed)
        if bad:
            unfit.labels(self._dataset).inc(bad)
        return closed

    def _judge(self, block: Block, start: int, now_ms: int) -> Judged:
        # The stamp is read before consent is: a change that comes between is then judged again, not missed.
        stamp = self._stamp.value
        rendered = _shaped(block, self.lens.shape, self._dataset, self._opening)
        fill, allows, secrets, erased = self.lens.fill, self._allows, self._secrets.known, self._secrets.erased
        frames: list[bytes] = []
        offsets: list[int] = []
        srefs: list[str | None] = []
        held_back = bad = 0
        for index in range(block.index_of(start), len(block.records)):
            record, parts = block.records[index], rendered[index]
            if parts is None:
                continue
            sref = record.sref
            if sref in erased or (allows is not None and (sref is None or not allows(sref, record.appended_ms, now_ms))):
                held_back += 1
                continue
            if parts is SEALED:
                continue
            try:
                frames.append(fill(parts, sref, secrets))
            except Unfit:
                bad += 1
                continue
            offsets.append(record.offset)
            srefs.append(sref)
        if held_back:
            withheld.labels(self._dataset).inc(held_back)
        if bad:
            unfit.labels(self._dataset).inc(bad)
        until_ms = self._consents.next_instant(now_ms) if allows is not None else FOREVER
        return Judged(block, frames, offsets, block.next, sum(map(len, frames)), stamp, until_ms, srefs if any(srefs) else ())


def _shaped(block: Block, shape: Shape, dataset: str, opening: Opening | None) -> list[Rendered | None]:
    """The block's records as this shape renders them, kept with the block for every contract that has the shape.

    Where fields must be opened for it, each is rendered once somebody may see it, and stands as `SEALED` until then.
    """
    key = shape.key if opening is None else shape.key + opening.key
    made = block.shapes.get(key)
    if made is not None:
        return made
    if opening is not None:
        return block.keep_shape(key, [SEALED] * len(block.records))
    made, bad = [], 0
    for record in block.records:
        try:
            made.append(shape.render(record.event, record.value, record.appended_ms))
        except Unfit:
            bad += 1
            made.append(None)
    if bad:
        unfit.labels(dataset).inc(bad)
    return block.keep_shape(key, made)


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
