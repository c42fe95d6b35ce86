"""Tokens that are no good, each signed with the gateway's own key where that is what the test is about."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from connectors.client import Client
from gateway.keys import read_keys
from tests.e2e.district import FOOTFALL, District, visit
from tests.e2e.wire import STRUCTURED, authorization, problem, send
from tests.gateway import READER, Gateway

CLOUDEVENT = {"Content-Type": STRUCTURED}
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def signed(gateway: Gateway, change: Change = lambda _header, _claims: None, key: ECKey | None = None) -> str:
    """The operator's token as the gateway would sign it now, with header and claims changed."""
    key = key or read_keys(gateway.settings().resolved_key_file).signing["token"]
    second = int(time.time())
    header: dict[str, Any] = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    claims: dict[str, Any] = {
        "iss": gateway.url,
        "aud": gateway.url,
        "sub": gateway.made.client_id,
        "client_id": gateway.made.client_id,
        "client_auth_method": "client_secret_basic",
        "iat": second,
        "exp": second + 60,
        "jti": secrets.token_hex(8),
        "scope": "catalog:read catalog:write",
    }
    change(header, claims)
    return jwt.encode(header, claims, key, algorithms=["ES256"], registry=None)


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def refused(gateway: Gateway, token: str, code: str = "token_invalid") -> None:
    for path in ("/v1/me", "/v1/datasets"):
        answer = send(gateway.client(), "GET", path, token=token)
        problem(answer, code)
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_token_made_as_the_gateway_makes_them_is_taken(gateway: Gateway) -> None:
    assert send(gateway.client(), "GET", "/v1/me", token=signed(gateway)).status_code == 200


def test_no_token_where_one_is_needed_is_told(gateway: Gateway) -> None:
    problem(send(gateway.client(), "GET", "/v1/me"), "token_missing")


def test_an_expired_token_is_told_apart(gateway: Gateway) -> None:
    second = int(time.time())

    refused(gateway, signed(gateway, lambda _, claims: claims.update(iat=second - 700, exp=second - 1)), "token_expired")


@pytest.mark.parametrize(
    "change",
    [
        lambda header, _: header.pop("typ"),
        lambda header, _: header.update(typ="JWT"),
        lambda header, _: header.update(typ="oauth-authz-req+jwt"),
        lambda header, _: header.pop("kid"),
        lambda header, _: header.update(kid="policy"),
        lambda _, claims: claims.update(aud="https://another.example"),
        lambda _, claims: claims.update(aud=[]),
        lambda _, claims: claims.pop("aud"),
        lambda _, claims: claims.update(iss="https://another.example"),
        lambda _, claims: claims.update(sub="cli_another"),
        lambda _, claims: claims.update(sub="cli_none", client_id="cli_none"),
        lambda _, claims: claims.pop("exp"),
        lambda _, claims: claims.update(exp="tomorrow"),
        lambda _, claims: claims.update(exp=True),
        lambda _, claims: claims.update(scope=["catalog:read"]),
        lambda _, claims: claims.update(authorization_details="all"),
        lambda _, claims: claims.update(authorization_details=[{"type": "data_contract"}]),
    ],
)
def test_a_token_that_says_something_else_is_refused(gateway: Gateway, change: Change) -> None:
    refused(gateway, signed(gateway, change))


def test_a_token_without_signature_is_refused(gateway: Gateway) -> None:
    _, payload, signature = signed(gateway).split(".")
    for header in ({"alg": "none", "typ": "at+jwt"}, {"alg": "none", "typ": "at+jwt", "kid": "x"}, {"alg": "HS256", "typ": "at+jwt"}):
        refused(gateway, f"{encoded(header)}.{payload}.")
        refused(gateway, f"{encoded(header)}.{payload}.{signature}")


def test_a_token_that_was_tampered_with_is_refused(gateway: Gateway) -> None:
    token = signed(gateway)
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    refused(gateway, f"{header}.{encoded(claims | {'scope': 'audit:read'})}.{signature}")
    refused(gateway, f"{header}.{payload}.{signature[:-8]}AAAAAAAA")
    refused(gateway, f"{header}.{payload}")
    refused(gateway, token + "." + signature)


def test_a_token_by_a_key_of_somebody_else_is_refused(gateway: Gateway) -> None:
    known = read_keys(gateway.settings().resolved_key_file).signing
    refused(gateway, signed(gateway, key=ECKey.generate_key("P-256", parameters={"kid": str(known["token"].kid)})))
    refused(gateway, signed(gateway, key=known["policy_bundle"]))


@pytest.mark.parametrize("value", ["Bearer", "Basic eDp5", "Bearer x y", "Bearer " + "a" * 20_000, "Bearer a.b.c"])
def test_what_is_no_bearer_token_is_refused(gateway: Gateway, value: str) -> None:
    answer = send(gateway.client(), "GET", "/v1/me", headers={"Authorization": value})

    problem(answer, "token_invalid")


