"""The digest of disclosures: each event that left counts for its subject and nobody else, and it dies with the subject."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, select

from consent.models import Subject
from consent.subjects import as_bytes, srefs_of
from gateway.database import Database
from gateway.errors import ExchangeError
from gateway.migrations import upgrade
from gateway.streams.disclosed import Under
from gateway.subjects.digest import ROWS, Disclosures, forget_old
from gateway.subjects.models import Disclosure
from tests.engines import Engines

UNDER = Under("con_1", "footfall", "transit-planning", "dec_1")
OTHER = Under("con_2", "footfall", "transit-planning", "dec_2")


def people(database: Database, count: int = 1) -> list[str]:
    with database.transaction() as session:
        made = srefs_of(session, "k", b"k" * 32, "org_1", "opaque", [f"{secrets.token_hex(4)}-{n}" for n in range(count)])
    return list(made.values())


def counted(database: Database, under: Under = UNDER) -> dict[bytes, int]:
    with database.reading() as session:
        rows = session.scalars(select(Disclosure).where(Disclosure.contract == under.contract))
        return {row.sref: row.events for row in rows}


def left(disclosures: Disclosures, *srefs: str | None, under: Under = UNDER) -> Sequence[str | None]:
    disclosures.count(under, srefs, 0, len(srefs))
    return srefs


def test_each_event_that_left_counts_for_its_subject(database: Database) -> None:
    disclosures = Disclosures(database)
    ann, bob = people(database, 2)
    left(disclosures, ann, bob, None, ann)
    left(disclosures, bob, under=OTHER)
    disclosures.flush()
    assert counted(database) == {as_bytes(ann): 2, as_bytes(bob): 1}
    assert counted(database, OTHER) == {as_bytes(bob): 1}
    with database.reading() as session:
        row = session.scalars(select(Disclosure).where(Disclosure.sref == as_bytes(ann))).one()
    assert (row.day, row.dataset, row.purpose, row.decision) == (datetime.now(UTC).date(), "footfall", "transit-planning", "dec_1")


def test_only_the_part_of_a_judgement_that_left_counts(database: Database) -> None:
    disclosures = Disclosures(database)
    ann, bob = people(database, 2)
    disclosures.count(UNDER, [ann, bob, bob, ann], 1, 3)
    disclosures.flush()
    assert counted(database) == {as_bytes(bob): 2}


def test_what_goes_to_several_streams_counts_for_each(database: Database) -> None:
    disclosures = Disclosures(database)
    (ann,) = people(database)
    judged = left(disclosures, ann)
    for _ in range(4):
        disclosures.count(UNDER, judged, 0, 1)
    disclosures.flush()
    assert counted(database) == {as_bytes(ann): 5}


def test_later_events_of_a_day_are_added_to_its_row(database: Database) -> None:
    disclosures = Disclosures(database)
    (ann,) = people(database)
    for _ in range(3):
        left(disclosures, ann)
        disclosures.flush()
    disclosures.flush()
    assert counted(database) == {as_bytes(ann): 3}


def test_more_subjects_than_a_transaction_takes_are_all_written(database: Database) -> None:
    disclosures = Disclosures(database)
    srefs = people(database, ROWS * 9 + 5)
    left(disclosures, *srefs, *srefs)
    disclosures.flush()
    assert counted(database) == {as_bytes(sref): 2 for sref in srefs}


def test_stopping_writes_what_waits(database: Database) -> None:
    disclosures = Disclosures(database)
    (ann,) = people(database)
    disclosures.start()
    left(disclosures, ann)
    disclosures.stop()
    assert counted(database) == {as_bytes(ann): 1}


def test_nothing_is_written_about_who_was_erased(database: Database) -> None:
    disclosures = Disclosures(database)
    ann, bob = people(database, 2)
    left(disclosures, ann, bob)
    disclosures.flush()
    left(disclosures, ann, bob)
    with database.transaction() as session:
        session.execute(delete(Subject).where(Subject.sref == as_bytes(ann)))
    assert counted(database) == {as_bytes(bob): 1}
    disclosures.flush()
    assert counted(database) == {as_bytes(bob): 2}


def test_what_names_no_subject_of_ours_is_passed_over(database: Database) -> None:
    disclosures = Disclosures(database)
    (ann,) = people(database)
    left(disclosures, "x", "\u00e9", "", "A" * 22, ann)
    disclosures.flush()
    assert counted(database) == {as_bytes(ann): 1}


def test_what_cannot_be_written_is_kept_and_written_once(engines: Engines) -> None:
    url = engines.database_url()
    database = Database(url)
    disclosures = Disclosures(database)
    sref = "A" * 22
    left(disclosures, sref)
    with pytest.raises(Exception, match=r"disclosures|database_unavailable"):
        disclosures.flush()
    upgrade(url)
    with database.transaction() as session:
        session.add(Subject(sref=as_bytes(sref), provider="org_1", lookup=b"l", lookup_key_id="k", secret=b"s" * 32))
    left(disclosures, sref)
    disclosures.flush()
    disclosures.flush()
    assert counted(database) == {as_bytes(sref): 2}
    database.close()


def test_too_far_behind_it_drops_rather_than_grow(database: Database) -> None:
    disclosures = Disclosures(database, most_waiting=3)
    srefs = people(database, 5)
    for sref in srefs:
        left(disclosures, sref)
    disclosures.flush()
    assert len(counted(database)) == 3
    left(disclosures, srefs[4])
    disclosures.flush()
    assert counted(database)[as_bytes(srefs[4])] == 1


def test_replicas_that_write_the_same_rows_at_once_lose_nothing_while_people_are_erased(database: Database) -> None:
    srefs = people(database, 60)
    replicas = [Disclosures(database) for _ in range(3)]

    def deliver(disclosures: Disclosures) -> None:
        for _ in range(10):
            left(disclosures, *srefs)
            left(disclosures, *reversed(srefs), under=OTHER)
            disclosures.flush()

    def erase() -> None:
        for sref in srefs[::2]:
            with database.transaction() as session:
                session.execute(select(Subject).where(Subject.sref == as_bytes(sref)).with_for_update())
                session.execute(delete(Subject).where(Subject.sref == as_bytes(sref)))

    with ThreadPoolExecutor(4) as threads:
        for done in [*(threads.submit(deliver, replica) for replica in replicas), threads.submit(erase)]:
            done.result(timeout=60)
    for under in (UNDER, OTHER):
        assert counted(database, under) == {as_bytes(sref): 30 for sref in srefs[1::2]}


def test_rows_of_old_days_are_deleted(database: Database) -> None:
    disclosures = Disclosures(database)
    (ann,) = people(database)
    left(disclosures, ann)
    disclosures.flush()
    today = datetime.now(UTC).date()
    with database.transaction() as session:
        forget_old(session, today)
        assert session.query(Disclosure).count() == 1
        forget_old(session, today + timedelta(days=1))
        assert session.query(Disclosure).count() == 0


def test_a_database_that_is_away_says_so(database: Database) -> None:
    disclosures = Disclosures(Database("postgresql+psycopg://nobody@127.0.0.1:1/none"))
    left(disclosures, "A" * 22)
    with pytest.raises(ExchangeError, match="database_unavailable"):
        disclosures.flush()
