"""Estimate: how many retained events would pass under one decision and under another, read again with consent as of now.

Of at most `MOST_EVENTS` retained events a dataset, the newest of each partition, that the contract's history lets it see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import isodate
import structlog

from consent.index import FOREVER
from gateway.access.decision import Decision
from gateway.access.lens import Unfit
from gateway.catalog.directory import DatasetView
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
"""Of reading for one contract; what was read until then is counted."""


def count_events(
    streams: Streams, dataset: DatasetView, contract: ContractView, before: Obligations | None, after: Obligations | None
) -> Mapping[str, Any]:
    """{estimate, read, before, after, newly_delivered, withheld}, each count rounded to 10; None is a refusal, under which nothing passes.

    Called from a worker thread, while the event loop runs. `unavailable` is true where the log could not be read to the end.
    """
    counting = _Counting(streams, dataset, contract, before, after)
    whole = dataset.topic_id is None or _on_the_loop(streams, counting)
    told = {name: round(value, -1) for name, value in counting.counts().items()}
    return {"estimate": True, **told, **({} if whole else {"unavailable": True})}


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


class _Counting:
    """The same events through both lenses; nothing of them is kept."""

    def __init__(
        self, streams: Streams, dataset: DatasetView, contract: ContractView, before: Obligations | None, after: Obligations | None
    ) -> None:
        self._streams = streams
        self._dataset = dataset
        self._contract = contract
        self._obligations = (before, after)
        self._sides: list[Passes] = []
        self._read = 0
        self._passed = [0, 0]
        self._gained = self._lost = 0

    def counts(self) -> dict[str, int]:
        return {
            "read": self._read,
            "before": self._passed[0],
            "after": self._passed[1],
            "newly_delivered": self._gained,
            "withheld": self._lost,
        }

    async def read(self) -> bool:
        """Count what is retained; False if the log did not give all of it."""
        self._sides = [self._passes(obligations) for obligations in self._obligations]
        log_, dataset, each = self._streams.log, self._dataset, MOST_EVENTS // self._dataset.partitions
        try:
            async with asyncio.timeout(LONGEST_S):
                for partition in range(dataset.partitions):
                    earliest, end = await log_.bounds(dataset.topic, partition)
                    visible = await log_.offset_at(dataset.topic, partition, self._earliest_ms())
                    offset = max(earliest, visible, end - each)
                    while offset < end:
                        fetched = await log_.fetch(
                            dataset.topic, partition, offset, max_bytes=FETCH_BYTES, wait_ms=0, topic_id=dataset.topic_id
                        )
                        if not fetched.records:
                            break
                        for part in _parts(fetched.records):
                            self._count(part)
                            await asyncio.sleep(0)  # the loop has readers to serve
                        offset = fetched.records[-1][0] + 1
        except (LogUnavailable, TopicGone, OffsetOutOfRange, TimeoutError) as error:
            log.warning("events_not_counted", dataset=dataset.slug, reason=type(error).__name__)
            return False
        return True

    def _count(self, records: list[Record]) -> None:
        now_ms = int(now().timestamp() * 1000)
        subject = ("data", *self._dataset.subject_pointer.split("/")[1:]) if self._dataset.subject_pointer else None
        for _, appended_ms, _, value in records:
            try:
                event, sref = decode(value, subject)
            except (ValueError, KeyError, TypeError):
                continue
            self._read += 1
            one, other = (side(event, value, sref, appended_ms, now_ms) for side in self._sides)
            self._passed[0] += one
            self._passed[1] += other
            self._gained += other and not one
            self._lost += one and not other

    def _passes(self, obligations: Obligations | None) -> Passes:
        """Whether an event would pass: consent, rows, shape. A rate says when, not whether."""
        if obligations is None:
            return _nothing
        judged = tuple(each for each in obligations if each["kind"] != "rate_limit")
        decision = Decision(new_id("dec"), True, (), judged, "", datetime.max.replace(tzinfo=UTC))
        try:
            view = self._streams.permit(decision, self._dataset, self._contract).view
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

    def _earliest_ms(self) -> int:
        contract = self._contract
        if contract.history == "all":
            return 0
        back = timedelta() if contract.history == "none" else isodate.parse_duration(contract.history)
        return max(0, min(FOREVER, int(contract.valid_from.timestamp() * 1000) - back // timedelta(milliseconds=1)))


def _parts(records: Any, size: int = 200) -> Iterator[list[Record]]:
    for start in range(0, len(records), size):
        yield list(records[start : start + size])
