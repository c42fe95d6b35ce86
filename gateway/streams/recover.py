"""Recovery: what a crash between append and entry left in the log without one gets a `publish_recovered` entry.

At start, and whenever an append or its entry has failed. Readers are not held back meanwhile: their releases say what they deliver.
"""

from __future__ import annotations

import asyncio
import time

import anyio.to_thread
import structlog

from gateway.audit.published import Published, compact, uncovered
from gateway.audit.record import Entry, Ranges
from gateway.catalog.directory import DatasetView
from gateway.errors import ExchangeError
from gateway.streams.live import Streams
from gateway.streams.log import LogUnavailable, TopicGone

log = structlog.get_logger(__name__)

PAUSE_S = 1.0
EVERY_S = 60.0
LONGEST_S = 15.0
"""Recovery gives up after this long and tries again later: publishing waits at the gate meanwhile."""


async def recover_forever(streams: Streams) -> None:
    """Look whenever the gate says that something may be missing, and now and then: an append that was given up may land late.

    Ends when cancelled.
    """
    looked = time.monotonic()
    while True:
        if streams.gate.dirty or time.monotonic() - looked > EVERY_S:
            looked = time.monotonic()
            try:
                async with asyncio.timeout(LONGEST_S):
                    await streams.log.ping()
                    await recover(streams)
            except (LogUnavailable, TopicGone, ExchangeError, TimeoutError) as error:
                log.warning("publish_recovery_waits", reason=type(error).__name__)
        await asyncio.sleep(PAUSE_S)


async def recover(streams: Streams) -> int:
    """Write an entry for each span of offsets that none names; how many were written. Raises `LogUnavailable`, `audit_unavailable`."""
    written = 0
    async with streams.gate.recovering():
        streams.gate.dirty = False
        try:
            await anyio.to_thread.run_sync(_compact, streams)
            for dataset in streams.catalog.all():
                for partition in range(dataset.partitions):
                    written += await _recover(streams, dataset, partition)
        except BaseException:
            streams.gate.dirty = True
            raise
    if written:
        log.info("publish_recovered", entries=written)
    return written


def _compact(streams: Streams) -> None:
    with streams.database.transaction() as session:
        compact(session)


async def _recover(streams: Streams, dataset: DatasetView, partition: int) -> int:
    try:
        earliest, end = await streams.log.bounds(dataset.topic, partition)
    except TopicGone:
        return 0
    spans = await anyio.to_thread.run_sync(_uncovered, streams, dataset.topic_id or "", partition, earliest, end)
    for first, after in spans:
        entry = Entry(
            kind="publish_recovered",
            action="publish",
            dataset=dataset.slug,
            ranges=Ranges({partition: (first, after)}, {partition: after - 1}),
            change=streams.changes.applied,
            provider=dataset.owner_id,
        )
        await streams.audit.release(entry, [Published(dataset.topic_id or "", partition, first, after)])
    return len(spans)


def _uncovered(streams: Streams, topic_id: str, partition: int, earliest: int, end: int) -> list[tuple[int, int]]:
    with streams.database.reading() as session:
        return uncovered(session, topic_id, partition, earliest, end)
