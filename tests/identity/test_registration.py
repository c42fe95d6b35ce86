"""Dynamic registration (RFC 7591): what a program may say of itself, and what it gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, RSAKey
from sqlalchemy import select

from gateway.audit.models import AuditEntry
from gateway.identity.models import Client, ClientRegistration
from gateway.notices.models import Notice
from tests.identity.exchange import Exchange, assertion, bearer
from tests.identity.registering import SCOPES, by_key, jwks_of, make_token, register, registered, status_of_token
from tests.identity.test_clients import fits

KEY = ECKey.generate_key("P-256")
PUBLIC = KEY.as_dict(private=False)
TOO_SMALL = {"kty": "RSA", "n": "AQAB", "e": "AQAB"}


def refused(answer: Any, error: str = "invalid_client_metadata") -> str:
    assert (answer.status_code, answer.json()["error"]) == (400, error), answer.text
    assert answer.headers["cache-control"] == "no-store"
    told: str = answer.json()["error_description"]
    return told.partition(":")[0]


def test_client_with_a_key_has_no_secret_and_gets_tokens(exchange: Exchange) -> None:
    client, key = registered(exchange, scope="events:read catalog:read", token_endpoint_auth_signing_alg="ES256")
    fits("client-registration.json", client)
    assert "client_secret" not in client
    assert client["scope"] == "events:read catalog:read"
    assert status_of_token(exchange, client["client_id"], key) == 200


def test_client_without_a_method_gets_a_secret_once(exchange: Exchange) -> None:
    client = register(exchange, make_token(exchange, approved=True)).json()
    fits("client-registration.json", client)
    assert (client["token_endpoint_auth_method"], client["client_secret_expires_at"]) == ("client_secret_basic", 0)
    assert exchange.ask_token(client["client_id"], client["client_secret"]).status_code == 200
    assert client["scope"] == " ".join(sorted(SCOPES))


def test_client_is_pending_until_it_is_approved(exchange: Exchange) -> None:
    organization = exchange.make_organization()
    key = ECKey.generate_key("P-256")
    client = register(exchange, make_token(exchange, organization), **by_key(key)).json()
    assert client["standing"] == "pending"
    assert status_of_token(exchange, client["client_id"], key) == 401
    with exchange.database.reading() as session:
        told = session.scalars(select(Notice).where(Notice.type == "client.pending")).all()
        assert {notice.organization_id for notice in told} == {organization, exchange.organization_id}
        assert all(notice.data == {"client": client["client_id"], "organization": organization} for notice in told)
    path = f"/v1/clients/{client['client_id']}/approve"
    assert exchange.http.post(path, headers=exchange.operator).json()["standing"] == "active"
    assert status_of_token(exchange, client["client_id"], key) == 200
    assert exchange.http.post(path, headers=exchange.operator).json()["code"] == "illegal_state"


def test_approving_is_the_operators(exchange: Exchange) -> None:
    organization = exchange.make_organization()
    client = register(exchange, make_token(exchange, organization)).json()
    colleague = exchange.make_client(organization)
    headers = bearer(exchange.token(colleague["id"], colleague["client_secret"]))
    assert exchange.http.post(f"/v1/clients/{client['client_id']}/approve", headers=headers).json()["code"] == "role_missing"
    assert exchange.http.post("/v1/clients/nonsense/approve", headers=exchange.operator).status_code == 404


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a name that is a number": ({"client_name": 3}, "client_name"),
    "a name of two lines": ({"client_name": "a\nb"}, "client_name"),
    "a name that is too long": ({"client_name": "x" * 201}, "client_name"),
    "an empty name": ({"client_name": ""}, "client_name"),
    "a method that is not offered": ({"token_endpoint_auth_method": "client_secret_post"}, "token_endpoint_auth_method"),
    "no method": ({"token_endpoint_auth_method": "none"}, "token_endpoint_auth_method"),
    "a method that is null": ({"token_endpoint_auth_method": None}, "token_endpoint_auth_method"),
    "a method that is a list": ({"token_endpoint_auth_method": ["private_key_jwt"]}, "token_endpoint_auth_method"),
    "RS256": (by_key(KEY, token_endpoint_auth_signing_alg="RS256"), "token_endpoint_auth_signing_alg"),
    "alg none": (by_key(KEY, token_endpoint_auth_signing_alg="none"), "token_endpoint_auth_signing_alg"),
    "an algorithm with a secret": ({"token_endpoint_auth_signing_alg": "ES256"}, "token_endpoint_auth_signing_alg"),
    "a scope beyond the token's": ({"scope": "events:read clients:write"}, "scope"),
    "a scope that is none": ({"scope": "nonsense"}, "scope"),
    "an empty scope": ({"scope": " "}, "scope"),
    "a list of scopes": ({"scope": ["events:read"]}, "scope"),
    "another grant": ({"grant_types": ["authorization_code"]}, "grant_types"),
    "one grant more": ({"grant_types": ["client_credentials", "password"]}, "grant_types"),
    "a grant that is text": ({"grant_types": "client_credentials"}, "grant_types"),
    "a response type": ({"response_types": ["code"]}, "response_types"),
    "details of another type": ({"authorization_details_types": ["payment"]}, "authorization_details_types"),
    "no keys": ({"token_endpoint_auth_method": "private_key_jwt"}, "jwks"),
    "keys with a secret": ({"jwks": jwks_of(KEY)}, "jwks"),
    "keys elsewhere with a secret": ({"jwks_uri": "https://a.example/"}, "jwks_uri"),
    "keys here and there": (by_key(KEY, jwks_uri="https://a.example/"), "jwks_uri"),
    "keys that are null": (by_key(KEY, jwks=None), "jwks"),
    "keys that are a list": (by_key(KEY, jwks=[PUBLIC]), "jwks"),
    "no key in the set": (by_key(KEY, jwks={"keys": []}), "jwks"),
    "a private key": (by_key(KEY, jwks={"keys": [KEY.as_dict(private=True)]}), "jwks"),
    "a secret key": (by_key(KEY, jwks={"keys": [OctKey.generate_key(256).as_dict(private=True)]}), "jwks"),
    "a key that is text": (by_key(KEY, jwks={"keys": ["x"]}), "jwks"),
    "a key of another curve": (by_key(KEY, jwks={"keys": [ECKey.generate_key("P-384").as_dict(private=False)]}), "jwks"),
    "a key that is too small": (by_key(KEY, jwks={"keys": [TOO_SMALL]}), "jwks"),
    "a point that is on no curve": (by_key(KEY, jwks={"keys": [PUBLIC | {"x": PUBLIC["y"]}]}), "jwks"),
    "a key twice": (by_key(KEY, jwks={"keys": [PUBLIC, PUBLIC]}), "jwks"),
    "keys on the metadata service": (by_key(KEY) | {"jwks": ..., "jwks_uri": "https://169.254.169.254/keys"}, "jwks_uri"),
    "keys on this machine": (by_key(KEY) | {"jwks": ..., "jwks_uri": "https://127.0.0.1/keys"}, "jwks_uri"),
    "keys on this machine, in decimal": (by_key(KEY) | {"jwks": ..., "jwks_uri": "https://2130706433/keys"}, "jwks_uri"),
    "keys without TLS": (by_key(KEY) | {"jwks": ..., "jwks_uri": "http://a.example/keys"}, "jwks_uri"),
    "keys at a number": (by_key(KEY) | {"jwks": ..., "jwks_uri": 7}, "jwks_uri"),
    "a logo inside": ({"logo_uri": "https://10.0.0.1/logo.png"}, "logo_uri"),
    "a logo in a script": ({"logo_uri": "javascript:alert(1)"}, "logo_uri"),
    "a page inside": ({"client_uri": "https://[::1]/"}, "client_uri"),
    "terms inside": ({"tos_uri": "https://[::ffff:127.0.0.1]/"}, "tos_uri"),
    "a policy that is a file": ({"policy_uri": "file:///etc/passwd"}, "policy_uri"),
    "binding that is text": ({"dpop_bound_access_tokens": "true"}, "dpop_bound_access_tokens"),
    "binding that is null": ({"dpop_bound_access_tokens": None}, "dpop_bound_access_tokens"),
    "binding by certificate": ({"tls_client_certificate_bound_access_tokens": True}, "tls_client_certificate_bound_access_tokens"),
    "contacts that are text": ({"contacts": "a@b.example"}, "contacts"),
    "a contact that is a number": ({"contacts": [1]}, "contacts"),
    "too many contacts": ({"contacts": ["a"] * 21}, "contacts"),
    "software without end": ({"software_id": "x" * 201}, "software_id"),
    "a version that is a number": ({"software_version": 2}, "software_version"),
}


@pytest.mark.parametrize(("metadata", "member"), WRONG.values(), ids=WRONG.keys())
def test_metadata_that_does_not_fit_is_refused_by_the_name_of_the_member(exchange: Exchange, metadata: dict[str, Any], member: str) -> None:
    sent = {name: value for name, value in metadata.items() if value is not ...}
    assert refused(register(exchange, make_token(exchange), **sent)) == member


def test_software_statement_and_redirects_are_refused_with_their_own_errors(exchange: Exchange) -> None:
    token = make_token(exchange)
    assert refused(register(exchange, token, software_statement="a.b.c"), "unapproved_software_statement") == "software_statement"
    assert refused(register(exchange, token, redirect_uris=["https://a.example/"]), "invalid_redirect_uri") == "redirect_uris"


def test_unknown_members_are_passed_over_and_kept_out_of_the_answer(exchange: Exchange) -> None:
    client, _ = registered(exchange, id_token_signed_response_alg="RS256", client_id="cli_mine", client_secret="mine", scope="events:read")
    assert "id_token_signed_response_alg" not in client
    assert client["client_id"] != "cli_mine"
    with exchange.database.reading() as session:
        kept = session.get_one(ClientRegistration, client["client_id"]).document
        assert kept["id_token_signed_response_alg"] == "RS256"
        assert "mine" not in json.dumps(kept).replace("cli_mine", "")


def test_registered_algorithm_is_the_only_one(exchange: Exchange) -> None:
    rsa = RSAKey.generate_key(2048)
    jwks = {"keys": [PUBLIC | {"kid": "ec"}, rsa.as_dict(private=False) | {"kid": "rsa"}]}
    made = register(exchange, make_token(exchange, approved=True), **by_key(KEY, jwks=jwks, token_endpoint_auth_signing_alg="PS256")).json()
    assert status_of_token(exchange, made["client_id"], KEY) == 401
    assert exchange.ask_token_by_key(assertion(made["client_id"], rsa, "PS256")).status_code == 200


def test_client_that_binds_its_tokens_gets_no_plain_one(exchange: Exchange) -> None:
    client, key = registered(exchange, dpop_bound_access_tokens=True)
    answer = exchange.ask_token_by_key(assertion(client["client_id"], key))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")


def test_registration_is_in_the_audit_log_without_what_the_client_says(exchange: Exchange) -> None:
    client, _ = registered(exchange, contacts=["somebody@partner.example"])
    with exchange.database.reading() as session:
        entries = [json.loads(row.entry) for row in session.scalars(select(AuditEntry))]
    told = next(entry for entry in entries if entry.get("detail", {}).get("client") == client["client_id"])
    assert told["detail"]["registration_token"].startswith("rgt_")
    assert "somebody" not in json.dumps(entries)


def test_nothing_that_is_secret_is_stored_as_it_is(exchange: Exchange) -> None:
    token = make_token(exchange)
    client = register(exchange, token).json()
    stored = Path(exchange.settings.resolved_database_url.removeprefix("sqlite:///"))
    content = b"".join(file.read_bytes() for file in stored.parent.glob(f"{stored.name}*"))
    assert client["client_id"].encode() in content
    for secret in (token, client["client_secret"], client["registration_access_token"]):
        assert secret.encode() not in content


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer ", "Basic eDp5", "Bearer exr_wrong", "Bearer \xe9"])
def test_without_a_good_token_nobody_registers(exchange: Exchange, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin-1")}
    answer = exchange.http.post("/oauth/register", json={}, headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


BODIES = {
    "none": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "null": b"null",
    "not UTF-8": b'{"client_name": "\xff"}',
    "a member twice": b'{"client_name": "a", "client_name": "b"}',
    "a number that is none": b'{"x": NaN}',
    "nested without end": b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "NUL": b'{"x": "\\u0000"}',
    "half of a pair": b'{"x": "\\ud800"}',
    "too long": b'{"x": "' + b"y" * 70_000 + b'"}',
    "a digit without end": b'{"x": ' + b"9" * 60_000 + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_body_that_is_no_metadata_is_refused(exchange: Exchange, body: bytes) -> None:
    headers = bearer(make_token(exchange)) | {"Content-Type": "application/json"}
    assert refused(exchange.http.post("/oauth/register", content=body, headers=headers)) == "The body"


def test_form_is_no_metadata(exchange: Exchange) -> None:
    answer = exchange.http.post("/oauth/register", data={"client_name": "x"}, headers=bearer(make_token(exchange)))
    assert refused(answer) == "The body"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    (
        *("client_name", "token_endpoint_auth_method", "token_endpoint_auth_signing_alg", "grant_types", "response_types", "scope", "jwks"),
        *("jwks_uri", "logo_uri", "client_uri", "tos_uri", "policy_uri", "contacts", "software_id", "redirect_uris", "client_secret"),
        *("dpop_bound_access_tokens", "authorization_details_types", "client_id", "software_statement"),
    )
)
LIKELY = st.sampled_from(
    ("private_key_jwt", "ES256", ["client_credentials"], [], "events:read", {"keys": [PUBLIC]}, True, "https://a.example/")
)


def test_no_metadata_is_a_failure_of_ours(exchange: Exchange) -> None:
    """500 bodies; the tokens that some use up are made anew."""
    organization = exchange.make_organization()
    token = [make_token(exchange, organization, uses=100)]

    @settings(max_examples=500, deadline=None, database=None)
    @given(st.dictionaries(MEMBERS | st.text(), LIKELY | JSON, max_size=6))
    def attempt(metadata: dict[str, Any]) -> None:
        body = json.dumps(metadata).encode()
        answer = exchange.http.post("/oauth/register", content=body, headers=bearer(token[0]) | {"Content-Type": "application/json"})
        assert answer.status_code in {201, 400, 401}, (answer.status_code, metadata)
        if answer.status_code == 401:
            token[0] = make_token(exchange, organization, uses=100)
        if answer.status_code == 201:
            fits("client-registration.json", answer.json())

    attempt()


def test_no_bytes_are_a_failure_of_ours(exchange: Exchange) -> None:
    @settings(max_examples=100, deadline=None, database=None)
    @given(st.binary(max_size=200), st.binary(max_size=60).filter(lambda value: not set(value) & {0, 10, 13}))
    def attempt(body: bytes, token: bytes) -> None:
        headers = [(b"Authorization", b"Bearer " + token), (b"Content-Type", b"application/json")]
        for call in ("POST /oauth/register", "PUT /oauth/register/cli_x", "GET /oauth/register/cli_x", "DELETE /oauth/register/cli_x"):
            method, path = call.split()
            answer = exchange.http.request(method, path, content=body, headers=headers)
            assert answer.status_code in {400, 401}, answer.text

    attempt()


def test_too_many_from_one_address_are_told_to_slow_down(exchange: Exchange) -> None:
    exchange.app.state.registrations_limit = type(exchange.app.state.registrations_limit)(2, "registrations")
    statuses = [exchange.http.post("/oauth/register", json={}) for _ in range(3)]
    assert [answer.status_code for answer in statuses] == [401, 401, 429]
    assert statuses[-1].json()["error"] == "slow_down"
    assert statuses[-1].headers["retry-after"]


def test_clients_that_registered_are_listed_with_the_others(exchange: Exchange) -> None:
    client, _ = registered(exchange)
    listed = exchange.http.get("/v1/clients", headers=exchange.operator).json()["items"]
    assert client["client_id"] in {item["id"] for item in listed}
    with exchange.database.reading() as session:
        assert session.get_one(Client, client["client_id"]).roles == []
