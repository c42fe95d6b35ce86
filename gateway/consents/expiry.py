"""Expiry: consent whose time is over ends by itself."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from consent.models import ConsentRecord
from consent.records import Act, move
from gateway.audit.record import Entry, record
from gateway.changes import note

OPEN = ("requested", "given", "paused")
AT_ONCE = 500
"""Records that one transaction ends."""


def any_due(session: Session, at: datetime) -> bool:
    """True if the time of a record is over that has not ended."""
    return session.execute(_due(at).limit(1)).first() is not None


def expire_due(session: Session, at: datetime) -> int:
    """End the records whose time is over, five hundred at most, and say how many there were.

    This writes down what holds already: the index lets nothing pass at or after `valid_until`.
    """
    due = session.scalars(_due(at).limit(AT_ONCE).with_for_update(skip_locked=True)).all()
    if not due:
        return 0
    change = note(session, "consents_expired", str(len(due)))
    for found in due:
        move(session, found, "expired", Act(by="time", at=found.valid_until or at, change=change))
    record(session, Entry(kind="consent", action="expired", change=change, detail={"consents": str(len(due))}))
    return len(due)


def _due(at: datetime) -> Select[ConsentRecord]:
    return select(ConsentRecord).where(ConsentRecord.state.in_(OPEN), ConsentRecord.valid_until <= at)
