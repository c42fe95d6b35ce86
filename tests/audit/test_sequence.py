"""Places in the tree: each entry gets one, whoever commits when, and however many replicas are at it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from gateway.audit.models import AuditEntry, AuditLeaf, AuditPending, AuditTree
from gateway.audit.record import record
from gateway.audit.release import AuditWriter
from gateway.audit.sequence import Overtaken, _grow, look, sequence
from gateway.database import Database
from tests.audit.growing import ENTRY, Log
from tests.audit.others import go_verifies
from tests.engines import Postgres


@pytest.fixture
def log(database: Database, tmp_path: Path) -> Log:
    return Log(database, tmp_path)


def places(log: Log) -> dict[bytes, int]:
    with log.database.reading() as session:
        return {leaf.leaf_hash: leaf.index for leaf in session.scalars(select(AuditLeaf))}


def test_an_entry_that_commits_after_the_next_is_not_left_out(log: Log, postgres: Postgres) -> None:
    with log.database.transaction() as late:
        first = record(late, ENTRY).leaf_hash
        late.flush()
        [second] = log.append()
        assert log.grow().size == 1
    assert log.grow().size == 2
    assert places(log) == {second: 0, first: 1}


def test_what_is_rolled_back_gets_no_place(log: Log) -> None:
    with log.database.transaction() as session:
        record(session, ENTRY)
        session.rollback()
    [only] = log.append()
    assert log.grow().size == 1
    assert places(log) == {only: 0}


def test_entries_of_streams_and_of_the_control_plane_get_their_places_in_the_order_of_their_numbers(log: Log) -> None:
    writer = AuditWriter(log.database)
    writer.start()
    hashes = []
    for _ in range(5):
        hashes.append(writer.append(ENTRY).leaf_hash)
        hashes += log.append()
    writer.stop()
    log.grow()
    assert sorted(places(log), key=places(log).__getitem__) == hashes
    with log.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(AuditPending)) == 0


def test_of_two_that_grow_the_tree_at_once_one_is_overtaken_and_nothing_stands_twice(log: Log, postgres: Postgres) -> None:
    hashes = log.append(50)
    outcomes: list[str] = []

    def second() -> None:
        try:
            with log.database.transaction() as session:
                _grow(session, look(session), 0)
            outcomes.append("grew")
        except (Overtaken, IntegrityError):
            outcomes.append("overtaken")

    with log.database.transaction() as session:
        assert _grow(session, look(session), 0).size == 50
        other = threading.Thread(target=second)
        other.start()
        deadline = time.monotonic() + 10
        while not waits_for_a_lock(log) and time.monotonic() < deadline:
            time.sleep(0.01)
    other.join(10)
    assert outcomes == ["overtaken"]
    assert log.grow().size == 50
    assert {*places(log)} == {*hashes}


def waits_for_a_lock(log: Log) -> bool:
    with log.database.engine.connect() as connection:
        return bool(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar())


def test_a_tree_that_another_has_changed_is_not_grown_from_what_was_read(log: Log) -> None:
    log.append(3)
    with log.database.transaction() as session:
        tree = look(session)
        session.execute(update(AuditTree).values(root=bytes(32)))
        with pytest.raises(Overtaken):
            _grow(session, tree, 0)


def test_replicas_that_grow_one_log_under_load_make_one_history(log: Log, tlog_programs: Path) -> None:
    replicas = [log.replica() for _ in range(2)]
    for replica in replicas:
        replica.start()
    hashes = [each for _ in range(40) for each in log.append(25)]
    deadline = time.monotonic() + 30
    while len(places(log)) < 1000 and time.monotonic() < deadline:
        time.sleep(0.05)
    for replica in replicas:
        replica.stop()
        assert replica.stopped is None
    assert log.grow().size == 1000
    assert {*places(log)} == {*hashes}
    with log.served() as url:
        assert go_verifies(tlog_programs, url, log.vkey) == (1000, "")


def test_no_more_is_sequenced_at_once_than_is_asked_for(log: Log) -> None:
    log.append(20)
    grown = [sequence(log.database, 0, at_once=7) for _ in range(4)]
    assert [(tree.size, tree.more) for tree in grown] == [(7, True), (14, True), (20, False), (20, False)]
    with log.database.reading() as session:
        in_order = session.scalars(select(AuditEntry.leaf_hash).order_by(AuditEntry.number)).all()
    assert sorted(places(log), key=places(log).__getitem__) == [*in_order]
