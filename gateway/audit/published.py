"""Which offsets of the log stand in a publish entry, and which do not: a crash between append and entry leaves some out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, delete, func, insert, select
from sqlalchemy.orm import Session

from gateway.audit.models import PublishedRange
from gateway.audit.record import Entry, record

ONE_AT_A_TIME = 0x7075626C697368
"""The number of PostgreSQL's advisory lock that whoever names what is uncovered holds ("publish" in ASCII)."""


class Published(NamedTuple):
    """Offsets `first` to `next - 1` of a partition, named by one publish entry."""

    topic_id: str
    partition: int
    first: int
    next: int


def uncovered(session: Session, topic_id: str, partition: int, earliest: int, end: int) -> list[tuple[int, int]]:
    """The spans (first, next) of `earliest` to `end - 1` that no publish entry names, gaps in the offsets included."""
    row = PublishedRange
    inside = and_(row.topic_id == topic_id, row.partition == partition, row.next > earliest, row.first < end)
    missing: list[tuple[int, int]] = []
    reached = earliest
    for _, _, first, after, _ in session.execute(_joined(inside)):
        if first > reached:
            missing.append((reached, first))
        reached = max(reached, after)
    if reached < end:
        missing.append((reached, end))
    return missing


def name_uncovered(
    session: Session, topic_id: str, partition: int, earliest: int, end: int, entry: Callable[[int, int], Entry]
) -> list[tuple[int, int]]:
    """Record `entry(first, next)` for each span that no publish entry names, within the caller's transaction, and return the spans.

    Several processes may find the same hole: they come one at a time, each sees what the one before has named, and one entry is written.
    """
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer
        session.execute(select(func.pg_advisory_xact_lock(ONE_AT_A_TIME)))
    spans = uncovered(session, topic_id, partition, earliest, end)
    for first, after in spans:
        record(session, entry(first, after))
    if spans:
        session.execute(insert(PublishedRange), [Published(topic_id, partition, first, after)._asdict() for first, after in spans])
    return spans


def compact(session: Session) -> int:
    """Put spans that touch or overlap into one row each, and return how many rows went. Safe beside a running writer."""
    gone = 0
    for topic_id, partition, first, after, rows in session.execute(_joined()).all():
        if rows == 1:
            continue
        row = PublishedRange
        inside = and_(row.topic_id == topic_id, row.partition == partition, row.first >= first, row.next <= after)
        session.execute(delete(row).where(inside))
        session.execute(insert(row), [Published(topic_id, partition, first, after)._asdict()])
        gone += rows - 1
    return gone


def _joined(*where: ColumnElement[bool]) -> Select[str, int, int, int, int]:
    """(topic id, partition, first, next, number of rows) of each run of spans without a hole between them, in order."""
    row = PublishedRange
    there = (row.topic_id, row.partition)
    reached = func.max(row.next).over(partition_by=there, order_by=(row.first, row.number), rows=(None, -1))
    opens = case((row.first <= reached, 0), else_=1).label("opens")
    marked = select(row.topic_id, row.partition, row.first, row.next, row.number, opens).where(*where).subquery()
    seen = marked.c
    run = func.sum(seen.opens).over(partition_by=(seen.topic_id, seen.partition), order_by=(seen.first, seen.number)).label("run")
    numbered = select(seen.topic_id, seen.partition, seen.first, seen.next, run).subquery()
    whole = numbered.c
    return (
        select(whole.topic_id, whole.partition, func.min(whole.first), func.max(whole.next), func.count())
        .group_by(whole.topic_id, whole.partition, whole.run)
        .order_by(whole.topic_id, whole.partition, func.min(whole.first))
    )