def test_a_scope_that_the_token_lacks_is_named(gateway: Gateway) -> None:
    answer = send(gateway.client(), "GET", "/v1/contracts", token=signed(gateway))

    problem(answer, "scope_missing")
    assert 'scope="contracts:read"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("params", [{}, {"validate_only": "false"}])
def test_publishing_asks_for_its_scope_with_a_query_and_without(district: District, gateway: Gateway, params: dict[str, str]) -> None:
    path = f"/v1/datasets/{FOOTFALL}/events"

    problem(send(district.provider, "POST", path, token=signed(gateway), body=[], params=params), "scope_missing")
    problem(send(gateway.client(), "POST", path, token="x.y.z", body=[], params=params), "token_invalid")
    with Client(gateway.url) as stranger:
        problem(send(stranger, "POST", path, body=[], params=params), "token_missing")
    problem(send(district.provider, "PUT", path, body=[], params=params), "method_not_allowed")


def test_a_role_that_the_client_lacks_is_named(gateway: Gateway, consumer: Client) -> None:
    weak = gateway.partner("Ambitious", scopes=("organizations:write",))

    problem(send(weak, "POST", "/v1/organizations", body={"name": "Mine", "kind": "partner"}), "role_missing")


def test_a_client_with_a_secret_never_reads_personal_data(district: District, gateway: Gateway, consumer: Client) -> None:
    contract = district.contract(consumer)
    organization = consumer.get("/v1/me")["organization"]["id"]
    weak = gateway.another_client(organization, scopes=READER, strong=False)

    for named in (contract, None):
        answer = send(weak, "GET", f"/v1/contracts/{contract}/events", contract=named)
        problem(answer, "strong_client_required")
    problem(send(weak, "POST", "/v1/contracts", body={"dataset": FOOTFALL, "purpose": "transit-planning"}), "strong_client_required")


def test_a_proof_is_for_the_method_that_was_sent_though_head_is_handled_as_get(consumer: Client) -> None:
    answer = send(consumer, "HEAD", "/v1/me")
    assert (answer.status_code, bool(answer.headers["dpop-nonce"])) == (200, True)
    for_get = authorization(consumer, "GET", "/v1/me")
    answer = consumer.http.request("HEAD", "/v1/me", headers=for_get)
    assert (answer.status_code, 'error="invalid_dpop_proof"' in answer.headers["www-authenticate"]) == (401, True)
    problem(consumer.http.request("GET", "/v1/organizations", headers=for_get), "token_invalid")


def test_a_proof_of_a_call_that_changes_something_is_good_once(district: District) -> None:
    """With an idempotency key too, by which a part of the gateway looks at who calls before the call itself does."""
    provider = district.provider
    for key in ({}, {"Idempotency-Key": secrets.token_hex(8)}):
        proven = authorization(provider, "POST", f"/v1/datasets/{FOOTFALL}/events") | key
        statuses = []
        for _ in range(2):
            answer = provider.http.post(f"/v1/datasets/{FOOTFALL}/events", json=visit("person-once"), headers=proven | CLOUDEVENT)
            statuses.append(answer.status_code)
        assert statuses == [201, 401], key


def test_a_bearer_token_never_reads_personal_data_whoever_got_it(district: District, consumer: Client) -> None:
    contract = district.contract(consumer)
    assert consumer.credentials is not None
    for named in (contract, None):
        bearer = consumer.credentials.token(consumer.http, named)
        told = problem(send(consumer, "GET", f"/v1/contracts/{contract}/events", token=bearer), "strong_client_required")
        assert "DPoP" in told["hint"]
    assert send(consumer, "GET", f"/v1/contracts/{contract}/events", contract=contract).status_code == 200


def test_a_token_that_does_not_name_the_contract_reads_no_personal_data(district: District, consumer: Client) -> None:
    contract, other = district.contract(consumer), district.contract(consumer)

    for named in (None, other):
        told = problem(send(consumer, "GET", f"/v1/contracts/{contract}/events", contract=named), "policy_denied")
        assert [reason["code"] for reason in told["reasons"]] == ["contract_not_named_in_token"]


def test_a_token_for_a_contract_of_others_is_not_given(district: District, gateway: Gateway, consumer: Client) -> None:
    contract = district.contract(consumer)
    stranger = gateway.partner("Stranger", scopes=READER)
    assert stranger.credentials is not None
    signer = stranger.credentials._signer
    assert signer is not None
    form = {
        "grant_type": "client_credentials",
        "client_id": stranger.credentials.client_id,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": stranger.credentials._assertion(signer),
        "authorization_details": json.dumps([{"type": "data_contract", "contract": contract, "actions": ["read"]}]),
    }

    answer = gateway.client().http.post("/oauth/token", data=form)

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_authorization_details"
