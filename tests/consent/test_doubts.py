"""Who is in doubt: what a consent index tells of many subjects at once is never more than it tells of each."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from consent.index import FOREVER, ConsentIndex
from consent.models import ConsentRecord
from consent.records import Act, New, Terms, begin, name_of
from consent.subjects import as_text
from gateway.database import new_id
from tests.consent.indexed import ANN, BOB, DAY_MS, GIVEN_AT, GIVEN_MS, TRANSIT, given, loaded, moved, passes


def sure(index: ConsentIndex, *srefs: str, now: int = GIVEN_MS + 1, recipient: str = "org_planner") -> tuple[set[str], int]:
    """Who is in no doubt, and since when."""
    doubtful, since = index.doubt_view("footfall", TRANSIT, recipient)(frozenset(srefs), now)
    return set(srefs) - doubtful, since


def test_who_is_in_no_doubt_passes_with_whatever_was_appended_since_the_instant_that_is_told(session: Session) -> None:
    given(session, ANN)
    given(session, BOB, at=GIVEN_AT + timedelta(days=1))
    index = loaded(session)
    found, since = sure(index, ANN, BOB, now=GIVEN_MS + DAY_MS)
    assert (found, since) == ({ANN, BOB}, GIVEN_MS + DAY_MS)
    assert all(passes(index, sref, at=since, now=GIVEN_MS + DAY_MS) for sref in found)


def test_nobody_is_sure_while_the_newest_consent_is_not_in_force_by_the_clock(session: Session) -> None:
    given(session)
    assert sure(loaded(session), ANN, now=GIVEN_MS - 1)[0] == set()


def test_who_is_not_covered_is_not_sure(session: Session) -> None:
    given(session, ANN)
    given(session, BOB, purposes=["research"])
    index = loaded(session)
    assert sure(index, ANN, BOB, as_text(b"c" * 16))[0] == {ANN}
    assert sure(index, ANN, BOB, recipient="org_other")[0] == set()


def test_whoever_withdraws_pauses_or_is_gone_is_not_sure_any_more(session: Session) -> None:
    records = {sref: given(session, sref) for sref in (ANN, BOB, as_text(b"c" * 16), as_text(b"d" * 16))}
    index = loaded(session)
    ask = index.doubt_view("footfall", TRANSIT, "org_planner")
    assert ask(frozenset(records), GIVEN_MS)[0] == set()
    ann, bob, carol, _ = records
    moved(session, records[ann], "withdrawn")
    moved(session, records[bob], "paused")
    names = [name_of(record) for record in records.values()]
    session.execute(delete(ConsentRecord).where(ConsentRecord.id == records[carol].id))
    index.apply(session, names)
    assert ask(frozenset(records), GIVEN_MS)[0] == {ann, bob, carol}


def test_whoever_resumed_is_asked_of_one_by_one(session: Session) -> None:
    record = given(session)
    moved(session, record, "paused", at=GIVEN_AT + timedelta(hours=1))
    moved(session, record, "given", at=GIVEN_AT + timedelta(hours=2), change=3)
    index = loaded(session)
    assert sure(index, ANN, now=GIVEN_MS + DAY_MS)[0] == set()
    assert passes(index, at=GIVEN_MS + DAY_MS, now=GIVEN_MS + DAY_MS)


def test_nobody_is_sure_from_an_end_on_until_it_is_noticed_and_then_all_others(session: Session) -> None:
    given(session, ANN)
    given(session, BOB, valid_until=GIVEN_AT + timedelta(days=1))
    index = loaded(session)
    ends = GIVEN_MS + DAY_MS
    assert sure(index, ANN, BOB, now=ends - 1)[0] == {ANN, BOB}
    assert sure(index, ANN, BOB, now=ends)[0] == set()
    assert index.next_instant(ends) == FOREVER
    assert sure(index, ANN, BOB, now=ends)[0] == {ANN}


def test_consent_that_begins_later_is_not_sure_and_holds_nobody_back(session: Session) -> None:
    given(session, ANN)
    new = Terms(
        dataset="footfall",
        purposes=["transit-planning"],
        recipients=["org_planner"],
        notice=None,
        valid_from=GIVEN_AT + timedelta(days=1),
    )
    begin(session, New(id=new_id("cns"), sref=BOB, terms=new), "given", Act(by="subject", at=GIVEN_AT, change=2))
    assert sure(loaded(session), ANN, BOB, now=GIVEN_MS + 2 * DAY_MS) == ({ANN}, GIVEN_MS)


def test_whoever_has_two_records_is_in_no_doubt_by_the_one_that_covers(session: Session) -> None:
    given(session, ANN, purposes=["research"])
    given(session, ANN, at=GIVEN_AT + timedelta(days=1), purposes=["city-operations"])
    given(session, BOB)
    index = loaded(session)
    assert sure(index, ANN, BOB, now=GIVEN_MS) == ({BOB}, GIVEN_MS)
    assert sure(index, ANN, now=GIVEN_MS + DAY_MS) == ({ANN}, GIVEN_MS + DAY_MS)
