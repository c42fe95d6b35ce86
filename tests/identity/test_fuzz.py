"""Whatever is sent to the endpoints of OAuth is an answer of theirs, never a failure of ours."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.identity.damping import Damping
from tests.dpop import Prover
from tests.identity.exchange import ASSERTION_TYPE, ISSUER, Exchange, assertion, new_key

ENDPOINTS = ("/oauth/token", "/oauth/introspect", "/oauth/revoke")
EXPECTED = {200, 400, 401}
FEW = settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = st.sampled_from(
    (
        *("grant_type", "scope", "authorization_details", "resource", "client_id", "client_secret", "client_assertion"),
        *("client_assertion_type", "token", "token_type_hint", "audience", "code"),
    )
)
LIKELY = st.sampled_from(("client_credentials", "events:read", "[]", '[{"type":"data_contract"}]', ISSUER, ASSERTION_TYPE, "a.b.c", ""))
HEADER_BYTES = st.binary(max_size=120).filter(lambda value: not set(value) & {0, 10, 13})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from((10**400, "ES256", "dpop+jwt")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def open_exchange(exchange: Exchange) -> Exchange:
    """One where a thousand failures are no reason to slow anybody down."""
    exchange.app.state.damping = Damping(10**9)
    return exchange


def send(exchange: Exchange, path: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    answer = exchange.http.post(path, content=body, headers=headers)
    assert answer.status_code in EXPECTED, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    assert path != "/oauth/token" or answer.status_code == 200 or "error" in answer.json()
    return int(answer.status_code)


def basic(exchange: Exchange) -> tuple[bytes, bytes]:
    pair = f"{exchange.operator_id}:{exchange.operator_secret}".encode()
    return b"Authorization", b"Basic " + base64.b64encode(pair)


FORM = (b"Content-Type", b"application/x-www-form-urlencoded")


def test_no_bytes_in_a_body_are_a_failure_of_ours(open_exchange: Exchange) -> None:
    @FEW
    @given(st.sampled_from(ENDPOINTS), st.binary(max_size=300))
    def attempt(path: str, body: bytes) -> None:
        send(open_exchange, path, body, [FORM, basic(open_exchange)])

    attempt()


def test_no_form_is_a_failure_of_ours(open_exchange: Exchange) -> None:
    """Bytes that are not UTF-8, parameters twice, values of any kind."""

    @FEW
    @given(st.sampled_from(ENDPOINTS), st.lists(st.tuples(NAMES | st.text(max_size=9), LIKELY | st.binary(max_size=40)), max_size=8))
    def attempt(path: str, pairs: list[tuple[str, str | bytes]]) -> None:
        body = "&".join(f"{quote_from_bytes(as_bytes(name))}={quote_from_bytes(as_bytes(value))}" for name, value in pairs)
        send(open_exchange, path, body.encode(), [FORM, basic(open_exchange)])

    attempt()


def as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")


def test_no_media_type_or_header_is_a_failure_of_ours(open_exchange: Exchange) -> None:
    @FEW
    @given(st.sampled_from(ENDPOINTS), HEADER_BYTES, HEADER_BYTES, HEADER_BYTES, HEADER_BYTES)
    def attempt(path: str, media_type: bytes, authorization: bytes, proof: bytes, accept: bytes) -> None:
        sent = [(b"Content-Type", media_type), (b"Authorization", authorization), (b"DPoP", proof), (b"Accept", accept)]
        send(open_exchange, path, b"grant_type=client_credentials", sent)
        send(open_exchange, path, b"grant_type=client_credentials", [FORM, *sent[1:]])

    attempt()


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("name", [b"Authorization", b"DPoP", b"Accept", b"Content-Type", b"traceparent"])
def test_huge_and_repeated_headers_are_no_failure_of_ours(open_exchange: Exchange, path: str, name: bytes) -> None:
    for value in (b"A" * 100_000, b"Basic " + b"A" * 100_000, b"." * 50_000, b"a.b.c"):
        send(open_exchange, path, b"grant_type=client_credentials", [FORM, (name, value), (name, value)])


def test_no_claims_and_no_header_of_a_proof_are_a_failure_of_ours(open_exchange: Exchange) -> None:
    """Signed, so that all that is behind the signature is met."""
    prover = Prover()

    @FEW
    @given(
        st.dictionaries(st.sampled_from(("jti", "htm", "htu", "iat", "ath", "nonce", "exp", "nbf")), JSON, max_size=4),
        st.dictionaries(st.sampled_from(("typ", "jwk", "kid", "crit", "b64", "x5c")) | st.text(max_size=5), JSON, max_size=2),
    )
    def attempt(claims: dict[str, Any], header: dict[str, Any]) -> None:
        try:
            proof = prover.proof("POST", f"{ISSUER}/oauth/token", header=header, **claims)
        except (ValueError, TypeError):
            return  # what Python writes and no JSON is
        body = b"grant_type=client_credentials"
        send(open_exchange, "/oauth/token", body, [FORM, basic(open_exchange), (b"DPoP", proof.encode())])

    attempt()


def test_no_claims_of_an_assertion_are_a_failure_of_ours(open_exchange: Exchange) -> None:
    key = new_key()
    client = open_exchange.make_strong_client(open_exchange.organization_id, key)

    @FEW
    @given(st.dictionaries(st.sampled_from(("iss", "aud", "jti", "exp", "iat", "nbf")), JSON, max_size=4))
    def attempt(claims: dict[str, Any]) -> None:
        try:
            signed = assertion(client, key, **claims)
        except (ValueError, TypeError):
            return
        form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}
        answer = open_exchange.http.post("/oauth/token", data=form)
        assert answer.status_code in EXPECTED, (answer.status_code, claims)

    attempt()


def test_no_token_that_looks_like_one_is_a_failure_of_ours(open_exchange: Exchange) -> None:
    @FEW
    @given(st.dictionaries(st.sampled_from(("alg", "typ", "kid", "crit")), JSON, max_size=4), JSON, st.binary(max_size=70))
    def attempt(header: dict[str, Any], claims: Any, signature: bytes) -> None:
        parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
        token = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        for scheme in (b"Bearer ", b"DPoP "):
            answer = open_exchange.http.get("/v1/me", headers=[(b"Authorization", scheme + token), (b"DPoP", token)])
            assert answer.status_code == 401
        for path in ENDPOINTS[1:]:
            assert send(open_exchange, path, b"token=" + token, [FORM, basic(open_exchange)]) == 200

    attempt()
