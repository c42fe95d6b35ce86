"""What the SQLite log alone does: its disk, its deletions, its file."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from gateway.streams.log import LogUnavailable, OffsetOutOfRange, Position, TopicGone
from gateway.streams.sqlite_log import SQLiteLog


async def until_bounds(log: SQLiteLog, bounds: tuple[int, int]) -> None:
    for _ in range(500):
        if await log.bounds("t", 0) == bounds:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{await log.bounds('t', 0)}, not {bounds}, after five seconds")


def test_a_full_disk_refuses_appends_loses_nothing_and_takes_them_again_once_there_is_space(tmp_path: Path) -> None:
    async def test() -> None:
        log = SQLiteLog(tmp_path / "log.db", max_bytes=600_000)
        await log.start()
        await log.ensure_topic("other", partitions=1, retention_ms=None)
        await log.ensure_topic("kept", partitions=1, retention_ms=None)
        await log.append("other", 0, [(None, b"o" * 1000)] * 200)
        appends = (log.append("kept", 0, [(b"k", b"v" * 1000)] * 10) for _ in range(100))
        results = [await asyncio.gather(append, return_exceptions=True) for append in appends]
        acknowledged = sum(result.count for (result,) in results if isinstance(result, Position))
        assert 100 < acknowledged < 600
        assert {type(result) for (result,) in results} == {Position, LogUnavailable}
        with pytest.raises(LogUnavailable, match="full"):
            await log.append("kept", 0, [(b"k", b"v" * 10_000)])
        assert await log.bounds("kept", 0) == (0, acknowledged)
        assert len((await log.fetch("kept", 0, 0, max_bytes=10_000_000, wait_ms=0)).records) == acknowledged
        await log.delete_topic("other")
        assert await log.append("kept", 0, [(b"k", b"v" * 1000)] * 10) == Position(0, acknowledged, 10)
        await log.stop()

    asyncio.run(test())


def test_one_append_that_does_not_fit_fails_alone(tmp_path: Path) -> None:
    async def test() -> None:
        log = SQLiteLog(tmp_path / "log.db", max_bytes=400_000)
        await log.start()
        await log.ensure_topic("t", partitions=2, retention_ms=None)
        small = [log.append("t", 0, [(None, b"small")]) for _ in range(20)]
        large = log.append("t", 1, [(None, b"l" * 900_000)])
        results = await asyncio.gather(*small[:10], large, *small[10:], return_exceptions=True)
        assert isinstance(results.pop(10), LogUnavailable)
        assert sorted(result.first for result in results if isinstance(result, Position)) == list(range(20))
        assert await log.bounds("t", 1) == (0, 0)
        await log.stop()

    asyncio.run(test())


def test_records_older_than_the_retention_go_and_the_rest_keeps_its_offsets(tmp_path: Path) -> None:
    async def test() -> None:
        log = SQLiteLog(tmp_path / "log.db", sweep_s=0.02)
        await log.start()
        await log.ensure_topic("t", partitions=1, retention_ms=400)
        await log.append("t", 0, [(None, b"old")] * 10)
        await asyncio.sleep(0.3)
        await log.append("t", 0, [(None, b"new")])
        await until_bounds(log, (10, 11))
        with pytest.raises(OffsetOutOfRange) as before:
            await log.fetch("t", 0, 9, max_bytes=1000, wait_ms=0)
        assert (before.value.earliest, before.value.end) == (10, 11)
        assert (await log.fetch("t", 0, 10, max_bytes=1000, wait_ms=0)).records[0][3] == b"new"
        await until_bounds(log, (11, 11))
        await log.stop()
        await log.start()
        assert await log.bounds("t", 0) == (11, 11)
        assert await log.append("t", 0, [(None, b"next")]) == Position(0, 11, 1)
        await log.stop()

    asyncio.run(asyncio.wait_for(test(), 10))


def test_a_deletion_that_was_interrupted_is_finished_after_the_next_start(tmp_path: Path) -> None:
    async def test() -> None:
        log = SQLiteLog(tmp_path / "log.db", sweep_s=0.02)
        await log.start()
        topic = await log.ensure_topic("t", partitions=2, retention_ms=None)
        await log.append("t", 1, [(None, b"v")] * 10)
        await log.stop()
        with sqlite3.connect(tmp_path / "log.db") as db:  # as far as delete_topic comes before it deletes records
            db.execute("DELETE FROM topics")
            db.execute("UPDATE partitions SET topic_id = NULL")
        db.close()
        await log.start()
        with pytest.raises(TopicGone):
            await log.topic("t")
        assert (await log.ensure_topic("t", partitions=2, retention_ms=None)).id != topic.id
        await asyncio.sleep(0.2)
        db = sqlite3.connect(tmp_path / "log.db")
        assert db.execute("SELECT count(*) FROM records").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM partitions").fetchone() == (2,)
        db.close()
        assert await log.bounds("t", 1) == (0, 0)
        await log.stop()

    asyncio.run(asyncio.wait_for(test(), 10))


def test_a_clock_that_runs_backwards_does_not_turn_times_around(tmp_path: Path) -> None:
    async def test() -> None:
        log = SQLiteLog(tmp_path / "log.db")
        await log.start()
        await log.ensure_topic("t", partitions=1, retention_ms=None)
        await log.append("t", 0, [(None, b"first")])
        await log.stop()
        ahead = int(time.time() * 1000) + 3_600_000
        with sqlite3.connect(tmp_path / "log.db") as db:  # as if the clock had been an hour ahead until now
            db.execute("UPDATE records SET timestamp_ms = ?", (ahead,))
            db.execute("UPDATE partitions SET last_ms = ?", (ahead,))
        db.close()
        await log.start()
        await log.append("t", 0, [(None, b"second")])
        records = (await log.fetch("t", 0, 0, max_bytes=1000, wait_ms=0)).records
        assert [at for _, at, *_ in records] == [ahead, ahead]
        await log.stop()

    asyncio.run(test())


def test_a_file_that_cannot_be_opened_is_an_unavailable_log(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "log.db").write_bytes(b"this is not a database, and long enough to tell" * 100)
        with pytest.raises(LogUnavailable):
            await SQLiteLog(tmp_path / "log.db").start()

    asyncio.run(test())


def test_a_closed_log_is_unavailable(tmp_path: Path) -> None:
    async def test() -> None:
        log = SQLiteLog(tmp_path / "log.db")
        await log.start()
        await log.ensure_topic("t", partitions=1, retention_ms=None)
        await log.append("t", 0, [(None, b"v")])
        await log.stop()
        with pytest.raises(LogUnavailable):
            await log.append("t", 0, [(None, b"v")])
        with pytest.raises(LogUnavailable):
            await log.fetch("t", 0, 0, max_bytes=1000, wait_ms=0)

    asyncio.run(test())
