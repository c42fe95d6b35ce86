"""Access tokens: what is issued, and what is refused."""

from __future__ import annotations

import base64
import json
import logging
import secrets
import time
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, KeySet

from tests.identity.exchange import ISSUER, Exchange, bearer

RESOURCE_METADATA = f'resource_metadata="{ISSUER}/.well-known/oauth-protected-resource"'
DPOP = 'DPoP algs="ES256 EdDSA Ed25519 PS256"'


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = (json.loads(base64.urlsafe_b64decode(part + "==")) if n < 2 else {} for n, part in enumerate(token.split(".")))
    return header, claims


class SignsAnything(jws.JWSRegistry):
    def check_header(self, header: dict[str, Any]) -> None:
        """A forger minds nothing."""


def forged(exchange: Exchange, header: dict[str, Any] | None = None, key: Key | None = None, **claims: Any) -> str:
    """A token of the exchange's own key, right in everything that is not given."""
    signing = exchange.keys.signing["token"]
    second = int(time.time())
    said = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": exchange.operator_id,
        "client_id": exchange.operator_id,
        "iat": second,
        "exp": second + 600,
        "jti": secrets.token_hex(8),
        "scope": "catalog:read",
        "client_auth_method": "client_secret_basic",
    } | claims
    said = {name: value for name, value in said.items() if value is not None}
    head = {"alg": "ES256", "typ": "at+jwt", "kid": signing.kid} | (header or {})
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(head, said, key or signing, registry=SignsAnything(algorithms=["ES256"]), default_type=None)


def test_token_is_of_rfc_9068_for_one_audience_and_ten_minutes(exchange: Exchange) -> None:
    answer = exchange.ask_token(exchange.operator_id, exchange.operator_secret, scope="catalog:read events:read")
    header, claims = parts(answer.json()["access_token"])
    assert answer.json().keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert answer.json()["expires_in"] == 600
    assert answer.headers["cache-control"] == "no-store"
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": exchange.keys.signing["token"].kid}
    assert claims["exp"] - claims["iat"] == 600
    assert (claims["iss"], claims["aud"], claims["sub"], claims["client_id"]) == (
        ISSUER,
        ISSUER,
        exchange.operator_id,
        exchange.operator_id,
    )
    assert claims["scope"] == "catalog:read events:read"


def test_token_verifies_by_the_published_keys(exchange: Exchange) -> None:
    published = exchange.http.get("/oauth/jwks").json()
    assert all("d" not in key for key in published["keys"])
    token = exchange.token(exchange.operator_id, exchange.operator_secret)
    assert jwt.decode(token, KeySet.import_key_set(published), algorithms=["ES256"]).claims["iss"] == ISSUER


def test_each_token_has_an_identifier_of_its_own(exchange: Exchange) -> None:
    first, second = (parts(exchange.token(exchange.operator_id, exchange.operator_secret))[1]["jti"] for _ in range(2))
    assert first != second


def test_forgery_that_is_right_in_everything_is_accepted(exchange: Exchange) -> None:
    assert exchange.http.get("/v1/me", headers=bearer(forged(exchange))).status_code == 200


