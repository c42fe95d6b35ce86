"""What happens to a record after it was made, over HTTP."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from consent.models import ConsentRecord
from gateway.audit.models import AuditEntry
from gateway.changes import ChangeRow
from gateway.consents.expiry import any_due, expire_due
from gateway.database import now, rfc3339
from tests.city import City
from tests.consents.acts import act, give, given, passes

VERBS = ("give", "refuse", "withdraw", "pause", "resume", "revoke", "invalidate")
BODIES = {"give": {"given_by": "subject"}}


def record(city: City, consent: str) -> dict[str, Any]:
    return dict(city.http.get(f"/v1/consents/{consent}", headers=city.as_(city.provider)).json())


def states(city: City, consent: str) -> list[tuple[str, str]]:
    return [(step["state"], step["by"]) for step in record(city, consent)["history"]]


def instant() -> int:
    return time.time_ns() // 1_000_000


def test_consent_is_asked_for_and_given(city: City) -> None:
    asked = give(city, state="requested", given_by=None).json()
    assert (asked["state"], asked["given_by"], asked["given_at"], asked["withdrawal_code"]) == ("requested", None, None, None)
    assert not passes(city)
    answer = act(city, asked["id"], "give", {"given_by": "guardian", "evidence": {"kind": "form", "digest": "x"}}).json()
    assert (answer["state"], answer["given_by"], answer["evidence"]["kind"]) == ("given", "guardian", "form")
    assert answer["withdrawal_code"].startswith("W-")
    assert passes(city)
    assert states(city, asked["id"]) == [("requested", "provider"), ("given", "guardian")]
    again = act(city, asked["id"], "give", {"given_by": "guardian"})
    assert (again.status_code, again.json()["withdrawal_code"]) == (200, None)


def test_consent_is_asked_for_and_refused(city: City) -> None:
    asked = give(city, state="requested", given_by=None).json()["id"]
    assert act(city, asked, "refuse").json()["state"] == "refused"
    assert not passes(city)
    assert act(city, asked, "give", {"given_by": "subject"}).json()["legal"] == []


def test_paused_consent_lets_nothing_pass_until_it_is_resumed_and_not_what_came_meanwhile(city: City) -> None:
    consent = given(city)
    before = instant() + 1
    time.sleep(0.01)
    paused = act(city, consent, "pause", {"asked_by": "subject", "reason": "on holiday"}).json()
    assert (paused["state"], paused["still_shared"]) == ("paused", [])
    assert paused["effective_at"] == record(city, consent)["history"][-1]["at"]
    assert not passes(city)
    meanwhile = instant() + 1
    time.sleep(0.01)
    resumed = act(city, consent, "resume").json()
    assert (resumed["state"], resumed["withdrawal_code"]) == ("given", None)
    assert passes(city)
    assert passes(city, appended_ms=before)
    assert not passes(city, appended_ms=meanwhile)
    assert states(city, consent) == [("given", "subject"), ("paused", "subject"), ("given", "subject")]
    assert resumed["history"][1]["reason"] == "on holiday"


def test_revoked_by_the_provider_and_by_the_city(city: City) -> None:
    one, two = given(city), given(city, subject="visitor-bob")
    assert act(city, one, "revoke", {"reason": "The study has ended."}).json()["state"] == "revoked"
    assert act(city, two, "revoke", client=city.officer).json()["state"] == "revoked"
    assert [states(city, each)[-1] for each in (one, two)] == [("revoked", "provider"), ("revoked", "officer")]
    assert not passes(city)
    assert not passes(city, "visitor-bob")


def test_consent_that_never_was_valid_is_invalidated(city: City) -> None:
    consent = given(city)
    assert act(city, consent, "invalidate", {"reason": "Taken down under another's name."}).json()["state"] == "invalidated"
    assert not passes(city)


def test_the_officer_withdraws_for_a_person_who_asks_in_person(city: City) -> None:
    given(city)
    search = {"dataset": "port-credit-footfall", "subject": "visitor-ann"}
    found = city.http.post("/v1/consents/search", json=search, headers=city.as_(city.officer)).json()["items"]
    answer = act(city, found[0]["id"], "withdraw", {"asked_by": "subject"}, city.officer)
    assert answer.json()["state"] == "withdrawn"
    assert not passes(city)
    assert states(city, found[0]["id"])[-1] == ("withdrawn", "subject")
    with city.database.reading() as session:
        acts = select(AuditEntry).where(AuditEntry.kind == "consent").order_by(AuditEntry.number.desc())
        entry = session.scalars(acts.limit(1)).one()
    assert entry.actor == city.officer


def test_the_officer_gives_and_resumes_nothing_in_a_persons_place(city: City) -> None:
    consent = given(city)
    act(city, consent, "pause")
    for verb, body in (("resume", None), ("give", {"given_by": "subject"}), ("receipt", None)):
        assert act(city, consent, verb, body, city.officer).json()["code"] == "role_missing"
    assert not passes(city)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("ended", ["withdraw", "revoke", "invalidate"])
def test_a_record_that_has_ended_ends_no_other_way_and_does_not_come_back(city: City, ended: str, verb: str) -> None:
    consent = given(city)
    act(city, consent, ended)
    before = record(city, consent)
    answer = act(city, consent, verb, BODIES.get(verb))
    assert (answer.status_code, answer.json().get("legal")) == ((200, None) if verb == ended else (409, []))
    assert record(city, consent) == before


def test_the_verbs_of_a_request_do_not_touch_what_is_given(city: City) -> None:
    consent = given(city)
    for verb in ("refuse", "resume"):
        answer = act(city, consent, verb)
        assert (answer.status_code, answer.json()["code"]) == (409, "illegal_state")
        assert "withdrawn" in answer.json()["legal"]


@pytest.mark.parametrize(("verb", "body"), [("pause", {"asked_by": "provider"}), ("resume", {"asked_by": "officer"}), ("give", {})])
def test_nobody_speaks_in_a_persons_place(city: City, verb: str, body: dict[str, str]) -> None:
    assert act(city, given(city), verb, body).json()["code"] == "invalid_body"


@pytest.mark.parametrize("verb", VERBS)
def test_a_stranger_moves_nothing(city: City, verb: str) -> None:
    consent = given(city)
    assert act(city, consent, verb, BODIES.get(verb), city.consumer).json()["code"] == "not_found"
    assert passes(city)


@pytest.mark.parametrize("other", ["pause", "revoke"])
def test_of_two_contradicting_acts_at_once_both_are_written_in_an_order_or_one_is_refused(city: City, other: str) -> None:
    consents = [given(city, subject=f"visitor-{number}") for number in range(6)]

    def both(consent: str) -> list[int]:
        with ThreadPoolExecutor(2) as threads:
            return [answer.status_code for answer in threads.map(lambda verb: act(city, consent, verb), ("withdraw", other))]

    for consent in consents:
        answers = both(consent)
        history = [state for state, _ in states(city, consent)]
        assert history[0] == "given"
        assert len(history) == 1 + answers.count(200)
        assert sorted(set(answers)) in ([200], [200, 409])
        assert record(city, consent)["state"] in {"withdrawn", "revoked"}
    assert not any(passes(city, f"visitor-{number}") for number in range(6))


def test_each_kind_of_act_says_whether_it_forbids(city: City) -> None:
    consent = given(city)
    for verb in ("pause", "resume", "withdraw"):
        act(city, consent, verb)
    with city.database.reading() as session:
        rows = session.execute(select(ChangeRow.kind, ChangeRow.forbids).where(ChangeRow.kind.startswith("consent")).order_by(ChangeRow.n))
        assert [tuple(row) for row in rows] == [
            ("consent_given", False),
            ("consent_paused", True),
            ("consent_resumed", False),
            ("consent_withdrawn", True),
        ]


def test_consent_whose_time_is_over_expires_by_itself(city: City) -> None:
    soon = now() + timedelta(seconds=30)
    short, paused, long = (
        given(city, subject=name, valid_until=until) for name, until in (("a", rfc3339(soon)), ("b", rfc3339(soon)), ("c", None))
    )
    act(city, paused, "pause")
    with city.database.transaction() as session:
        assert not any_due(session, soon - timedelta(seconds=1))
        assert any_due(session, soon)
        assert expire_due(session, soon) == 2
    with city.database.transaction() as session:
        assert expire_due(session, soon) == 0
    assert [record(city, each)["state"] for each in (short, paused, long)] == ["expired", "expired", "given"]
    assert record(city, short)["ended_at"] == rfc3339(soon)
    assert states(city, short)[-1] == ("expired", "time")
    assert not passes(city, "a")
    assert passes(city, "c")
    with city.database.reading() as session:
        assert session.get_one(ConsentRecord, short).change == session.get_one(ConsentRecord, paused).change


def test_the_provider_does_not_consent_to_receive_data_itself(city: City) -> None:
    answer = give(city, given_by="provider", recipients=["any_recipient", city.transit])
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/recipients/1")


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"state": "requested"}, "/given_by"),
        ({"given_by": None}, "/given_by"),
        ({"state": "refused", "given_by": "provider"}, "/given_by"),
        ({"state": "withdrawn"}, "/state"),
    ],
)
def test_a_record_begins_as_asked_given_or_refused_by_who_can_say_so(city: City, members: dict[str, Any], pointer: str) -> None:
    answer = give(city, **members)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
