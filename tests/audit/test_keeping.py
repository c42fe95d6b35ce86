"""What retention deletes, what it leaves, and how a log goes on over a database that was restored."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from gateway.audit.adopt import adopt
from gateway.audit.models import AuditEntry, AuditLeaf, AuditPending
from gateway.audit.retention import forget_entries
from gateway.audit.sequence import LogStopped
from gateway.database import Database, now
from gateway.migrations import upgrade
from tests.audit.growing import Log, forked
from tests.audit.others import fsck_verifies, go_verifies


@pytest.fixture
def log(database: Database, tmp_path: Path) -> Log:
    return Log(database, tmp_path)


def age(log: Log, numbers: range) -> None:
    with log.database.transaction() as session:
        session.execute(update(AuditEntry).where(AuditEntry.number.in_(numbers)).values(at=now() - timedelta(days=100)))


def forget(log: Log) -> int:
    with log.database.transaction() as session:
        return forget_entries(session, log.tiles, now() - timedelta(days=90))


def numbers(log: Log) -> list[int]:
    with log.database.reading() as session:
        return list(session.scalars(select(AuditEntry.number).order_by(AuditEntry.number)))


def test_retention_deletes_entries_and_salts_and_the_log_is_whole(log: Log, tlog_programs: Path) -> None:
    log.grow(300)
    age(log, range(1, 201))
    assert forget(log) == 200
    assert numbers(log) == [*range(201, 302)], "and that it was done is an entry"
    assert log.grow(10).size == 311
    with log.served() as url:
        assert go_verifies(tlog_programs, url, log.vkey) == (311, "")
        assert fsck_verifies(tlog_programs, url, log.vkey, log.folder)


def test_retention_leaves_what_is_young_not_published_or_the_newest(log: Log) -> None:
    log.grow(10)
    assert forget(log) == 0
    log.append(5)
    age(log, range(1, 16))
    assert forget(log) == 10
    assert numbers(log) == [11, 12, 13, 14, 15, 16]
    log.grow(1)
    age(log, range(1, 18))
    assert forget(log) == 6
    assert 17 in numbers(log)
    assert log.grow(3).size == 21


@pytest.fixture
def restored(log: Log, tmp_path: Path) -> Iterator[Log]:
    """An SQLite exchange whose database is that of before: of 700 published entries it has 10 in the tree and 5 that waited."""
    with forked(log, tmp_path / "of-one-machine") as one:
        one.grow(10)
        one.append(5)
        with one.database.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql(f"VACUUM INTO '{tmp_path / 'dump.db'}'")
            connection.exec_driver_sql("BEGIN")
        one.grow(685)
        one.database.close()
        upgrade(f"sqlite:///{tmp_path / 'dump.db'}")
        one.database = Database(f"sqlite:///{tmp_path / 'dump.db'}")
        one.sequencer = one.replica()
        yield one
        one.database.close()


def test_a_restored_database_signs_no_second_history_and_goes_on_when_the_published_one_is_taken_in(restored: Log, tmp_path: Path) -> None:
    log = restored
    with pytest.raises(LogStopped, match="went back"):
        log.sequencer.step()
    with log.database.transaction() as session:
        assert adopt(session, log.tiles, log.sequencer.signer.verifier) == 690
    with log.database.transaction() as session:
        assert adopt(session, log.tiles, log.sequencer.signer.verifier) == 0
        assert session.scalar(select(func.count()).select_from(AuditPending)) == 0, "those that waited have their places"
        assert session.scalars(select(AuditLeaf.number).where(AuditLeaf.number.is_not(None)).order_by(AuditLeaf.index)).all() == [
            *range(1, 16)
        ]
    assert log.grow(3).size == 703


def test_what_somebody_else_published_is_not_taken_in(restored: Log, tmp_path: Path) -> None:
    log = restored
    with forked(log, tmp_path / "fork") as fork:
        fork.grow(800)
        shutil.rmtree(log.tiles.folder)
        shutil.copytree(fork.tiles.folder, log.tiles.folder)
    with log.database.transaction() as session, pytest.raises(LogStopped, match="no continuation"):
        adopt(session, log.tiles, log.sequencer.signer.verifier)
