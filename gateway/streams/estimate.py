"""Estimate: how many retained events would pass under one decision and under another, read again with consent as of now.

Of at most `MOST_EVENTS` retained events a dataset, the newest of each partition, that the contract's history lets it see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from datetime import timedelta
from typing import Any

import isodate
import structlog

from consent.index import FOREVER
from gateway.access.lens import Shape, Unfit
from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import steps_of
from gateway.contracts.directory import ContractView
from gateway.database import now
from gateway.errors import ExchangeError
from gateway.streams.blocks import FETCH_BYTES, decode
from gateway.streams.live import Obligations, Streams
from gateway.streams.log import LogUnavailable, OffsetOutOfRange, Record, TopicGone
from gateway.streams.sealing import opening_of
from gateway.streams.views import Allows

log = structlog.get_logger(__name__)

MOST_EVENTS = 100_000
LONGEST_S = 300.0
"""Of reading one dataset; what was read until then is counted."""
LOOKS_AT_ONCE = 400
"""Judgements for which the event loop is held."""
BEAT_S = 0.5
Asked = tuple[ContractView, Obligations | None, Obligations | None]
"""A contract, and the obligations of two decisions about it; None is a refusal, under which nothing passes."""


def count_events(streams: Streams, dataset: DatasetView, asked: Sequence[Asked], tell: Callable[[float], None]) -> list[Mapping[str, Any]]:
    """For each contract {estimate, read, before, after, newly_delivered, withheld}, each count rounded to 10; the log is read once.

    Called from a worker thread, while the event loop runs; `tell` is called there with the share that is done, 0 to 1, and may raise to
    give up. `incomplete` is true where the log could not be read to the end.
    """
    counting = _Counting(streams, dataset, asked)
    whole = dataset.topic_id is None or _on_the_loop(streams, counting, tell)
    return [{"estimate": True, **tally.counts(), **({} if whole else {"incomplete": True})} for tally in counting.of_contracts]


def _on_the_loop(streams: Streams, counting: _Counting, tell: Callable[[float], None]) -> bool:
    if streams.loop is None or streams.loop.is_closed():
        return False
    reading: Future[bool] = asyncio.run_coroutine_threadsafe(counting.read(), streams.loop)
    try:
        while wait_for((reading,), BEAT_S).not_done:
            if streams.loop.is_closed():
                return False
            tell(counting.share)
        return reading.result()
    finally:
        reading.cancel()


class _Tally:
    """What passes under each of two decisions, of events that were appended since then: the same for every contract that asks the same.

    `before` and `after` number the decisions, as `_Counting.passing` finds what passes under them.
    """

    def __init__(self, since_ms: int, before: int, after: int) -> None:
        self.since_ms, self.before, self.after = since_ms, before, after
        self.seen = [0, 0, 0, 0]
        """Events that pass under neither, under the second, under the first, under both."""

    def counts(self) -> dict[str, int]:
        """Rounded to 10: a count of one would say that one person said no."""
        neither, gained, lost, both = self.seen
        found = {"read": neither + gained + lost + both, "before": lost + both, "after": gained + both}
        found |= {"newly_delivered": gained, "withheld": lost}
        return {name: round(value, -1) for name, value in found.items()}


class _Counting:
    """The same events through the lenses of all contracts that are asked for; nothing of them is kept.

    What two contracts have in common is found out once for an event: whom consent lets pass, and what fits a shape.
    """

    def __init__(self, streams: Streams, dataset: DatasetView, asked: Sequence[Asked]) -> None:
        self._streams = streams
        self._dataset = dataset
        self._subject = ("data", *steps_of(dataset.subject_pointer)) if dataset.subject_pointer else None
        self._consents: dict[Allows | None, int] = {}
        self._shapes: dict[bytes, tuple[int, Shape | None]] = {}
        self._sides: dict[tuple[int, int] | None, int] = {None: 0}
        self._tallies: dict[tuple[int, int, int], _Tally] = {}
        self.of_contracts = [self._tally(contract, before, after) for contract, before, after in asked]
        self._part = max(1, LOOKS_AT_ONCE // max(1, len(self._consents) + len(self._tallies)))
        self._read = self._to_read = 0

    @property
    def share(self) -> float:
        """Of what there is to read, what was read."""
        return min(1.0, self._read / self._to_read) if self._to_read else 0.0

    async def read(self) -> bool:
        """Count what is retained; False if the log did not give all of it."""
        try:
            async with asyncio.timeout(LONGEST_S):
                spans = [await self._span(partition) for partition in range(self._dataset.partitions)]
                self._to_read = sum(end - start for start, end in spans)
                for partition, (start, end) in enumerate(spans):
                    await self._read_partition(partition, start, end)
        except (LogUnavailable, TopicGone, OffsetOutOfRange, TimeoutError) as error:
            log.warning("events_not_counted", dataset=self._dataset.slug, reason=type(error).__name__)
            return False
        return True

    async def _span(self, partition: int) -> tuple[int, int]:
        log_, dataset = self._streams.log, self._dataset
        earliest, end = await log_.bounds(dataset.topic, partition)
        visible = await log_.offset_at(dataset.topic, partition, min(tally.since_ms for tally in self.of_contracts))
        return min(end, max(earliest, visible, end - MOST_EVENTS // dataset.partitions)), end

    async def _read_partition(self, partition: int, offset: int, end: int) -> None:
        dataset = self._dataset
        while offset < end:
            fetched = await self._streams.log.fetch(
                dataset.topic, partition, offset, max_bytes=FETCH_BYTES, wait_ms=0, topic_id=dataset.topic_id
            )
            if not fetched.records:
                return
            for start in range(0, len(fetched.records), self._part):
                self._count(fetched.records[start : start + self._part])
                await asyncio.sleep(0)  # the loop has readers to serve
            self._read += fetched.records[-1][0] + 1 - offset
            offset = fetched.records[-1][0] + 1

    def _count(self, records: Sequence[Record]) -> None:
        now_ms = int(now().timestamp() * 1000)
        for _, appended_ms, _, value in records:
            try:
                event, sref = decode(value, self._subject)
            except (ValueError, KeyError, TypeError):
                continue
            passing = self._passing(event, value, sref, appended_ms, now_ms)
            for tally in self._tallies.values():
                if appended_ms >= tally.since_ms:
                    tally.seen[2 * passing[tally.before] + passing[tally.after]] += 1

    def _passing(self, event: dict[str, Any], value: bytes, sref: str | None, appended_ms: int, now_ms: int) -> list[bool]:
        """Whether an event passes under each of the decisions, by their numbers: consent, rows, shape. A rate says when, not whether."""
        if sref in self._streams.secrets.erased:
            return [False] * len(self._sides)
        consents = [allows is None or (sref is not None and allows(sref, appended_ms, now_ms)) for allows in self._consents]
        shapes = [any(consents) and _fits(shape, event, value, appended_ms) for _, shape in self._shapes.values()]
        return [side is not None and consents[side[0]] and shapes[side[1]] for side in self._sides]

    def _tally(self, contract: ContractView, before: Obligations | None, after: Obligations | None) -> _Tally:
        key = (_earliest_ms(contract), self._side(contract, before), self._side(contract, after))
        return self._tallies.setdefault(key, _Tally(*key))

    def _side(self, contract: ContractView, obligations: Obligations | None) -> int:
        """The number of a decision, the same for two that let the same events pass; 0 lets none pass."""
        if obligations is None:
            return 0
        try:
            shape = self._streams.shape(tuple(each for each in obligations if each["kind"] != "rate_limit"), self._dataset)
        except ExchangeError:
            return 0  # an obligation that cannot be carried out means that nothing passes
        opened = opening_of(obligations, self._dataset, self._streams.subject_keys) is not None
        of_consent = self._streams.allows(obligations, self._dataset, contract)
        consent = self._consents.setdefault(of_consent, len(self._consents))
        # What is sealed is opened for nobody here: consent alone decides.
        fit, _ = self._shapes.setdefault(b"" if opened else shape.key, (len(self._shapes), None if opened else shape))
        return self._sides.setdefault((consent, fit), len(self._sides))


def _fits(shape: Shape | None, event: dict[str, Any], value: bytes, appended_ms: int) -> bool:
    try:
        return shape is None or shape.render(event, value, appended_ms) is not None
    except Unfit:
        return False


def _earliest_ms(contract: ContractView) -> int:
    """The append time of the first event that the contract may see, in milliseconds; 0 is all of them."""
    if contract.history == "all":
        return 0
    back = timedelta() if contract.history == "none" else isodate.parse_duration(contract.history)
    return max(0, min(FOREVER, int(contract.valid_from.timestamp() * 1000) - back // timedelta(milliseconds=1)))
