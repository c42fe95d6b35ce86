"""Records of consent in a database, and the index of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from consent.index import ConsentIndex
from consent.models import ConsentRecord
from consent.records import Act, New, Terms, begin, move
from consent.states import State
from consent.subjects import as_text
from gateway.database import new_id

GIVEN_AT = datetime(2026, 11, 23, 12, 0, 0, 250_900, UTC)
GIVEN_MS = 1_795_435_200_250
DAY_MS = 86_400_000
ANN, BOB = as_text(b"a" * 16), as_text(b"b" * 16)
TRANSIT = frozenset({"transit-planning", "city-operations"})
"""A contract's purpose with its broader one."""


def given(session: Session, sref: str = ANN, change: int = 1, at: datetime = GIVEN_AT, **members: Any) -> ConsentRecord:
    terms: dict[str, Any] = {
        "dataset": "footfall",
        "purposes": ["transit-planning"],
        "recipients": ["org_planner"],
        "notice": None,
        "valid_from": at,
    }
    new = New(id=new_id("cns"), sref=sref, terms=Terms(**terms | members))
    return begin(session, new, "given", Act(by="subject", at=at, change=change))


def moved(session: Session, record: ConsentRecord, state: State, at: datetime = GIVEN_AT, change: int = 2) -> None:
    move(session, record, state, Act(by="subject", at=at, change=change))


def loaded(session: Session) -> ConsentIndex:
    index = ConsentIndex()
    index.load(session)
    return index


def passes(index: ConsentIndex, sref: str = ANN, at: int = GIVEN_MS, now: int = GIVEN_MS + 1, **asked: Any) -> bool:
    asked = {"dataset": "footfall", "purposes": TRANSIT, "recipient": "org_planner"} | asked
    return index.covers(asked["dataset"], asked["purposes"], asked["recipient"], sref, at, now)