WRONG: dict[str, dict[str, Any]] = {
    "without typ": {"header": {"typ": None}},
    "an id token's typ": {"header": {"typ": "JWT"}},
    "an unknown kid": {"header": {"kid": "other"}},
    "no kid": {"header": {"kid": None}},
    "a critical header that nobody knows": {"header": {"crit": ["x"], "x": 1}},
    "another audience": {"aud": "https://elsewhere.example"},
    "its own client as audience": {"aud": "cli_1"},
    "a list of audiences": {"aud": [ISSUER]},
    "another issuer": {"iss": "https://elsewhere.example"},
    "no audience": {"aud": None},
    "no expiry": {"exp": None},
    "an expiry in words": {"exp": "tomorrow"},
    "an expiry that is true": {"exp": True},
    "an endless expiry": {"exp": 1e308},
    "no jti": {"jti": None},
    "no scope": {"scope": None},
    "a list of scopes": {"scope": ["catalog:read"]},
    "another subject than client": {"sub": "cli_2"},
    "an unknown client": {"sub": "cli_2", "client_id": "cli_2"},
    "no client": {"client_id": None},
    "details that are a number": {"authorization_details": 3},
    "details of strings": {"authorization_details": ["con_1"]},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_token_that_is_wrong_in_one_thing_is_refused(exchange: Exchange, wrong: dict[str, Any]) -> None:
    answer = exchange.http.get("/v1/me", headers=bearer(forged(exchange, **wrong)))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert RESOURCE_METADATA in answer.headers["www-authenticate"]


def test_token_with_alg_none_is_refused(exchange: Exchange) -> None:
    _, claims, _ = forged(exchange).split(".")
    for alg in ("none", "None", "HS256"):
        header = {"alg": alg, "typ": "at+jwt", "kid": exchange.keys.signing["token"].kid}
        head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        for signature in ("", "AAAA"):
            answer = exchange.http.get("/v1/me", headers=bearer(f"{head}.{claims}.{signature}"))
            assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


def test_token_of_another_key_is_refused(exchange: Exchange) -> None:
    assert exchange.http.get("/v1/me", headers=bearer(forged(exchange, key=ECKey.generate_key("P-256")))).status_code == 401


def test_token_that_was_tampered_with_is_refused(exchange: Exchange) -> None:
    head, claims, signature = exchange.token(exchange.operator_id, exchange.operator_secret).split(".")
    more = json.loads(base64.urlsafe_b64decode(claims + "==")) | {"exp": int(time.time()) + 9999}
    tampered = base64.urlsafe_b64encode(json.dumps(more).encode()).rstrip(b"=").decode()
    assert exchange.http.get("/v1/me", headers=bearer(f"{head}.{tampered}.{signature}")).status_code == 401


def test_expired_token_says_so(exchange: Exchange) -> None:
    answer = exchange.http.get("/v1/me", headers=bearer(forged(exchange, exp=int(time.time()) - 1)))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


def test_token_that_was_remembered_expires_all_the_same(exchange: Exchange) -> None:
    token = forged(exchange, exp=int(time.time()) + 3)
    assert exchange.http.get("/v1/me", headers=bearer(token)).status_code == 200
    time.sleep(3.1)
    assert exchange.http.get("/v1/me", headers=bearer(token)).json()["code"] == "token_expired"


@pytest.mark.parametrize(
    "rubbish",
    ["", "x", "a.b.c", "..", "e30.e30.", "\xff\xfe", "W10.W10.AAAA", "bnVsbA.bnVsbA.AAAA", "eyJhbGciOltdfQ.e30.AA", "A" * 100_000, "é.é.é"],
)
def test_rubbish_is_no_token_and_no_failure(exchange: Exchange, rubbish: str) -> None:
    answer = exchange.http.get("/v1/me", headers=[(b"Authorization", f"Bearer {rubbish}".encode("latin-1"))])
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


def test_other_jws_of_the_same_key_is_no_token(exchange: Exchange) -> None:
    signed = jws.serialize_compact(
        {"alg": "ES256", "typ": "at+jwt", "kid": exchange.keys.signing["token"].kid}, "[" * 5000, exchange.keys.signing["token"]
    )
    assert exchange.http.get("/v1/me", headers=bearer(signed)).status_code == 401


def test_call_without_token_is_told_where_to_get_one(exchange: Exchange) -> None:
    answer = exchange.http.get("/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
    assert answer.headers["www-authenticate"] == f"Bearer {RESOURCE_METADATA}, {DPOP}"


def test_authorization_by_another_scheme_or_twice_is_refused(exchange: Exchange) -> None:
    token = exchange.token(exchange.operator_id, exchange.operator_secret)
    assert exchange.http.get("/v1/me", headers={"Authorization": f"Token {token}"}).status_code == 401
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert exchange.http.get("/v1/me", headers=twice).status_code == 401


def test_missing_scope_is_named(exchange: Exchange) -> None:
    token = exchange.token(exchange.operator_id, exchange.operator_secret, scope="events:read")
    answer = exchange.http.get("/v1/clients", headers=bearer(token))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="clients:write", {RESOURCE_METADATA}, {DPOP}'


def test_missing_role_is_named(exchange: Exchange) -> None:
    partner = exchange.make_client(exchange.make_organization(), scopes=["organizations:write"])
    token = exchange.token(partner["id"], partner["client_secret"])
    answer = exchange.http.post("/v1/organizations", json={"name": "X", "kind": "partner"}, headers=bearer(token))
    assert (answer.status_code, answer.json()["code"]) == (403, "role_missing")


def test_neither_tokens_nor_secrets_are_logged(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        token = exchange.token(exchange.operator_id, exchange.operator_secret)
        exchange.http.get("/v1/me", headers=bearer(token))
        exchange.http.post("/oauth/introspect", auth=(exchange.operator_id, exchange.operator_secret), data={"token": token})
    assert token not in caplog.text
    assert token.split(".")[1] not in caplog.text
    assert exchange.operator_secret not in caplog.text


def test_verification_that_was_done_costs_microseconds(exchange: Exchange) -> None:
    token = exchange.token(exchange.operator_id, exchange.operator_secret)
    exchange.directory.authenticate(token)
    begun = time.perf_counter()
    for _ in range(1000):
        exchange.directory.authenticate(token)
    assert (time.perf_counter() - begun) / 1000 < 100e-6
