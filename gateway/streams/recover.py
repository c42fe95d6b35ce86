"""Recovery: what a crash between append and entry left in the log without one gets a `publish_recovered` entry.

At start, and whenever an append or its entry has failed, here or at a replica that was fenced. Readers are not held back meanwhile:
their releases say what they deliver.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import anyio.to_thread
import structlog

from gateway.audit.published import compact, name_uncovered, uncovered
from gateway.audit.record import Entry, Ranges
from gateway.catalog.directory import DatasetView
from gateway.errors import ExchangeError
from gateway.streams.live import Streams
from gateway.streams.log import LogUnavailable, TopicGone

log = structlog.get_logger(__name__)

PAUSE_S = 1.0
EVERY_S = 60.0
APART_S = 3.0
"""What stands in the log without an entry may be another replica's, which is about to write it: it counts as missing after so long."""
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
    """Write an entry for each span of offsets that none names; how many were written. Raises `LogUnavailable`, `database_unavailable`."""
    written = 0
    streams.gate.dirty = False  # whatever fails from here on is looked for again
    try:
        stood = await _stood(streams)
        async with streams.gate.recovering():
            await anyio.to_thread.run_sync(_compact, streams)
            for dataset in streams.catalog.all():
                for partition in range(dataset.partitions):
                    written += await _recover(streams, dataset, partition, stood)
    except BaseException:
        streams.gate.dirty = True
        raise
    if written:
        log.info("publish_recovered", entries=written)
    return written


async def _stood(streams: Streams) -> dict[tuple[str, int], int] | None:
    """By topic and partition, the log's end some time ago; None where this process alone publishes, and so knows what is under way."""
    if streams.database.engine.dialect.name == "sqlite":
        return None
    ends: dict[tuple[str, int], int] = {}
    for dataset in streams.catalog.all():
        for partition in range(dataset.partitions):
            with suppress(TopicGone):
                ends[dataset.topic, partition] = (await streams.log.bounds(dataset.topic, partition))[1]
    await asyncio.sleep(APART_S)
    return ends


def _compact(streams: Streams) -> None:
    with streams.database.transaction() as session:
        compact(session)


async def _recover(streams: Streams, dataset: DatasetView, partition: int, stood: dict[tuple[str, int], int] | None) -> int:
    try:
        earliest, end = await streams.log.bounds(dataset.topic, partition)
    except TopicGone:
        return 0
    if stood is not None:
        end = min(end, stood.get((dataset.topic, partition), earliest))
    return await anyio.to_thread.run_sync(_name, streams, dataset, partition, earliest, end)


def _name(streams: Streams, dataset: DatasetView, partition: int, earliest: int, end: int) -> int:
    topic_id = dataset.topic_id or ""
    with streams.database.reading() as session:  # nearly always there is nothing, and nobody waits for anybody
        if not uncovered(session, topic_id, partition, earliest, end):
            return 0

    def entry(first: int, after: int) -> Entry:
        return Entry(
            kind="publish_recovered",
            action="publish",
            dataset=dataset.slug,
            ranges=Ranges({partition: (first, after)}, {partition: after - 1}),
            change=streams.changes.applied,
            provider=dataset.owner_id,
        )

    with streams.database.transaction() as session:
        return len(name_uncovered(session, topic_id, partition, earliest, end, entry))
