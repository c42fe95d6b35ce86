"""The contract of the event log, held by both engines (gateway/streams/log.py)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.streams.kafka_log import KafkaLog
from gateway.streams.log import (
    MAX_BATCH_BYTES,
    MAX_BATCH_RECORDS,
    MAX_EVENT_BYTES,
    EventLog,
    OffsetOutOfRange,
    Position,
    Topic,
    TopicGone,
)
from gateway.streams.sqlite_log import SQLiteLog
from tests.engines import Engines

numbers = itertools.count()

Test = Callable[[EventLog, Topic], Awaitable[None]]


def run(engines: Engines, tmp_path: Path, test: Test, *, partitions: int = 1) -> None:
    """The test with a log and a new topic of its own."""

    async def on_loop() -> None:
        async with opened(engines, tmp_path) as log:
            topic = await log.ensure_topic(f"contract-{next(numbers)}-{time.time_ns()}", partitions=partitions, retention_ms=None)
            await test(log, topic)

    asyncio.run(on_loop())


@asynccontextmanager
async def opened(engines: Engines, tmp_path: Path) -> AsyncIterator[EventLog]:
    log: EventLog = SQLiteLog(tmp_path / "log.db") if engines.real is None else KafkaLog(engines.real.kafka.bootstrap)
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


def numbered(start: int, count: int) -> list[tuple[bytes | None, bytes]]:
    return [(f"key-{number}".encode(), f"value-{number}".encode()) for number in range(start, start + count)]


async def read_all(log: EventLog, topic: str, partition: int = 0) -> list[bytes]:
    earliest, end = await log.bounds(topic, partition)
    values: list[bytes] = []
    offset = earliest
    while offset < end:
        fetched = await log.fetch(topic, partition, offset, max_bytes=100_000, wait_ms=0)
        values.extend(value for _, _, _, value in fetched.records)
        offset = fetched.records[-1][0] + 1
    return values


def test_records_come_back_in_the_order_in_which_they_were_appended(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        for start in range(0, 100, 10):
            assert await log.append(topic.name, 1, numbered(start, 10)) == Position(1, start, 10)
        fetched = await log.fetch(topic.name, 1, 0, max_bytes=1_000_000, wait_ms=0)
        assert [(key, value) for _, _, key, value in fetched.records] == numbered(0, 100)
        assert (fetched.earliest, fetched.end) == (0, 100)
        assert await log.bounds(topic.name, 0) == (0, 0)

    run(engines, tmp_path, test, partitions=2)


def test_offsets_and_times_never_fall(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        before = int(time.time() * 1000)
        await asyncio.gather(*(log.append(topic.name, 0, numbered(0, 3)) for _ in range(20)))
        after = int(time.time() * 1000)
        records = (await log.fetch(topic.name, 0, 0, max_bytes=1_000_000, wait_ms=0)).records
        offsets = [offset for offset, *_ in records]
        times = [at for _, at, *_ in records]
        assert offsets == sorted(set(offsets))
        assert times == sorted(times)
        assert before - 1 <= times[0]
        assert times[-1] <= after + 1

    run(engines, tmp_path, test)


def test_a_batch_is_never_divided_by_another(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        batches = [[(None, f"{batch}-{place}".encode()) for place in range(7)] for batch in range(50)]
        positions = await asyncio.gather(*(log.append(topic.name, 0, batch) for batch in batches))
        values = await read_all(log, topic.name)
        for batch, position in zip(batches, positions, strict=True):
            assert values[position.first : position.first + position.count] == [value for _, value in batch]

    run(engines, tmp_path, test)


def test_a_thousand_concurrent_appends_are_all_found_once(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        positions = await asyncio.gather(*(log.append(topic.name, number % 4, numbered(number, 1)) for number in range(1000)))
        assert len({(position.partition, position.first) for position in positions}) == 1000
        found = [value for partition in range(4) for value in await read_all(log, topic.name, partition)]
        assert sorted(found) == sorted(value for _, value in numbered(0, 1000))
        for number, position in enumerate(positions):
            at = await log.fetch(topic.name, position.partition, position.first, max_bytes=1, wait_ms=0)
            assert at.records[0][3] == f"value-{number}".encode()

    run(engines, tmp_path, test, partitions=4)


def test_any_offset_can_be_read_from(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        for start in (0, 25, 50):
            await log.append(topic.name, 0, numbered(start, 25))
        for offset in range(75):
            fetched = await log.fetch(topic.name, 0, offset, max_bytes=1, wait_ms=0)
            assert fetched.records[0][0] == offset
            assert fetched.records[0][3] == f"value-{offset}".encode()

    run(engines, tmp_path, test)


def test_a_page_is_about_as_large_as_asked_and_never_empty(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        for _ in range(20):
            await log.append(topic.name, 0, [(None, b"v" * 10_000)])
        page = await log.fetch(topic.name, 0, 0, max_bytes=55_000, wait_ms=0)
        assert 4 <= len(page.records) <= 6
        await log.append(topic.name, 0, [(None, b"v" * MAX_EVENT_BYTES)])
        large = await log.fetch(topic.name, 0, 20, max_bytes=1000, wait_ms=0)
        assert [len(value) for *_, value in large.records] == [MAX_EVENT_BYTES]

    run(engines, tmp_path, test)


def test_an_append_wakes_a_waiting_fetch(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        await log.append(topic.name, 0, numbered(0, 1))
        for offset in range(1, 6):
            waiting = asyncio.create_task(log.fetch(topic.name, 0, offset, max_bytes=1000, wait_ms=10_000))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await log.append(topic.name, 0, numbered(offset, 1))
            appended = time.monotonic()
            fetched = await waiting
            assert time.monotonic() - appended < 0.1
            assert [offset for offset, *_ in fetched.records] == [offset]

    run(engines, tmp_path, test)


def test_a_fetch_waits_as_long_as_asked(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        started = time.monotonic()
        fetched = await log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=300)
        assert not fetched.records
        assert (fetched.earliest, fetched.end) == (0, 0)
        assert 0.28 <= time.monotonic() - started < 1.5

    run(engines, tmp_path, test)


def test_waiting_fetches_hold_up_nobody(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        await log.append(topic.name, 0, numbered(0, 1))
        waiting = [asyncio.create_task(log.fetch(topic.name, 0, 1, max_bytes=1000, wait_ms=10_000)) for _ in range(20)]
        await asyncio.sleep(0.2)
        started = time.monotonic()
        assert not (await log.fetch(topic.name, 0, 1, max_bytes=1000, wait_ms=0)).records
        assert (await log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=0)).records
        assert time.monotonic() - started < 0.2
        await log.append(topic.name, 0, numbered(1, 1))
        fetched = await asyncio.gather(*waiting)
        assert time.monotonic() - started < 1
        assert all(len(each.records) == 1 for each in fetched)

    run(engines, tmp_path, test)


def test_a_cancelled_fetch_harms_no_other(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        waiting = [asyncio.create_task(log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=10_000)) for _ in range(4)]
        await asyncio.sleep(0.1)
        waiting[0].cancel()
        waiting[2].cancel()
        await log.append(topic.name, 0, numbered(0, 1))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False, True, False]

    run(engines, tmp_path, test)


def test_the_first_fetch_of_a_topic_is_quick(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        await log.append(topic.name, 0, numbered(0, 100))
        async with opened(engines, tmp_path) as other:
            started = time.monotonic()
            assert (await other.fetch(topic.name, 0, 0, max_bytes=1_000_000, wait_ms=1000)).records
            assert time.monotonic() - started < 0.1

    run(engines, tmp_path, test)


def test_an_offset_outside_the_bounds_is_refused_with_the_bounds(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        await log.append(topic.name, 0, numbered(0, 5))
        with pytest.raises(OffsetOutOfRange) as beyond:
            await log.fetch(topic.name, 0, 6, max_bytes=1000, wait_ms=0)
        assert (beyond.value.earliest, beyond.value.end) == (0, 5)

    run(engines, tmp_path, test)


def test_whoever_asks_at_once_gets_the_earliest_offset_of_its_own_partition(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        await log.append(topic.name, 1, numbered(0, 5))
        asked = [log.earliest(topic.name, partition) for partition in (0, 1) for _ in range(50)]
        assert await asyncio.gather(*asked) == [0] * 100
        assert await log.earliest(topic.name, 1) == (await log.bounds(topic.name, 1))[0]

    run(engines, tmp_path, test, partitions=2)


def test_an_unknown_topic_is_gone(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        unknown = topic.name + "-unknown"
        calls: list[Awaitable[object]] = [
            log.topic(unknown),
            log.append(unknown, 0, numbered(0, 1)),
            log.fetch(unknown, 0, 0, max_bytes=1000, wait_ms=0),
            log.earliest(unknown, 0),
            log.bounds(unknown, 0),
            log.offset_at(unknown, 0, 0),
        ]
        for call in calls:
            with pytest.raises(TopicGone):
                await call
        await log.delete_topic(unknown)

    run(engines, tmp_path, test)


def test_a_recreated_topic_is_another_topic(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        await log.append(topic.name, 0, numbered(0, 5))
        await log.delete_topic(topic.name)
        with pytest.raises(TopicGone):
            await log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=0)
        again = await log.ensure_topic(topic.name, partitions=1, retention_ms=None)
        assert again.id != topic.id
        assert await log.topic(topic.name) == again
        with pytest.raises(TopicGone):
            await log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=0, topic_id=topic.id)
        with pytest.raises(TopicGone):
            await log.append(topic.name, 0, numbered(0, 1), topic_id=topic.id)
        assert await log.append(topic.name, 0, numbered(0, 1), topic_id=again.id) == Position(0, 0, 1)
        assert len((await log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=0, topic_id=again.id)).records) == 1

    run(engines, tmp_path, test)


def test_a_fetch_that_waits_learns_that_its_topic_is_gone(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        waiting = asyncio.create_task(log.fetch(topic.name, 0, 0, max_bytes=1000, wait_ms=8000))
        await asyncio.sleep(0.1)
        await log.delete_topic(topic.name)
        with pytest.raises(TopicGone):
            await waiting

    run(engines, tmp_path, test)


def test_ensuring_a_topic_twice_leaves_it_as_it_is(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        both = await asyncio.gather(*(log.ensure_topic(topic.name + "-b", partitions=3, retention_ms=3_600_000) for _ in range(2)))
        assert both[0] == both[1]
        assert await log.ensure_topic(topic.name, partitions=9, retention_ms=1) == topic
        with pytest.raises(ValueError, match="no partition 1"):
            await log.fetch(topic.name, 1, 0, max_bytes=1000, wait_ms=0)

    run(engines, tmp_path, test)


def test_a_time_is_found_by_its_first_record(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        assert await log.offset_at(topic.name, 0, 0) == 0
        for start in range(0, 40, 4):
            await log.append(topic.name, 0, numbered(start, 4))
            await asyncio.sleep(0.003)
        records = (await log.fetch(topic.name, 0, 0, max_bytes=1_000_000, wait_ms=0)).records
        for wanted in {at for _, at, *_ in records}:
            assert await log.offset_at(topic.name, 0, wanted) == next(offset for offset, at, *_ in records if at >= wanted)
        assert await log.offset_at(topic.name, 0, 0) == 0
        assert await log.offset_at(topic.name, 0, records[-1][1] + 1) == 40

    run(engines, tmp_path, test)


def test_an_append_that_is_too_large_is_refused_and_nothing_of_it_stays(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        with pytest.raises(ValueError, match="an append of"):
            await log.append(topic.name, 0, [(None, b"v" * (MAX_BATCH_BYTES // 2))] * 2 + [(b"k", b"")])
        with pytest.raises(ValueError, match="an append of"):
            await log.append(topic.name, 0, [(None, b"v")] * (MAX_BATCH_RECORDS + 1))
        with pytest.raises(ValueError, match="an append of"):
            await log.append(topic.name, 0, [])
        assert await log.bounds(topic.name, 0) == (0, 0)
        await log.append(topic.name, 0, [(None, b"v" * (MAX_BATCH_BYTES // 2))] * 2)
        full = [(b"k" * (MAX_BATCH_BYTES // MAX_BATCH_RECORDS - 100), b"v" * 100)] * MAX_BATCH_RECORDS
        assert (await log.append(topic.name, 0, full)).count == MAX_BATCH_RECORDS

    run(engines, tmp_path, test)


def test_keys_and_values_come_back_byte_for_byte(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        sizes = (0, 1, 63, 64, 127, 128, 8191, 8192, 70_000)
        records: list[tuple[bytes | None, bytes]] = [(None, b"no key"), (b"", b"empty key"), (b"\x00\xff", b"\x00\xff")]
        records += [(b"k" * (size % 300), bytes([size % 256]) * size) for size in sizes]
        await log.append(topic.name, 0, records)
        fetched = await log.fetch(topic.name, 0, 0, max_bytes=1_000_000, wait_ms=0)
        assert [(key, value) for _, _, key, value in fetched.records] == records

    run(engines, tmp_path, test)


def test_what_was_acknowledged_is_there_after_a_restart(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, topic: Topic) -> None:
        await log.append(topic.name, 0, numbered(0, 10))
        await log.stop()
        async with opened(engines, tmp_path) as again:
            assert await again.topic(topic.name) == topic
            assert await again.append(topic.name, 0, numbered(10, 5)) == Position(0, 10, 5)
            assert await read_all(again, topic.name) == [value for _, value in numbered(0, 15)]
        await log.start()

    run(engines, tmp_path, test)


def test_a_ping_is_answered(engines: Engines, tmp_path: Path) -> None:
    async def test(log: EventLog, _: Topic) -> None:
        started = time.monotonic()
        await log.ping()
        assert time.monotonic() - started < 1

    run(engines, tmp_path, test)
