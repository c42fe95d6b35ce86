"""People sign in at a real OpenID provider, and get tokens of the exchange."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy import select

from gateway.audit.models import AuditEntry
from gateway.identity.person_tokens import COMMAND_LINE, TOKEN_EXCHANGE
from tests.engines import OpenIdProvider, install
from tests.engines.openid import COMMAND_LINE as CLIENT_ID
from tests.identity.exchange import Exchange, bearer
from tests.identity.signing_in import Someone, ask, city, granted, id_token, refreshed, signed_in_at


@pytest.fixture
def exchange(tmp_path: Path, openid_provider: OpenIdProvider) -> Iterator[Exchange]:
    with city(tmp_path, openid_provider) as made:
        yield made


@pytest.fixture
def own_provider(tmp_path: Path) -> Iterator[OpenIdProvider]:
    """One that a test may stop, and whose keys it may change."""
    provider = OpenIdProvider(install.node_modules(install.OPENID_PROVIDER), tmp_path / "openid")
    provider.start()
    yield provider
    provider.stop()


def refused(answer: Any, error: str = "invalid_grant", status: int = 400) -> str:
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    return str(answer.json()["error_description"])


def test_person_signs_in_by_code_and_pkce_and_gets_a_token_of_ten_minutes(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    began = int(time.time())
    told = granted(exchange, *signed_in_at(openid_provider, "petra"))
    me = exchange.http.get("/v1/me", headers=bearer(told["access_token"])).json()
    assert told["expires_in"] in range(595, 601)
    assert (told["token_type"], told["issued_token_type"]) == ("Bearer", "urn:ietf:params:oauth:token-type:access_token")
    assert me["person"]["id"].startswith("per_")
    assert me["person"]["auth_time"] >= time.strftime("%Y-%m-%dT%H:%M", time.gmtime(began))
    assert me["roles"] == ["privacy_officer", "resident"]
    assert me["organization"]["id"] == exchange.organization_id
    assert "policies:approve" in me["scopes"]
    assert "clients:write" not in me["scopes"]
    assert set(told["scope"].split()) == set(me["scopes"])


def test_person_without_a_group_is_a_resident_of_no_organization(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    me = Someone(exchange, openid_provider, "rita").me()
    assert (me["roles"], me["scopes"], "organization" in me) == (["resident"], [], False)


def test_person_is_the_same_at_every_sign_in(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    assert Someone(exchange, openid_provider, "petra").id == Someone(exchange, openid_provider, "petra").id
    assert Someone(exchange, openid_provider, "petra").id != Someone(exchange, openid_provider, "petra-admin").id


def test_nothing_of_a_person_but_their_identifier_stands_in_the_audit_log(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    someone = Someone(exchange, openid_provider, "olga")
    exchange.http.post("/v1/organizations", json={"name": "Someone Inc.", "kind": "partner"}, headers=someone.headers)
    with exchange.database.reading() as session:
        entries = [row.entry.decode() for row in session.scalars(select(AuditEntry))]
    assert any(json.loads(entry).get("actor") == someone.id for entry in entries if "organization" in entry)
    assert not [entry for entry in entries if "olga" in entry.lower() or "e-1" in entry]


# -- the ID token ------------------------------------------------------------------------------------------------------

HOUR = 3600
WRONG: dict[str, dict[str, Any]] = {
    "issuer with a slash": {"iss": "/"},
    "issuer unknown": {"iss": "https://evil.example"},
    "audience of another client": {"aud": "another"},
    "audience of the exchange": {"aud": "http://exchange.test"},
    "audience of two": {"aud": [CLIENT_ID, "another"]},
    "audience empty": {"aud": []},
    "audience missing": {"aud": None},
    "authorized party another": {"azp": "another"},
    "expired": {"iat": -2 * HOUR, "exp": -HOUR},
    "expiry missing": {"exp": None},
    "expiry as text": {"exp": "soon"},
    "issued an hour ago": {"iat": -HOUR},
    "issued in an hour": {"iat": HOUR},
    "issue missing": {"iat": None},
    "not before an hour": {"nbf": HOUR},
    "subject missing": {"sub": None},
    "subject empty": {"sub": ""},
    "subject a number": {"sub": 7},
    "subject too long": {"sub": "x" * 256},
    "nonce of nobody": {"nonce": "x"},
    "auth_time as text": {"auth_time": "now"},
    "auth_time in an hour": {"auth_time": HOUR},
    "auth_time beyond the calendar": {"auth_time": 1e300},
    "expiry without end": {"exp": float("inf")},
    "issue at no time": {"iat": float("nan")},
}


@pytest.mark.parametrize("case", WRONG)
def test_id_token_with_a_wrong_claim_is_refused(exchange: Exchange, openid_provider: OpenIdProvider, case: str) -> None:
    claims = dict(WRONG[case])
    for name in ("exp", "iat", "nbf", "auth_time"):
        if isinstance(claims.get(name), int):
            claims[name] += int(time.time())
    if claims.get("iss") == "/":
        claims["iss"] = openid_provider.issuer + "/"
    refused(ask(exchange, id_token(openid_provider, "olga", **claims)))


@pytest.mark.parametrize("verifier", [None, "another"])
def test_id_token_needs_the_text_of_its_nonce(exchange: Exchange, openid_provider: OpenIdProvider, verifier: str | None) -> None:
    token, right = signed_in_at(openid_provider, "rita")
    assert "nonce" in refused(ask(exchange, token, verifier))
    granted(exchange, token, right)


def test_id_token_is_exchanged_once(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    token = id_token(openid_provider, "olga")
    granted(exchange, token)
    assert "before" in refused(ask(exchange, token))
    head, payload, signature = token.split(".")
    refused(ask(exchange, f"{head}.{payload}.{signature}="))


def forged(provider: OpenIdProvider, case: str) -> str:
    if case == "alg none":
        token = id_token(provider, "olga")
        return jws.serialize_compact({"alg": "none"}, jws.extract_compact(token.encode()).payload, None, algorithms=["none"])
    if case == "HS256 by the public key":
        public = provider.key.as_pem(private=False)
        return id_token(provider, "olga", {"alg": "HS256"}, OctKey.import_key(public.hex()))
    if case == "key of another under our kid":
        return id_token(provider, "olga", key=RSAKey.generate_key(2048))
    if case == "unknown kid":
        return id_token(provider, "olga", {"kid": "another"})
    if case == "key in the header":
        other = RSAKey.generate_key(2048)
        return id_token(provider, "olga", {"kid": None, "jwk": other.as_dict(private=False)}, other)
    token = id_token(provider, "olga")
    return token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBB")


@pytest.mark.parametrize(
    "case", ["alg none", "HS256 by the public key", "key of another under our kid", "unknown kid", "key in the header", "broken signature"]
)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_id_token_that_the_provider_did_not_sign_is_refused(exchange: Exchange, openid_provider: OpenIdProvider, case: str) -> None:
    refused(ask(exchange, forged(openid_provider, case)))


def test_access_token_is_no_id_token(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    refused(ask(exchange, Someone(exchange, openid_provider, "olga").granted["access_token"]))
    refused(ask(exchange, exchange.token(exchange.operator_id, exchange.operator_secret)))


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"client_id": "another"}, "unauthorized_client"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"actor_token": "x"}, "invalid_request"),
        ({"resource": "https://other.example"}, "invalid_target"),
        ({"scope": "root"}, "invalid_scope"),
    ],
    ids=["client", "kind", "wanted", "actor", "resource", "scope"],
)
def test_exchange_of_something_else_is_refused(
    exchange: Exchange, openid_provider: OpenIdProvider, more: dict[str, str], error: str
) -> None:
    refused(ask(exchange, id_token(openid_provider, "olga"), **more), error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(token=st.text(max_size=200) | st.lists(st.binary(max_size=40), max_size=4).map(lambda parts: b".".join(parts).decode("latin-1")))
def test_no_subject_token_makes_the_token_endpoint_fail(exchange: Exchange, token: str) -> None:
    for form in ({"subject_token": token}, {"refresh_token": token}, {"username": token, "password": token}):
        for grant in (TOKEN_EXCHANGE, "refresh_token"):
            answer = exchange.http.post("/oauth/token", data={"grant_type": grant, "client_id": COMMAND_LINE} | form)
            assert answer.status_code == 400


# -- the provider ------------------------------------------------------------------------------------------------------


def test_provider_rolls_its_keys_over_and_nobody_notices(tmp_path: Path, own_provider: OpenIdProvider) -> None:
    with city(tmp_path / "exchange", own_provider) as exchange:
        granted(exchange, *signed_in_at(own_provider, "olga"))
        before = id_token(own_provider, "olga")
        own_provider.stop()
        own_provider.roll_keys("EC")
        own_provider.start()
        refetch_is_allowed(exchange)
        granted(exchange, *signed_in_at(own_provider, "olga"))
        refused(ask(exchange, before))


def refetch_is_allowed(exchange: Exchange) -> None:
    """As if the five seconds had passed in which an unknown key is not asked for again."""
    exchange.app.state.authorization.people.providers[0].at._not_before = 0.0


def test_while_the_provider_is_away_who_signed_in_goes_on(tmp_path: Path, own_provider: OpenIdProvider) -> None:
    with city(tmp_path / "exchange", own_provider) as exchange:
        token = id_token(own_provider, "olga")
        own_provider.stop()
        away = ask(exchange, token)
        assert (away.status_code, away.json()["error"], away.headers["retry-after"]) == (503, "temporarily_unavailable", "2")
        own_provider.start()
        someone = granted(exchange, token)
        own_provider.stop()
        assert refreshed(exchange, someone["refresh_token"]).status_code == 200
        granted(exchange, id_token(own_provider, "petra"))  # its keys are known


# -- refresh -----------------------------------------------------------------------------------------------------------


def test_refresh_token_is_good_once_and_its_reuse_ends_the_whole_sign_in(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    first = Someone(exchange, openid_provider, "olga")
    other = Someone(exchange, openid_provider, "olga")
    second = refreshed(exchange, first.granted["refresh_token"]).json()
    third = refreshed(exchange, second["refresh_token"]).json()
    assert exchange.http.get("/v1/me", headers=bearer(third["access_token"])).status_code == 200
    refused(refreshed(exchange, first.granted["refresh_token"]))
    for token in (first.granted["access_token"], third["access_token"]):
        assert exchange.http.get("/v1/me", headers=bearer(token)).json()["code"] == "token_invalid"
    refused(refreshed(exchange, third["refresh_token"]))
    other.me()
    assert refreshed(exchange, other.granted["refresh_token"]).status_code == 200


def test_refresh_keeps_when_the_person_signed_in_and_can_narrow(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    earlier = int(time.time()) - 1800
    someone = Someone(exchange, openid_provider, "olga", auth_time=earlier)
    again = refreshed(exchange, someone.granted["refresh_token"], scope="audit:read").json()
    assert again["scope"] == "audit:read"
    me = exchange.http.get("/v1/me", headers=bearer(again["access_token"])).json()
    assert me["person"]["auth_time"] == someone.me()["person"]["auth_time"]
    assert me["scopes"] == ["audit:read"]


def test_sign_in_is_over_after_its_hours(tmp_path: Path, openid_provider: OpenIdProvider) -> None:
    with city(tmp_path, openid_provider, token_lifetime_s=3600, person_session_h=1) as exchange:
        told = granted(exchange, id_token(openid_provider, "olga"))
        assert told["expires_in"] <= 3600
        with exchange.database.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE person_sessions SET expires_at = '2020-01-01 00:00:00'")
        refused(refreshed(exchange, told["refresh_token"]))


def test_signing_out_ends_tokens_and_refresh(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    someone = Someone(exchange, openid_provider, "olga")
    assert exchange.http.post("/v1/me/sign-out", headers=someone.headers).status_code == 204
    assert exchange.http.get("/v1/me", headers=someone.headers).json()["code"] == "token_invalid"
    refused(refreshed(exchange, someone.granted["refresh_token"]))
    assert exchange.http.post("/v1/me/sign-out", headers=exchange.operator).json()["code"] == "person_required"


def test_secrets_of_sign_ins_are_kept_as_hashes(exchange: Exchange, openid_provider: OpenIdProvider) -> None:
    someone = Someone(exchange, openid_provider, "olga")
    kept = b"".join(path.read_bytes() for path in exchange.settings.data_dir.glob("exchange.db*"))
    assert someone.granted["refresh_token"].encode() not in kept
    assert someone.granted["access_token"].encode() not in kept
    assert b"e-1" not in kept.replace(b"e-10", b"")
