"""Consent over HTTP: by the dataset's owner, without its subject, applied when the call returns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jsonschema_rs
import orjson
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from consent.records import ANY_RECIPIENT
from consent.subjects import find
from gateway.audit.models import AuditEntry
from gateway.changes import ChangeRow
from gateway.database import now, rfc3339
from gateway.resources import SCHEMAS
from tests.city import FOOTFALL, City
from tests.consents.acts import ANN, asked, give, given, notice_of, passes, withdraw


def entries_of(session: Session) -> list[dict[str, Any]]:
    """The audit entries of records, in their order; those of notices are left out."""
    rows = session.scalars(select(AuditEntry).where(AuditEntry.kind == "consent").order_by(AuditEntry.number))
    return [entry for entry in (orjson.loads(row.entry) for row in rows) if "consent" in entry["detail"]]


def test_given_consent_lets_events_pass_when_the_call_returns(city: City) -> None:
    assert not passes(city)
    answer = give(city)
    assert answer.status_code == 201
    assert answer.headers["location"].endswith(f"/v1/consents/{answer.json()['id']}")
    assert answer.json()["state"] == "given"
    assert passes(city)
    assert not passes(city, "visitor-bob")


def test_withdrawn_consent_stops_events_when_the_call_returns(city: City) -> None:
    consent = given(city)
    given(city, subject="visitor-bob")
    answer = withdraw(city, consent)
    assert answer.status_code == 200, answer.text
    assert not passes(city)
    assert passes(city, "visitor-bob")
    body = answer.json()
    assert (body["state"], body["still_shared"], body["barrier"]["replicas"]) == ("withdrawn", [], 1)
    assert body["barrier"]["waited_ms"] >= 0
    with city.database.reading() as session:
        row = session.get(ChangeRow, body["barrier"]["change"])
        assert row is not None
        assert (row.kind, row.forbids) == ("consent_withdrawn", True)
    assert city.changes.applied >= body["barrier"]["change"]


def test_withdrawing_again_answers_the_same_and_does_nothing(city: City) -> None:
    consent = given(city)
    first, again = withdraw(city, consent).json(), withdraw(city, consent, city.officer).json()
    assert first["barrier"].pop("waited_ms") >= 0
    assert again["barrier"].pop("waited_ms") >= 0
    assert first == again
    with city.database.reading() as session:
        assert [entry["action"] for entry in entries_of(session)] == ["given", "withdrawn"]


def test_withdrawals_at_once_are_one(city: City) -> None:
    consent = given(city)
    with ThreadPoolExecutor(4) as threads:
        answers = [answer.json() for answer in threads.map(lambda _: withdraw(city, consent), range(4))]
    assert len({(answer["effective_at"], answer["barrier"]["change"]) for answer in answers}) == 1


def test_a_new_consent_after_a_withdrawal_is_a_new_record(city: City) -> None:
    old = given(city)
    withdraw(city, old)
    new = given(city)
    assert new != old
    assert passes(city)
    assert city.http.get(f"/v1/consents/{old}", headers=city.as_(city.provider)).json()["state"] == "withdrawn"


def test_the_subject_is_taken_and_never_returned_nor_recorded(city: City) -> None:
    answer = give(city)
    consent = answer.json()["id"]
    read = city.http.get(f"/v1/consents/{consent}", headers=city.as_(city.provider))
    found = city.http.post("/v1/consents/search", json={"dataset": FOOTFALL, "subject": ANN}, headers=city.as_(city.provider))
    withdrawn = withdraw(city, consent)
    key = city.keys.secret("subject_index")
    with city.database.reading() as session:
        sref = find(session, key.id, key.value, city.transit, "opaque", ANN) or ""
        entries = session.scalars(select(AuditEntry)).all()
        written = b"".join(row.entry + row.leaf for row in entries)
        changes = session.scalars(select(ChangeRow.object)).all()
    for text in (answer.text, read.text, found.text, withdrawn.text, written.decode()):
        assert ANN not in text
        assert sref not in text
    assert changes[-2:] == [f"{FOOTFALL} {sref} {consent}"] * 2


def test_each_act_is_recorded_with_its_change(city: City) -> None:
    consent = given(city)
    withdraw(city, consent, city.officer)
    with city.database.reading() as session:
        entries = entries_of(session)
        rows = session.scalars(select(AuditEntry).where(AuditEntry.kind == "consent")).all()
        numbers = session.scalars(select(ChangeRow.n).where(ChangeRow.kind.startswith("consent_")).order_by(ChangeRow.n)).all()
    assert [(entry["kind"], entry["action"], entry["change"]) for entry in entries] == [
        ("consent", "given", numbers[0]),
        ("consent", "withdrawn", numbers[1]),
    ]
    assert {entry["detail"]["consent"] for entry in entries} == {consent}
    assert [entry["actor"] for entry in entries] == [city.provider, city.officer]
    assert {row.provider for row in rows} == {city.transit}


def test_only_the_owner_gives_and_a_consumer_never_consents_to_itself(city: City) -> None:
    for client in (city.consumer, city.officer):
        notice = notice_of(city)
        answer = give(city, client, recipients=[city.planner], notice=notice)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_record_of_another_organization_is_not_there(city: City) -> None:
    consent = given(city)
    assert city.http.get(f"/v1/consents/{consent}", headers=city.as_(city.consumer)).status_code == 404
    assert withdraw(city, consent, city.consumer).status_code == 404
    search = {"dataset": FOOTFALL, "subject": ANN}
    assert city.http.post("/v1/consents/search", json=search, headers=city.as_(city.consumer)).status_code == 404
    assert passes(city)


def test_the_privacy_officer_reads_and_withdraws_any(city: City) -> None:
    consent = given(city)
    assert city.http.get(f"/v1/consents/{consent}", headers=city.as_(city.officer)).status_code == 200
    assert withdraw(city, consent, city.officer).status_code == 200
    assert not passes(city)


def test_search_finds_all_records_of_one_person(city: City) -> None:
    first = given(city)
    withdraw(city, first)
    second = given(city, recipients=[city.planner])
    given(city, subject="visitor-bob")

    def found(subject: str) -> list[tuple[str, str]]:
        answer = city.http.post("/v1/consents/search", json={"dataset": FOOTFALL, "subject": subject}, headers=city.as_(city.provider))
        assert answer.status_code == 200, answer.text
        return [(item["id"], item["state"]) for item in answer.json()["items"]]

    assert found(f" {ANN} ") == [(first, "withdrawn"), (second, "given")]
    assert found("visitor-nobody") == []


def test_what_was_given_is_shown_as_its_schema_says(city: City) -> None:
    schema = orjson.loads((SCHEMAS / "consent.json").read_bytes())
    validator = jsonschema_rs.Draft202012Validator(schema)
    members = {
        "notice": notice_of(city) | {"language": "fr"},
        "evidence": {"kind": "form", "digest": "sha-256=:AAAA:"},
        "valid_from": "2026-01-01T00:00:00-05:00",
        "valid_until": "2100-01-01T00:00:00Z",
    }
    consent = given(city, **members, purposes=["transit-planning", "research"])
    shown = city.http.get(f"/v1/consents/{consent}", headers=city.as_(city.provider)).json()
    assert {name: shown[name] for name in members} == members | {"valid_from": "2026-01-01T05:00:00Z"}
    assert sorted(shown["purposes"]) == ["research", "transit-planning"]
    withdraw(city, consent)
    ended = city.http.get(f"/v1/consents/{consent}", headers=city.as_(city.provider)).json()
    for document in (shown, ended, *schema["examples"]):
        validator.validate(document)
    assert ended["ended_at"] is not None


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"dataset": "stops"}, "/dataset"),
        ({"subject": "   "}, "/subject"),
        ({"subject": 4711}, "/subject"),
        ({"purposes": []}, "/purposes"),
        ({"purposes": ["world-domination"]}, "/purposes/0"),
        ({"purposes": ["research", "research"]}, "/purposes"),
        ({"recipients": [ANY_RECIPIENT, "org_nobody"]}, "/recipients/1"),
        ({"recipients": []}, "/recipients"),
        ({"given_by": "stranger"}, "/given_by"),
        ({"valid_until": "2020-01-01T00:00:00Z"}, "/valid_until"),
        ({"valid_from": "2099-01-01T00:00:00Z", "valid_until": "2098-01-01T00:00:00Z"}, "/valid_until"),
        ({"valid_until": "tomorrow"}, "/valid_until"),
        ({"valid_until": 4102444800}, "/valid_until"),
        ({"evidence": {"kind": "form"}}, "/evidence/digest"),
        ({"notice": None}, "/notice"),
        ({"notice": {"id": "n", "version": "1", "language": "en"}}, "/notice/id"),
        ({"consent": True}, "/consent"),
    ],
)
def test_consent_that_does_not_fit_is_refused_with_its_place(city: City, members: dict[str, Any], pointer: str) -> None:
    answer = give(city, **members)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert not passes(city)


def test_consent_for_an_unknown_dataset_is_not_found(city: City) -> None:
    assert give(city, dataset="nowhere").status_code == 404


@pytest.mark.parametrize("consent", ["cns_", "cns_" + "0" * 26, "x" * 300, "%00"])
def test_what_is_no_consent_is_refused(city: City, consent: str) -> None:
    answer = withdraw(city, consent)
    assert answer.status_code in {404, 422}


def test_acting_needs_its_scope(city: City) -> None:
    answer = city.http.post("/v1/consents", json=asked(city), headers=city.as_(city.provider, "consents:read"))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert city.http.post("/v1/consents", json=asked(city)).status_code == 401


def test_consent_that_begins_later_does_not_pass_yet(city: City) -> None:
    given(city, valid_from=rfc3339(now() + timedelta(days=1)))
    assert not passes(city)
