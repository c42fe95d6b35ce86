"""Whose events may pass, for which purpose, to whom, and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from consent.index import FOREVER, ConsentIndex
from consent.models import ConsentRecord
from consent.records import ANY_RECIPIENT, Act, New, Terms, begin, move, name_of
from consent.states import IllegalMove, State, require_move
from consent.subjects import as_text
from gateway.database import Database, new_id

GIVEN_AT = datetime(2026, 11, 23, 12, 0, 0, 250_900, UTC)
GIVEN_MS = 1_795_435_200_250
DAY_MS = 86_400_000
ANN, BOB = as_text(b"a" * 16), as_text(b"b" * 16)
TRANSIT = frozenset({"transit-planning", "city-operations"})
"""A contract's purpose with its broader one."""


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.transaction() as opened:
        yield opened


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


def test_an_event_passes_with_the_consent_of_its_subject_and_no_other(session: Session) -> None:
    given(session, ANN)
    index = loaded(session)
    assert passes(index, ANN)
    assert not passes(index, BOB)


def test_consent_covers_the_recipients_that_it_names(session: Session) -> None:
    given(session, ANN)
    given(session, BOB, recipients=[ANY_RECIPIENT])
    index = loaded(session)
    assert not passes(index, ANN, recipient="org_other")
    assert passes(index, BOB, recipient="org_other")


def test_consent_to_a_purpose_covers_its_narrower_ones_and_never_broader(session: Session) -> None:
    given(session, ANN, purposes=["city-operations"])
    given(session, BOB, purposes=["transit-planning"])
    index = loaded(session)
    assert passes(index, ANN, purposes=TRANSIT)
    assert not passes(index, BOB, purposes=frozenset({"city-operations"}))
    assert not passes(index, ANN, purposes=frozenset({"research"}))


def test_consent_is_for_one_dataset(session: Session) -> None:
    given(session)
    assert not passes(loaded(session), dataset="stops")


def test_an_event_from_before_the_consent_does_not_pass(session: Session) -> None:
    given(session)
    index = loaded(session)
    assert passes(index, at=GIVEN_MS)
    assert not passes(index, at=GIVEN_MS - 1)


def test_valid_from_in_the_past_does_not_reach_back_before_it_was_given(session: Session) -> None:
    given(session, valid_from=GIVEN_AT - timedelta(days=30))
    assert not passes(loaded(session), at=GIVEN_MS - 1)


def test_consent_begins_at_valid_from_and_ends_before_valid_until(session: Session) -> None:
    given(session, valid_from=GIVEN_AT + timedelta(days=1), valid_until=GIVEN_AT + timedelta(days=2))
    index = loaded(session)
    assert not passes(index, at=GIVEN_MS, now=GIVEN_MS + DAY_MS)
    assert not passes(index, at=GIVEN_MS + DAY_MS, now=GIVEN_MS)
    assert passes(index, at=GIVEN_MS + DAY_MS, now=GIVEN_MS + 2 * DAY_MS - 1)
    assert not passes(index, at=GIVEN_MS + DAY_MS, now=GIVEN_MS + 2 * DAY_MS)


def test_times_of_another_zone_are_the_instants_that_they_name(session: Session) -> None:
    toronto = timezone(timedelta(hours=-5))
    given(session, valid_from=GIVEN_AT.astimezone(toronto), valid_until=(GIVEN_AT + timedelta(hours=1)).astimezone(toronto))
    session.flush()
    session.expire_all()
    index = loaded(session)
    assert passes(index, now=GIVEN_MS + 3_599_999)
    assert not passes(index, now=GIVEN_MS + 3_600_000)


def test_withdrawn_consent_leaves_the_index_and_open_views_see_it(session: Session) -> None:
    record, other = given(session, ANN), given(session, BOB)
    index = loaded(session)
    view = index.view("footfall", TRANSIT, "org_planner")
    assert view(ANN, GIVEN_MS, GIVEN_MS)
    moved(session, record, "withdrawn", change=2)
    index.apply(session, [name_of(record)])
    assert not view(ANN, GIVEN_MS, GIVEN_MS)
    assert view(BOB, GIVEN_MS, GIVEN_MS)
    assert other.state == "given"


def test_a_view_made_before_the_first_consent_sees_it(session: Session) -> None:
    index = loaded(session)
    view = index.view("footfall", TRANSIT, "org_planner")
    record = given(session)
    index.apply(session, [name_of(record)])
    assert view(ANN, GIVEN_MS, GIVEN_MS)


def test_another_record_of_the_same_person_goes_on(session: Session) -> None:
    one, two = given(session), given(session, purposes=["city-operations"])
    index = loaded(session)
    moved(session, one, "withdrawn", change=3)
    index.apply(session, [name_of(one)])
    assert passes(index)
    moved(session, two, "withdrawn", change=4)
    index.apply(session, [name_of(two)])
    assert not passes(index)


def test_withdrawal_for_one_dataset_leaves_the_other(session: Session) -> None:
    here, _ = given(session), given(session, dataset="sensors")
    index = loaded(session)
    moved(session, here, "withdrawn", change=3)
    index.apply(session, [name_of(here)])
    assert not passes(index)
    assert passes(index, dataset="sensors")


def test_a_change_that_arrives_late_undoes_nothing(session: Session) -> None:
    record = given(session)
    moved(session, record, "withdrawn", change=2)
    index = loaded(session)
    index.apply(session, [name_of(record)])
    index.apply(session, [name_of(record)])
    assert not passes(index)


def test_a_record_that_is_gone_leaves_the_index(session: Session) -> None:
    record = given(session)
    index = loaded(session)
    name = name_of(record)
    session.execute(delete(ConsentRecord))
    index.apply(session, [name])
    assert not passes(index)


def test_following_changes_gives_what_loading_gives(session: Session) -> None:
    index = loaded(session)
    people = [as_text(n.to_bytes(16, "big")) for n in range(1200)]
    records = [given(session, sref) for sref in people]
    index.apply(session, map(name_of, records))
    for record in records[::3]:
        moved(session, record, "withdrawn", change=2)
    index.apply(session, map(name_of, records[::3]))
    fresh = loaded(session)
    assert [passes(index, sref) for sref in people] == [passes(fresh, sref) for sref in people]
    assert sum(passes(index, sref) for sref in people) == 800


def test_the_next_instant_that_matters_is_told(session: Session) -> None:
    given(session, valid_from=GIVEN_AT + timedelta(days=1), valid_until=GIVEN_AT + timedelta(days=2))
    given(session, BOB)
    index = loaded(session)
    assert index.next_instant(GIVEN_MS) == GIVEN_MS + DAY_MS
    assert index.next_instant(GIVEN_MS + DAY_MS) == GIVEN_MS + 2 * DAY_MS
    assert index.next_instant(GIVEN_MS + 2 * DAY_MS) == FOREVER


def test_withdrawn_is_final(session: Session) -> None:
    record = given(session)
    moved(session, record, "withdrawn", change=2)
    with pytest.raises(IllegalMove) as refused:
        moved(session, record, "withdrawn", change=3)
    assert refused.value.legal == []
    with pytest.raises(IllegalMove):
        require_move(record.state, "given", "subject")
