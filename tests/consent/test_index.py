"""Whose events may pass, for which purpose, to whom, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from consent.index import FOREVER, ConsentIndex
from consent.models import ConsentRecord
from consent.records import ANY_RECIPIENT, Act, New, Terms, begin, name_of
from consent.states import IllegalMove, State, require_move
from consent.subjects import as_text
from gateway.database import new_id
from tests.consent.indexed import ANN, BOB, DAY_MS, GIVEN_AT, GIVEN_MS, TRANSIT, given, loaded, moved, passes


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


MOVES: list[tuple[State, int]] = [("paused", 10), ("given", 20), ("paused", 30), ("given", 40)]


def minutes(n: int) -> datetime:
    return GIVEN_AT + timedelta(minutes=n)


def ms(n: int) -> int:
    return GIVEN_MS + n * 60_000


def test_paused_consent_lets_nothing_pass_and_resumed_only_what_was_not_appended_meanwhile(session: Session) -> None:
    record = given(session)
    index = loaded(session)
    moved(session, record, "paused", minutes(10), 2)
    index.apply(session, [name_of(record)])
    assert not any(passes(index, at=ms(n), now=ms(15)) for n in (0, 5, 12))
    moved(session, record, "given", minutes(20), 3)
    index.apply(session, [name_of(record)])
    for known in (index, loaded(session)):
        assert [passes(known, at=ms(n), now=ms(30)) for n in (5, 10, 15, 20, 25)] == [True, False, False, True, True]


def test_each_pause_leaves_its_own_gap(session: Session) -> None:
    record = given(session)
    for change, (state, minute) in enumerate(MOVES, 2):
        moved(session, record, state, minutes(minute), change)
    index = loaded(session)
    assert [passes(index, at=ms(n), now=ms(50)) for n in (5, 15, 25, 35, 45)] == [True, False, True, False, True]


def test_consent_whose_notice_covers_earlier_events_leaves_no_gap(session: Session) -> None:
    record = given(session, covers_earlier=True)
    assert passes(loaded(session), at=GIVEN_MS - DAY_MS)
    moved(session, record, "paused", minutes(10), 2)
    assert not passes(loaded(session), at=GIVEN_MS - DAY_MS)
    moved(session, record, "given", minutes(20), 3)
    index = loaded(session)
    assert all(passes(index, at=at, now=ms(30)) for at in (GIVEN_MS - DAY_MS, ms(5), ms(15), ms(25)))


def test_consent_that_covers_earlier_events_does_so_from_when_it_is_valid(session: Session) -> None:
    given(session, covers_earlier=True, valid_from=minutes(10))
    index = loaded(session)
    assert not passes(index, at=GIVEN_MS - DAY_MS, now=ms(5))
    assert passes(index, at=GIVEN_MS - DAY_MS, now=ms(10))
    assert index.next_instant(GIVEN_MS) == ms(10)


def test_a_pause_does_not_lengthen_what_is_valid(session: Session) -> None:
    record = given(session, valid_until=minutes(30))
    moved(session, record, "paused", minutes(10), 2)
    moved(session, record, "given", minutes(20), 3)
    index = loaded(session)
    assert passes(index, at=ms(5), now=ms(29))
    assert not passes(index, at=ms(5), now=ms(30))


def test_another_record_covers_the_gap_of_a_paused_one(session: Session) -> None:
    paused = given(session)
    given(session, covers_earlier=True, at=minutes(1))
    moved(session, paused, "paused", minutes(10), 3)
    assert passes(loaded(session), at=ms(15), now=ms(16))


@dataclass(frozen=True)
class Told:
    n: int
    kind: str
    object: str = "2"


def test_an_import_is_applied_by_its_number(session: Session) -> None:
    index = loaded(session)
    given(session, ANN, change=7)
    given(session, BOB, change=7)
    index.on_changes(session, [Told(7, "consents_imported")])
    assert passes(index, ANN)
    assert passes(index, BOB)


def objects(index: ConsentIndex, sref: str = ANN, purposes: frozenset[str] = TRANSIT, recipient: str = "org_planner") -> bool:
    return not index.view("footfall", purposes, recipient, unless_opted_out=True)(sref, GIVEN_MS, ms(60))


def refused(session: Session, sref: str = ANN, change: int = 1, **members: Any) -> ConsentRecord:
    terms: dict[str, Any] = {"dataset": "footfall", "purposes": ["transit-planning"], "recipients": [ANY_RECIPIENT], "notice": None}
    new = New(id=new_id("cns"), sref=sref, terms=Terms(**terms | {"valid_from": GIVEN_AT} | members))
    return begin(session, new, "refused", Act(by="subject", at=GIVEN_AT, change=change))


def test_without_an_objection_everybody_passes_a_notice_with_opt_out(session: Session) -> None:
    given(session, BOB)
    index = loaded(session)
    assert not objects(index, ANN)
    assert not objects(index, BOB)


def test_an_objection_holds_for_its_purposes_and_recipients(session: Session) -> None:
    index = loaded(session)
    record = refused(session, recipients=["org_planner"])
    index.apply(session, [name_of(record)])
    for known in (index, loaded(session)):
        assert objects(known)
        assert not objects(known, BOB)
        assert not objects(known, recipient="org_other")
        assert not objects(known, purposes=frozenset({"research"}))


@pytest.mark.parametrize("state", ["paused", "withdrawn"])
def test_consent_that_the_person_took_back_is_an_objection(session: Session, state: State) -> None:
    record = given(session, recipients=[ANY_RECIPIENT])
    moved(session, record, state, minutes(1))
    assert objects(loaded(session))


def test_the_persons_last_word_counts(session: Session) -> None:
    given(session, change=1, recipients=[ANY_RECIPIENT])
    refused(session, change=2)
    assert objects(loaded(session))
    given(session, change=3, recipients=[ANY_RECIPIENT])
    assert not objects(loaded(session))
