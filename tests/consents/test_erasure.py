"""Erasure over HTTP: everything that leads to a person is gone when the call returns, and nobody is named by what stays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from consent.erasure import ErasedSubject
from consent.models import ConsentRecord, StateChange, Subject
from consent.subjects import as_bytes, as_text, find, secrets_of, sref_of
from gateway.access.lens import contract_key, pseudonym
from gateway.access.models import DecisionRow
from gateway.audit.models import AuditEntry
from gateway.audit.record import Entry, record
from gateway.changes import ChangeRow
from gateway.contracts.models import Contract
from gateway.database import new_id, now
from gateway.notices.models import Notice
from tests.city import FOOTFALL, City
from tests.consents.acts import ANN, given, passes

BOB = "visitor-bob"


def erase(city: City, subject: str = ANN, client: str | None = None, dataset: str = FOOTFALL) -> Any:
    body = {"dataset": dataset, "subject": subject}
    return city.http.post("/v1/subjects/erase", json=body, headers=city.as_(client or city.provider))


def sref(city: City, subject: str = ANN, owner: str | None = None) -> str | None:
    key = city.keys.secret("subject_index")
    with city.database.reading() as session:
        return find(session, key.id, key.value, owner or city.transit, "opaque", subject)


def known(city: City, subject: str = ANN, owner: str | None = None) -> str:
    """The `sref` of a person, who is known from now on."""
    key = city.keys.secret("subject_index")
    with city.database.transaction() as session:
        return sref_of(session, key.id, key.value, owner or city.transit, "opaque", subject)


def contract(city: City, state: str = "active", history: str = "none", *, received: bool = True, period: str | None = None) -> str:
    """A contract of the planner, in force for ten days, with a decision that pseudonymises."""
    made, at = new_id("con"), now()
    obligation = {"kind": "pseudonymise", "pointer": "/visitor"} | ({"period": period} if period else {})
    terms: dict[str, Any] = {"history": history, "valid_from": at - timedelta(days=10), "valid_until": at + timedelta(days=10)}
    with city.database.transaction() as session:
        session.add(
            Contract(
                id=made,
                state=state,
                provider_id=city.transit,
                consumer_id=city.planner,
                dataset_slug=FOOTFALL,
                purpose="transit-planning",
                text=b"",
                text_digest="",
                decision_id="",
                created_at=at,
                **terms,
            )
        )
        session.add(
            DecisionRow(
                id=new_id("dec"),
                at=at,
                action="receive",
                dataset_slug=FOOTFALL,
                contract_id=made,
                facts=b"{}",
                allow=True,
                reasons=[],
                obligations=[obligation],
                revision="pol_1",
                until=at,
            )
        )
        if received:
            record(session, Entry(kind="release", action="deliver", contract=made, dataset=FOOTFALL))
    return made


def notices(city: City) -> list[dict[str, Any]]:
    with city.database.reading() as session:
        rows = session.scalars(select(Notice).where(Notice.type == "erasure.requested").order_by(Notice.n)).all()
        assert all(row.organization_id == city.planner and row.must_acknowledge_by is not None for row in rows)
        return [row.data for row in rows]


def test_an_erased_person_is_found_by_nothing_when_the_call_returns(city: City) -> None:
    given(city)
    given(city, subject=BOB)
    was = sref(city)
    assert was is not None
    answer = erase(city)
    assert answer.status_code == 200, answer.text
    assert answer.json() | {"barrier": None} == {"state": "erased", "found": True, "told": 0, "barrier": None}
    assert city.changes.applied >= answer.json()["barrier"]["change"]
    assert sref(city) is None
    assert passes(city, BOB)
    instant = 1 << 41
    assert not city.consents.covers(FOOTFALL, frozenset({"transit-planning"}), "org_any", was, instant, instant), "the index forgot"
    with city.database.reading() as session:
        assert secrets_of(session, [was]) == {}
        for table in (Subject, ConsentRecord):
            assert as_bytes(was) not in session.scalars(select(table.sref)).all()
        assert {row.consent_id for row in session.scalars(select(StateChange))} == set(session.scalars(select(ConsentRecord.id)))
        assert session.scalars(select(ErasedSubject.sref)).all() == [as_bytes(was)]


def test_a_later_event_is_about_a_new_subject_without_consent(city: City) -> None:
    given(city)
    was = sref(city)
    erase(city)
    assert known(city) != was
    assert not passes(city)
    given(city)
    assert passes(city)


def test_the_audit_entry_names_nobody(city: City) -> None:
    given(city)
    was = sref(city)
    change = erase(city).json()["barrier"]["change"]
    with city.database.reading() as session:
        (row,) = session.scalars(select(AuditEntry).where(AuditEntry.kind == "subject")).all()
        noted = session.get(ChangeRow, change)
    entry = orjson.loads(row.entry)
    assert (entry["action"], entry["actor"], entry["dataset"], entry["change"]) == ("erased", city.provider, FOOTFALL, change)
    assert noted is not None
    assert (noted.kind, noted.object, noted.forbids) == ("subject_erased", f"{FOOTFALL} {was}", True)
    for name in (ANN, was, "cns_"):
        assert name is not None
        assert name.encode() not in row.entry + row.leaf


def test_erasing_again_or_somebody_unknown_does_nothing_and_says_so(city: City) -> None:
    given(city)
    first = erase(city).json()["barrier"]["change"]
    for answer in (erase(city), erase(city, "visitor-nobody-ever-saw")):
        assert answer.status_code == 200
        assert answer.json()["found"] is False
        assert answer.json()["barrier"]["change"] >= first
    with city.database.reading() as session:
        assert len(session.scalars(select(AuditEntry).where(AuditEntry.kind == "subject")).all()) == 1
    assert sref(city, "visitor-nobody-ever-saw") is None, "nobody is minted to be erased"


def test_two_who_erase_at_once_erase_once(city: City) -> None:
    given(city)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: erase(city), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert sum(answer.json()["found"] for answer in answers) == 1


def test_consent_given_during_an_erasure_is_the_new_persons_or_nobodys(city: City) -> None:
    known(city)
    with ThreadPoolExecutor(8) as pool:
        giving = [pool.submit(given, city) for _ in range(3)]
        erasing = [pool.submit(erase, city) for _ in range(3)]
        assert all(future.result().status_code == 200 for future in erasing)
        assert all(future.result().startswith("cns_") for future in giving)
    with city.database.reading() as session:
        gone = set(session.scalars(select(ErasedSubject.sref)))
        assert gone.isdisjoint(session.scalars(select(Subject.sref)))
        assert gone.isdisjoint(session.scalars(select(ConsentRecord.sref))), "no consent is kept of who is gone"


def test_the_owner_and_the_officer_erase_and_others_find_no_such_dataset(city: City) -> None:
    given(city)
    denied = erase(city, client=city.consumer)
    assert (denied.status_code, denied.json()["code"]) == (404, "not_found")
    assert sref(city) is not None
    assert erase(city, client=city.officer).json()["found"] is True
    assert sref(city) is None


def test_it_needs_the_scope_to_write_consent(city: City) -> None:
    answer = city.http.post(
        "/v1/subjects/erase", json={"dataset": FOOTFALL, "subject": ANN}, headers=city.as_(city.provider, "consents:read")
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


@pytest.mark.parametrize(
    ("dataset", "subject", "code"),
    [
        ("stops", ANN, "invalid_body"),
        ("nowhere", ANN, "not_found"),
        (FOOTFALL, "  ", "invalid_body"),
        (FOOTFALL, "x" * 513, "invalid_body"),
    ],
)
def test_what_cannot_be_erased_is_refused_without_repeating_it(city: City, dataset: str, subject: str, code: str) -> None:
    answer = erase(city, subject, dataset=dataset)
    assert answer.json()["code"] == code
    assert "x" * 20 not in answer.text


def test_the_same_name_with_another_provider_stays(city: City) -> None:
    known(city)
    other = known(city, owner=city.planner)
    erase(city)
    assert sref(city, owner=city.planner) == other


def test_recipients_are_told_by_contract_and_by_the_name_that_they_know(city: City) -> None:
    was = known(city)
    with city.database.reading() as session:
        secret = secrets_of(session, [was])[was]
    received, ended, unread = contract(city), contract(city, "ended"), contract(city, received=False)
    assert erase(city).json()["told"] == 2
    assert [data["contract"] for data in notices(city)] == [received, ended]
    assert unread not in str(notices(city))
    for data in notices(city):
        assert data["dataset"] == FOOTFALL
        assert data["pseudonyms"] == [pseudonym(contract_key(city.keys, data["contract"]), 0, secret)]


def test_pseudonyms_of_a_period_are_told_for_each_period_of_the_contract(city: City) -> None:
    known(city)
    contract(city, period="P1D")
    contract(city, period="P1D", history="P5D")
    contract(city, period="PT1M", history="all")
    erase(city)
    assert [len(data["pseudonyms"]) for data in notices(city)] == [11, 16, 1000]


def test_nobody_is_told_of_somebody_unknown(city: City) -> None:
    contract(city)
    erase(city)
    assert notices(city) == []


def test_an_erasure_that_cannot_be_recorded_is_not_done(city: City) -> None:
    given(city)
    was = sref(city)
    with city.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO elsewhere")
    city.http = type(city.http)(city.http.app, base_url=str(city.http.base_url), raise_server_exceptions=False)
    assert erase(city).status_code >= 500
    assert sref(city) == was
    assert passes(city)


def test_an_sref_is_told_by_no_answer(city: City) -> None:
    given(city)
    was = sref(city)
    assert was is not None
    assert was not in erase(city).text
    assert as_text(as_bytes(was)) == was
