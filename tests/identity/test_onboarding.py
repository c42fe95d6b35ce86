"""Onboarding: somebody asks without a token, an operator approves, and the claim gets the first registration token, once."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from joserfc.jwk import ECKey
from sqlalchemy import func, insert, select, update

from gateway.audit.models import AuditEntry
from gateway.changes import last, note
from gateway.database import new_id, now
from gateway.identity import onboarding
from gateway.identity.models import Client, OrganizationRequest
from gateway.identity.people_models import Person
from gateway.limits import Requests
from tests.identity.exchange import Exchange, bearer
from tests.identity.registering import ASKED, SCOPES, approve, ask, ask_token, by_key, register, status_of_token
from tests.identity.test_clients import fits
from tests.identity.test_tokens import forged


def count(exchange: Exchange) -> tuple[int, int]:
    with exchange.database.reading() as session:
        return last(session), session.scalar(select(func.count()).select_from(AuditEntry)) or 0


def test_from_nothing_to_a_call_with_one_approval(exchange: Exchange) -> None:
    asked = ask(exchange)
    fits("organization.json", asked)
    assert asked["standing"] == "pending"
    organization, claim = asked["id"], asked["claim"]
    waits = ask_token(exchange, organization, claim=claim, approved=True)
    assert (waits.status_code, waits.json()["code"], waits.json()["state"]) == (409, "illegal_state", "pending")

    approve(exchange, organization)

    token = ask_token(exchange, organization, claim=claim, approved=True)
    assert token.status_code == 201
    assert token.headers["cache-control"] == "no-store"
    fits("registration-token.json", token.json())
    key = ECKey.generate_key("P-256")
    client = register(exchange, token.json()["token"], **by_key(key)).json()
    fits("client-registration.json", client)
    assert client["standing"] == "active"
    assert status_of_token(exchange, client["client_id"], key) == 200


def test_claim_gets_one_token(exchange: Exchange) -> None:
    asked = ask(exchange)
    approve(exchange, asked["id"])
    assert ask_token(exchange, asked["id"], claim=asked["claim"]).status_code == 201
    again = ask_token(exchange, asked["id"], claim=asked["claim"])
    assert (again.status_code, again.json()["code"]) == (403, "claim_invalid")


def test_claim_that_got_nothing_is_not_used_up(exchange: Exchange) -> None:
    asked = ask(exchange)
    approve(exchange, asked["id"])
    for wrong in ({"scopes": ["policies:approve"]}, {"uses": 11}, {"expires_in": "P91D"}):
        assert ask_token(exchange, asked["id"], claim=asked["claim"], **wrong).status_code == 422
    assert ask_token(exchange, asked["id"], claim=asked["claim"]).status_code == 201


def test_wrong_claim_and_unknown_organization_look_the_same(exchange: Exchange) -> None:
    asked, other = ask(exchange), ask(exchange, name="Other")
    unknown = "org_" + "0" * 26
    answers = [
        ask_token(exchange, asked["id"], claim="exo_wrong"),
        ask_token(exchange, asked["id"], claim=other["claim"]),
        ask_token(exchange, unknown, claim=asked["claim"]),
        ask_token(exchange, exchange.organization_id, claim=asked["claim"]),
        ask_token(exchange, "nonsense", claim=asked["claim"]),
    ]
    told = [{name: value for name, value in answer.json().items() if name != "instance"} for answer in answers]
    assert {answer.status_code for answer in answers} == {403}
    assert all(one == told[0] for one in told)


def test_asking_says_nothing_of_names_that_are_taken(exchange: Exchange) -> None:
    exchange.make_organization("Port Credit Mobility Inc.")
    first, second = ask(exchange), ask(exchange)
    assert set(first) == set(second)
    assert first["id"] != second["id"]
    taken = exchange.http.post(f"/v1/organizations/{first['id']}/approve", headers=exchange.operator)
    assert (taken.status_code, taken.json()["code"]) == (409, "already_exists")


def test_asking_writes_neither_change_nor_audit_entry(exchange: Exchange) -> None:
    before = count(exchange)
    ask(exchange)
    assert count(exchange) == before


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"contact": None}, "/contact"),
        ({"intent": None}, "/intent"),
        ({"intent": "x" * 2001}, "/intent"),
        ({"intent": "\x00"}, "/intent"),
        ({"domain": None}, "/domain"),
        ({"domain": "127.0.0.1"}, "/domain"),
        ({"domain": "https://a.example/"}, "/domain"),
        ({"domain": "localhost"}, "/domain"),
        ({"kind": "department"}, "/kind"),
        ({"operates": True}, "/operates"),
        ({"name": " x"}, "/name"),
    ],
)
def test_request_that_does_not_fit_is_refused_by_pointer(exchange: Exchange, members: dict[str, object], pointer: str) -> None:
    answer = exchange.http.post("/v1/organizations", json=ASKED | members)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_only_the_operator_sees_who_asked(exchange: Exchange) -> None:
    asked = ask(exchange)
    found = exchange.http.get("/v1/organization-requests", headers=exchange.operator).json()
    assert [item["id"] for item in found["items"]] == [asked["id"]]
    assert "claim" not in found["items"][0]
    assert found["items"][0]["intent"] == ASKED["intent"]
    partner = exchange.make_client(exchange.make_organization("Other"), scopes=["organizations:write"])
    headers = bearer(exchange.token(partner["id"], partner["client_secret"]))
    assert exchange.http.get("/v1/organization-requests", headers=headers).status_code == 403
    assert exchange.http.get(f"/v1/organizations/{asked['id']}", headers=headers).status_code == 404
    assert exchange.http.post(f"/v1/organizations/{asked['id']}/refuse", headers=headers).status_code == 403
    assert exchange.http.get("/v1/organization-requests").status_code == 401


def test_intent_is_read_by_its_own_organization_and_overseers_alone(exchange: Exchange) -> None:
    asked = ask(exchange)
    approve(exchange, asked["id"])
    own = exchange.make_client(asked["id"])
    other = exchange.make_client(exchange.make_organization("Other"))
    path = f"/v1/organizations/{asked['id']}"
    seen = [
        exchange.http.get(path, headers=bearer(exchange.token(one["id"], one["client_secret"]))).json()["intent"] for one in (own, other)
    ]
    assert seen == [ASKED["intent"], None]
    assert exchange.http.get(path, headers=exchange.operator).json()["intent"] == ASKED["intent"]


def test_refused_request_is_forgotten_with_its_claim(exchange: Exchange) -> None:
    asked = ask(exchange)
    assert exchange.http.post(f"/v1/organizations/{asked['id']}/refuse", headers=exchange.operator).status_code == 204
    assert ask_token(exchange, asked["id"], claim=asked["claim"]).json()["code"] == "claim_invalid"
    for verb in ("approve", "refuse"):
        assert exchange.http.post(f"/v1/organizations/{asked['id']}/{verb}", headers=exchange.operator).status_code == 404


def test_claim_of_a_suspended_organization_gets_nothing(exchange: Exchange) -> None:
    asked = ask(exchange)
    approve(exchange, asked["id"])
    exchange.http.post(f"/v1/organizations/{asked['id']}/suspend", headers=exchange.operator)
    answer = ask_token(exchange, asked["id"], claim=asked["claim"])
    assert (answer.status_code, answer.json()["state"]) == (409, "suspended")


def test_old_claims_and_requests_are_worth_nothing_and_forgotten(exchange: Exchange) -> None:
    asked, waiting = ask(exchange), ask(exchange, name="Other")
    approve(exchange, asked["id"])
    with exchange.database.transaction() as session:
        session.execute(update(OrganizationRequest).values(expires_at=now() - timedelta(seconds=1)))
    assert ask_token(exchange, asked["id"], claim=asked["claim"]).json()["code"] == "claim_invalid"
    assert exchange.http.post(f"/v1/organizations/{waiting['id']}/approve", headers=exchange.operator).status_code == 404
    with exchange.database.transaction() as session:
        onboarding.forget_old(session, now())
        assert session.scalars(select(OrganizationRequest)).all() == []


def test_more_requests_than_an_operator_can_read_are_refused(exchange: Exchange) -> None:
    row = {
        "name": "N",
        "contact": "c",
        "intent": "i",
        "domain": "a.example",
        "claim_hash": b"",
        "asked_at": now(),
        "expires_at": now() + timedelta(1),
    }
    with exchange.database.transaction() as session:
        session.execute(insert(OrganizationRequest), [row | {"id": f"org_{number}"} for number in range(onboarding.MOST_ASKED)])
    answer = exchange.http.post("/v1/organizations", json=ASKED)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")


def test_one_address_cannot_fill_the_queue(exchange: Exchange) -> None:
    exchange.app.state.registrations_limit = Requests(1000, "registrations")
    answers = [
        exchange.http.post("/v1/organizations", json=ASKED | {"name": f"N {number}"}) for number in range(onboarding.ASKED_A_DAY + 1)
    ]
    assert {answer.status_code for answer in answers[:-1]} == {201}
    refused = answers[-1]
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 60 < int(refused.headers["Retry-After"]) <= onboarding.DAY_S // onboarding.ASKED_A_DAY
    elsewhere = exchange.app.state.asks_limit.count("192.0.2.7")
    assert elsewhere["RateLimit-Policy"] == f'"organizations";q={onboarding.ASKED_A_DAY};w={onboarding.DAY_S}'


def test_token_of_a_client_without_the_role_asks_for_nothing(exchange: Exchange) -> None:
    partner = exchange.make_client(exchange.make_organization())
    headers = bearer(exchange.token(partner["id"], partner["client_secret"]))
    assert exchange.http.post("/v1/organizations", json=ASKED, headers=headers).status_code == 403
    assert exchange.http.post("/v1/organizations", json=ASKED, headers=bearer("rubbish")).status_code == 401


def test_claim_is_kept_as_a_keyed_hash_and_no_client_is_made_by_asking(exchange: Exchange) -> None:
    asked = ask(exchange)
    with exchange.database.reading() as session:
        row = session.get_one(OrganizationRequest, asked["id"])
        assert asked["claim"].encode() not in row.claim_hash
        assert session.scalars(select(Client.organization_id)).all() == [exchange.organization_id]


def test_scopes_of_the_citys_own_work_are_in_no_registration_token(exchange: Exchange) -> None:
    for scope in ("organizations:write", "policies:write", "policies:approve", "policies:read"):
        answer = ask_token(exchange, exchange.organization_id, exchange.operator, scopes=[*SCOPES, scope])
        assert answer.status_code == 422


def person_token(exchange: Exchange, *, organization: str | None = None, signed_in_ago: int = 0) -> tuple[str, dict[str, str]]:
    """A person who has signed in, and the headers of their calls."""
    person, at = new_id("per"), now()
    with exchange.database.transaction() as session:
        session.add(
            Person(
                id=person,
                issuer="https://id.city.example",
                subject_hash=person.encode(),
                organization_id=organization,
                claimed_roles=[],
                granted_roles=[],
                standing="active",
                created_at=at,
                roles_changed_at=at,
            )
        )
        note(session, "person_created", person)
    said: dict[str, Any] = {
        "sub": person,
        "sid": "ses_1",
        "auth_time": int(time.time()) - signed_in_ago,
        "scope": "clients:write catalog:read",
    }
    return person, bearer(forged(exchange, **said))


def test_person_who_asked_while_signed_in_is_the_admin(exchange: Exchange) -> None:
    person, headers = person_token(exchange)
    asked = exchange.http.post("/v1/organizations", json=ASKED, headers=headers)
    assert asked.status_code == 201, asked.text
    organization = asked.json()["id"]
    assert ask_token(exchange, organization, headers).status_code == 403

    approve(exchange, organization)

    with exchange.database.reading() as session:
        found = session.get_one(Person, person)
        assert (found.organization_id, found.granted_roles) == (organization, ["partner_admin"])
    token = ask_token(exchange, organization, headers)
    assert token.status_code == 201, token.text
    assert ask_token(exchange, exchange.make_organization("Other"), headers).status_code == 404
    client = register(exchange, token.json()["token"]).json()
    path = f"/v1/clients/{client['client_id']}"
    assert exchange.http.post(f"{path}/approve", headers=headers).json()["standing"] == "active"
    assert exchange.http.post(f"{path}/rotate", headers=headers).status_code == 200
    foreign = exchange.make_client(exchange.organization_id)["id"]
    assert exchange.http.post(f"/v1/clients/{foreign}/rotate", headers=headers).status_code == 404


def test_person_who_belongs_elsewhere_gets_no_role_by_asking(exchange: Exchange) -> None:
    other = exchange.make_organization("Other")
    person, headers = person_token(exchange, organization=other)
    asked = exchange.http.post("/v1/organizations", json=ASKED, headers=headers).json()
    approve(exchange, asked["id"])
    with exchange.database.reading() as session:
        found = session.get_one(Person, person)
        assert (found.organization_id, found.granted_roles) == (other, [])
    assert ask_token(exchange, asked["id"], claim=asked["claim"]).status_code == 201


def test_approving_asks_a_person_to_sign_in_again(exchange: Exchange) -> None:
    _, headers = person_token(exchange, signed_in_ago=301)
    asked = exchange.http.post("/v1/organizations", json=ASKED, headers=headers).json()
    approve(exchange, asked["id"])
    client = register(exchange, ask_token(exchange, asked["id"], headers).json()["token"]).json()
    answer = exchange.http.post(f"/v1/clients/{client['client_id']}/approve", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "insufficient_user_authentication")
