"""Deleting entries and their salts when they have been kept long enough. Their leaves stay, and the log is whole."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from gateway.audit.models import AuditEntry, AuditLeaf
from gateway.audit.proofs import newest
from gateway.audit.record import Entry, record
from gateway.audit.tiles import Tiles
from gateway.database import rfc3339

MOST_AT_ONCE = 10_000


def forget_entries(session: Session, tiles: Tiles, before: datetime) -> int:
    """Delete published entries from before this instant, `MOST_AT_ONCE` at most, and return how many; that it was done is an entry too.

    The newest entry stays, whatever its age: the log's time and SQLite's numbers go on from it.
    """
    checkpoint = newest(tiles)
    if checkpoint is None:
        return 0
    published = AuditLeaf.number == AuditEntry.number, AuditLeaf.index < checkpoint.size
    newest_number = select(func.max(AuditEntry.number)).scalar_subquery()
    old = select(AuditEntry.number).join(AuditLeaf, published[0]).where(published[1], AuditEntry.at < before)
    numbers = session.scalars(old.where(AuditEntry.number < newest_number).order_by(AuditEntry.at).limit(MOST_AT_ONCE)).all()
    if not numbers:
        return 0
    session.execute(delete(AuditEntry).where(AuditEntry.number.in_(numbers)))
    record(session, Entry(kind="audit", action="forgotten", detail={"before": rfc3339(before), "entries": str(len(numbers))}))
    return len(numbers)
