"""What was appended without an entry is found, whatever was published before and after it."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, insert, select

from gateway.audit.models import AuditEntry, PublishedRange
from gateway.audit.published import Published, compact, name_uncovered, uncovered
from gateway.audit.record import Entry
from gateway.database import Database


def publish(database: Database, *spans: tuple[int, int], topic: str = "topic", partition: int = 0) -> None:
    with database.transaction() as session:
        session.execute(insert(PublishedRange), [Published(topic, partition, first, after)._asdict() for first, after in spans])


def missing(database: Database, earliest: int, end: int) -> list[tuple[int, int]]:
    with database.reading() as session:
        return uncovered(session, "topic", 0, earliest, end)


def rows(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(PublishedRange)) or 0


def test_without_any_entry_everything_is_uncovered(database: Database) -> None:
    assert missing(database, 5, 9) == [(5, 9)]
    assert missing(database, 5, 5) == []


def test_holes_before_between_and_after_are_found(database: Database) -> None:
    publish(database, (10, 20), (20, 30), (35, 40))
    assert missing(database, 0, 50) == [(0, 10), (30, 35), (40, 50)]


def test_only_what_the_log_still_has_is_asked_for(database: Database) -> None:
    publish(database, (0, 10), (12, 20))
    assert missing(database, 11, 15) == [(11, 12)]
    assert missing(database, 13, 18) == []


def test_spans_that_overlap_or_lie_within_another_hide_nothing(database: Database) -> None:
    publish(database, (0, 100), (10, 20), (90, 110), (120, 130))
    assert missing(database, 0, 140) == [(110, 120), (130, 140)]


def test_other_partitions_and_topics_cover_nothing_here(database: Database) -> None:
    publish(database, (0, 10), partition=1)
    publish(database, (0, 10), topic="recreated")
    assert missing(database, 0, 10) == [(0, 10)]


def test_compacting_leaves_few_rows_and_the_same_holes(database: Database) -> None:
    drawn = random.Random(3)
    spans = [(first, first + drawn.randint(1, 9)) for first in (drawn.randrange(2000) for _ in range(400))]
    publish(database, *spans)
    publish(database, (0, 1), (1, 2), (5, 6), partition=1)
    covered = {offset for first, after in spans for offset in range(first, after)}
    before = missing(database, 0, 2100)
    assert {offset for first, after in before for offset in range(first, after)} == set(range(2100)) - covered
    count = rows(database)
    with database.transaction() as session:
        gone = compact(session)
    assert rows(database) == count - gone
    assert rows(database) <= len(before) + 1 + 2
    assert missing(database, 0, 2100) == before
    with database.transaction() as session:
        assert compact(session) == 0


def test_of_several_who_find_the_same_hole_at_once_one_writes_its_entry(database: Database) -> None:
    publish(database, (0, 10))
    found = threading.Barrier(4)

    def recover() -> list[tuple[int, int]]:
        assert missing(database, 0, 20) == [(10, 20)]
        found.wait(10)
        with database.transaction() as session:
            return name_uncovered(session, "topic", 0, 0, 20, lambda _first, _next: Entry(kind="publish_recovered", action="publish"))

    with ThreadPoolExecutor(4) as pool:
        named = [span for recovery in [pool.submit(recover) for _ in range(4)] for span in recovery.result()]
    assert named == [(10, 20)]
    assert missing(database, 0, 20) == []
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(AuditEntry)) == 1
