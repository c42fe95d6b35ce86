"""Estimate: how many retained events would pass under one decision and under another, read again with consent as of now.

Of at most `MOST_EVENTS` retained events a dataset, the newest of each partition, that the contract's history lets it see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import isodate
import structlog

from consent.index import FOREVER
from gateway.access.decision import Decision
from gateway.access.lens import Unfit
from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import steps_of
from gateway.contracts.directory import ContractView
from gateway.database import new_id, now
from gateway.errors import ExchangeError
from gateway.streams.blocks import FETCH_BYTES, decode
from gateway.streams.live import Streams
from gateway.streams.log import LogUnavailable, OffsetOutOfRange, Record, TopicGone
from gateway.streams.sealing import opening_of

log = structlog.get_logger(__name__)

Obligations = tuple[dict[str, Any], ...]
Passes = Callable[[dict[str, Any], bytes, str | None, int, int], bool]
MOST_EVENTS = 100_000
LONGEST_S = 60.0
"""Of reading one dataset; what was read until then is counted."""
MOST_CONTRACTS = 50
"""Of one dataset, at once: each event is judged for all of them."""
LOOKS_AT_ONCE = 400
"""Judgements for which the event loop is held."""
Asked = tuple[ContractView, Obligations | None, Obligations | None]
"""A contract, and the obligations of two decisions about it; None is a refusal, under which nothing passes."""


def count_events(streams: Streams, dataset: DatasetView, asked: Sequence[Asked]) -> list[Mapping[str, Any]]:
    """For each contract {estimate, read, before, after, newly_delivered, withheld}, each count rounded to 10; the log is read once.

    Called from a worker thread, while the event loop runs. `incomplete` is true where the log could not be read to the end;
    of contracts beyond `MOST_CONTRACTS` nothing is counted, and {estimate, not_counted} says so.
    """
    counting = _Counting(streams, dataset, asked[:MOST_CONTRACTS])
    whole = dataset.topic_id is None or _on_the_loop(streams, counting)
    told: list[Mapping[str, Any]] = [
        {"estimate": True, **each.counts(), **({} if whole else {"incomplete": True})} for each in counting.sides
    ]
    return told + [{"estimate": True, "not_counted": True}] * (len(asked) - len(told))


def _on_the_loop(streams: Streams, counting: _Counting) -> bool:
    if streams.loop is None or streams.loop.is_closed():
        return False
    reading = asyncio.run_coroutine_threadsafe(counting.read(), streams.loop)
    try:
        return reading.result(LONGEST_S + 5)
    except TimeoutError:
        reading.cancel()
        return False


def _nothing(_event: dict[str, Any], _value: bytes, _sref: str | None, _appended_ms: int, _now_ms: int) -> bool:
    return False


class _Sides:
    """One contract: what passes under each of its two decisions, of events that it may see."""

    def __init__(self, contract: ContractView, since_ms: int) -> None:
        self.contract = contract
        self.since_ms = since_ms
        self.passes: tuple[Passes, Passes] = (_nothing, _nothing)
        self._read = self._before = self._after = self._gained = self._lost = 0

    def count(self, event: dict[str, Any], value: bytes, sref: str | None, appended_ms: int, now_ms: int) -> None:
        """Count one event."""
        if appended_ms < self.since_ms:
            return
        one, other = (side(event, value, sref, appended_ms, now_ms) for side in self.passes)
        self._read += 1
        self._before += one
        self._after += other
        self._gained += other and not one
        self._lost += one and not other

    def counts(self) -> dict[str, int]:
        """Rounded to 10: a count of one would say that one person said no."""
        found = {"read": self._read, "before": self._before, "after": self._after, "newly_delivered": self._gained, "withheld": self._lost}
        return {name: round(value, -1) for name, value in found.items()}


class _Counting:
    """The same events through the lenses of all contracts that are asked for; nothing of them is kept."""

    def __init__(self, streams: Streams, dataset: DatasetView, asked: Sequence[Asked]) -> None:
        self._streams = streams
        self._dataset = dataset
        self._asked = asked
        self.sides = [_Sides(contract, _earliest_ms(contract)) for contract, _, _ in asked]
        self._part = max(1, LOOKS_AT_ONCE // max(1, len(asked)))

    async def read(self) -> bool:
        """Count what is retained; False if the log did not give all of it."""
        for side, (contract, before, after) in zip(self.sides, self._asked, strict=True):
            side.passes = (self._passes(contract, before), self._passes(contract, after))
        try:
            async with asyncio.timeout(LONGEST_S):
                for partition in range(self._dataset.partitions):
                    await self._read_partition(partition)
        except (LogUnavailable, TopicGone, OffsetOutOfRange, TimeoutError) as error:
            log.warning("events_not_counted", dataset=self._dataset.slug, reason=type(error).__name__)
            return False
        return True

    async def _read_partition(self, partition: int) -> None:
        log_, dataset = self._streams.log, self._dataset
        earliest, end = await log_.bounds(dataset.topic, partition)
        visible = await log_.offset_at(dataset.topic, partition, min(side.since_ms for side in self.sides))
        offset = max(earliest, visible, end - MOST_EVENTS // dataset.partitions)
        while offset < end:
            fetched = await log_.fetch(dataset.topic, partition, offset, max_bytes=FETCH_BYTES, wait_ms=0, topic_id=dataset.topic_id)
            if not fetched.records:
                return
            for start in range(0, len(fetched.records), self._part):
                self._count(fetched.records[start : start + self._part])
                await asyncio.sleep(0)  # the loop has readers to serve
            offset = fetched.records[-1][0] + 1

    def _count(self, records: Sequence[Record]) -> None:
        now_ms = int(now().timestamp() * 1000)
        subject = ("data", *steps_of(self._dataset.subject_pointer)) if self._dataset.subject_pointer else None
        for _, appended_ms, _, value in records:
            try:
                event, sref = decode(value, subject)
            except (ValueError, KeyError, TypeError):
                continue
            for side in self.sides:
                side.count(event, value, sref, appended_ms, now_ms)

    def _passes(self, contract: ContractView, obligations: Obligations | None) -> Passes:
        """Whether an event would pass: consent, rows, shape. A rate says when, not whether."""
        if obligations is None:
            return _nothing
        judged = tuple(each for each in obligations if each["kind"] != "rate_limit")
        decision = Decision(new_id("dec"), True, (), judged, "", datetime.max.replace(tzinfo=UTC))
        try:
            view = self._streams.permit(decision, self._dataset, contract).view
        except ExchangeError:
            return _nothing  # an obligation that cannot be carried out means that nothing passes
        opened = opening_of(judged, self._dataset, self._streams.subject_keys) is not None

        def passes(event: dict[str, Any], value: bytes, sref: str | None, appended_ms: int, now_ms: int) -> bool:
            if not view.lets_pass(sref, appended_ms, now_ms):
                return False
            try:
                # What is sealed is opened for nobody here.
                return opened or view.lens.shape.render(event, value, appended_ms) is not None
            except Unfit:
                return False

        return passes


def _earliest_ms(contract: ContractView) -> int:
    """The append time of the first event that the contract may see, in milliseconds; 0 is all of them."""
    if contract.history == "all":
        return 0
    back = timedelta() if contract.history == "none" else isodate.parse_duration(contract.history)
    return max(0, min(FOREVER, int(contract.valid_from.timestamp() * 1000) - back // timedelta(milliseconds=1)))
