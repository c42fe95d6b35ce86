"""How a client proves itself at the token endpoint."""

from __future__ import annotations

import base64
import sqlite3
import time
from statistics import median
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey
from starlette.datastructures import Headers

from gateway.identity.client_authentication import ClientNotAuthenticated
from tests.identity.exchange import ASSERTION_TYPE, ISSUER, Exchange, assertion, bearer, new_key


@pytest.fixture
def key() -> ECKey:
    return ECKey.generate_key("P-256")


@pytest.fixture
def strong(exchange: Exchange, key: ECKey) -> str:
    return exchange.make_strong_client(exchange.make_organization(), key)


def basic(pair: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


# -- by secret ---------------------------------------------------------------------------------------------------------


def test_unknown_client_and_wrong_secret_look_the_same(exchange: Exchange, strong: str) -> None:
    revoked = exchange.make_client(exchange.organization_id)
    assert exchange.http.post(f"/v1/clients/{revoked['id']}/revoke", headers=exchange.operator).status_code == 200
    tries = [
        ("cli_unknown", "whatever"),
        (exchange.operator_id, "wrong"),
        (exchange.operator_id, ""),
        ("", exchange.operator_secret),
        (strong, ""),
        (revoked["id"], revoked["client_secret"]),
        ("\x00", "\x00"),
    ]
    answers = [exchange.ask_token(*each) for each in tries]
    assert {(answer.status_code, answer.text, answer.headers["www-authenticate"]) for answer in answers} == {
        (401, answers[0].text, 'Basic realm="exchange", charset="UTF-8"')
    }
    assert answers[0].json()["error"] == "invalid_client"


@pytest.mark.parametrize("pair", [b"\xff\xfe:\xff", b"\xff", b"", b":", b"no colon", b"%ff%fe:%ff", "é:é".encode("latin-1")])
def test_basic_credentials_of_any_bytes_are_refused_and_fail_nothing(exchange: Exchange, pair: bytes) -> None:
    answer = exchange.http.post("/oauth/token", data={"grant_type": "client_credentials"}, headers=basic(pair))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("header", ["Basic", "Basic ", "Basic !!!", "Basic YTpi YTpi", "Bearer x", "Digest x"])
def test_header_that_is_not_basic_is_refused(exchange: Exchange, header: str) -> None:
    answer = exchange.http.post("/oauth/token", data={"grant_type": "client_credentials"}, headers={"Authorization": header})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_secret_in_the_body_is_not_taken(exchange: Exchange) -> None:
    form = {"grant_type": "client_credentials", "client_id": exchange.operator_id, "client_secret": exchange.operator_secret}
    assert exchange.http.post("/oauth/token", data=form).json()["error"] == "invalid_client"


def test_client_id_of_the_body_must_be_the_one_that_authenticates(exchange: Exchange) -> None:
    assert exchange.ask_token(exchange.operator_id, exchange.operator_secret, client_id=exchange.operator_id).status_code == 200
    assert exchange.ask_token(exchange.operator_id, exchange.operator_secret, client_id="cli_other").status_code == 401


def test_two_ways_at_once_are_refused(exchange: Exchange, strong: str, key: ECKey) -> None:
    form = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion(strong, key)}
    answer = exchange.ask_token(exchange.operator_id, exchange.operator_secret, **form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_secret_is_kept_as_a_keyed_hash_only(exchange: Exchange) -> None:
    made = exchange.make_client(exchange.organization_id)
    secret = made["client_secret"]
    exchange.database.close()
    database = sqlite3.connect(exchange.settings.data_dir / "exchange.db")
    dump = "\n".join(database.iterdump())
    database.close()
    assert made["id"] in dump
    assert secret not in dump
    assert secret.encode().hex() not in dump.lower()
    assert exchange.operator_secret not in dump


def test_secret_is_in_no_repr(exchange: Exchange) -> None:
    client = exchange.directory.client(exchange.operator_id)
    assert client is not None
    assert client.secret_hash is not None
    assert repr(client.secret_hash) not in repr(client)


# -- by key ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "Ed25519", "PS256"])
def test_assertion_of_each_algorithm_is_accepted(exchange: Exchange, algorithm: str) -> None:
    made = {"ES256": new_key("EC"), "PS256": RSAKey.generate_key(2048)}.get(algorithm) or new_key("OKP")
    client = exchange.make_strong_client(exchange.make_organization(), made)
    answer = exchange.ask_token_by_key(assertion(client, made, algorithm))
    assert answer.status_code == 200, answer.text
    me = exchange.http.get("/v1/me", headers=bearer(answer.json()["access_token"])).json()
    assert (me["client"]["id"], me["strong"]) == (client, False), "a bearer token is good for whoever finds it"


def test_token_that_was_got_by_secret_is_not_strong(exchange: Exchange) -> None:
    assert exchange.http.get("/v1/me", headers=exchange.operator).json()["strong"] is False


def test_assertion_by_rs256_is_refused(exchange: Exchange) -> None:
    key = RSAKey.generate_key(2048)
    client = exchange.make_strong_client(exchange.make_organization(), key)
    assert exchange.ask_token_by_key(assertion(client, key, "RS256")).status_code == 401
    assert exchange.ask_token_by_key(assertion(client, key, "PS256")).status_code == 200


def test_assertion_is_good_once(exchange: Exchange, strong: str, key: ECKey) -> None:
    first, same_jti = assertion(strong, key, jti="one"), assertion(strong, key, jti="one", iat=int(time.time()) - 1)
    assert exchange.ask_token_by_key(first).status_code == 200
    for again in (first, same_jti):
        answer = exchange.ask_token_by_key(again)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_two_clients_may_use_one_jti(exchange: Exchange, strong: str, key: ECKey) -> None:
    other = exchange.make_strong_client(exchange.make_organization("Another"), key)
    assert exchange.ask_token_by_key(assertion(strong, key, jti="one")).status_code == 200
    assert exchange.ask_token_by_key(assertion(other, key, jti="one")).status_code == 200


SECOND = int(time.time())
FAR: dict[str, dict[str, Any]] = {
    "a list as aud": {"aud": [ISSUER]},
    "the token endpoint as aud": {"aud": f"{ISSUER}/oauth/token"},
    "another aud": {"aud": "https://elsewhere.example"},
    "no aud": {"aud": None},
    "no jti": {"jti": None},
    "an empty jti": {"jti": ""},
    "a long jti": {"jti": "x" * 257},
    "a NUL in the jti": {"jti": "a\x00b"},
    "a number as jti": {"jti": 3},
    "no exp": {"exp": None},
    "an exp in words": {"exp": "tomorrow"},
    "an endless exp": {"exp": float("inf")},
    "an exp that is no number": {"exp": float("nan")},
    "an exp five minutes ago": {"exp": SECOND - 300},
    "an exp an hour ahead": {"exp": SECOND + 3600},
    "an iat far ahead": {"iat": SECOND + 3600, "exp": SECOND + 200},
    "an nbf far ahead": {"nbf": SECOND + 3600},
    "an iat in words": {"iat": "now"},
    "another iss": {"iss": "cli_other"},
    "no iss": {"iss": None},
    "no sub": {"sub": None},
    "a number as sub": {"sub": 3},
    "a list as sub": {"sub": ["x"]},
    "an unknown sub": {"sub": "cli_other", "iss": "cli_other"},
}


@pytest.mark.parametrize("wrong", FAR.values(), ids=FAR.keys())
def test_assertion_that_is_wrong_in_one_thing_is_refused(exchange: Exchange, strong: str, key: ECKey, wrong: dict[str, Any]) -> None:
    answer = exchange.ask_token_by_key(assertion(strong, key, **wrong))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


A_LITTLE_OFF: dict[str, dict[str, Any]] = {
    "an iat ten seconds ago": {"iat": SECOND - 10},
    "an iat eight seconds ahead": {"iat": SECOND + 8},
    "no iat": {"iat": None},
    "an nbf five seconds ago": {"nbf": SECOND - 5},
}


@pytest.mark.parametrize("wrong", A_LITTLE_OFF.values(), ids=A_LITTLE_OFF.keys())
def test_clock_that_is_a_little_off_is_borne(exchange: Exchange, strong: str, key: ECKey, wrong: dict[str, Any]) -> None:
    now = int(time.time()) - SECOND
    claims: dict[str, Any] = {name: value + now if value is not None else None for name, value in wrong.items()}
    assert exchange.ask_token_by_key(assertion(strong, key, **claims)).status_code == 200


def test_assertion_of_another_key_is_refused_as_an_unknown_client_is(exchange: Exchange, strong: str, key: ECKey) -> None:
    wrong_key = exchange.ask_token_by_key(assertion(strong, ECKey.generate_key("P-256")))
    unknown = exchange.ask_token_by_key(assertion("cli_unknown", key))
    by_secret = exchange.make_client(exchange.organization_id)["id"]
    wrong_method = exchange.ask_token_by_key(assertion(by_secret, key))
    assert (wrong_key.status_code, wrong_key.text) == (unknown.status_code, unknown.text) == (wrong_method.status_code, wrong_method.text)


def microseconds(exchange: Exchange, headers: dict[str, str], form: dict[str, str]) -> int:
    """Of processor time, that one look at a client takes which fails."""
    authenticating = exchange.app.state.authorization._authentication
    began = time.thread_time_ns()
    with pytest.raises(ClientNotAuthenticated):
        authenticating.authenticate(Headers(headers), form)
    return (time.thread_time_ns() - began) // 1000


def by_assertion(client: str, key: Any, algorithm: str, **header: str) -> dict[str, str]:
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion(client, key, algorithm, header=header)}


@pytest.mark.parametrize(("algorithm", "kind"), [("ES256", "EC"), ("EdDSA", "OKP"), ("Ed25519", "OKP"), ("PS256", "RSA")], ids=str)
def test_unknown_client_and_wrong_signature_take_the_same_time(exchange: Exchange, algorithm: str, kind: str) -> None:
    known, stranger = (RSAKey.generate_key(2048) if kind == "RSA" else new_key(kind) for _ in range(2))
    client = exchange.make_strong_client(exchange.make_organization(), known)
    by_secret = exchange.make_client(exchange.organization_id)["id"]
    forms = {
        "wrong key": by_assertion(client, stranger, algorithm),
        "unknown key id": by_assertion(client, stranger, algorithm, kid="none"),
        "unknown client": by_assertion("cli_unknown", stranger, algorithm),
        "another method": by_assertion(by_secret, stranger, algorithm),
    }
    rounds = [{name: microseconds(exchange, {}, form) for name, form in forms.items()} for _ in range(60)]
    _assert_alike(rounds)


def test_unknown_client_and_wrong_secret_take_the_same_time(exchange: Exchange, strong: str) -> None:
    rotated = exchange.make_client(exchange.organization_id)["id"]
    assert exchange.http.post(f"/v1/clients/{rotated}/rotate", json={"overlap": "PT1H"}, headers=exchange.operator).status_code == 200
    names = {"wrong secret": exchange.operator_id, "two secrets": rotated, "unknown client": "cli_" + "0" * 26, "another method": strong}
    sent = {name: basic(f"{client}:wrong".encode()) for name, client in names.items()}
    rounds = [{name: microseconds(exchange, headers, {}) for name, headers in sent.items()} for _ in range(400)]
    _assert_alike(rounds)


def _assert_alike(rounds: list[dict[str, int]]) -> None:
    """No signature more or less, which is several times what all else takes; and no noise of the machine."""
    taken = {name: median(each[name] for each in rounds) for name in rounds[0]}
    assert max(taken.values()) < 1.6 * min(taken.values()), taken


def test_client_id_of_the_body_must_be_the_one_that_signed(exchange: Exchange, strong: str, key: ECKey) -> None:
    assert exchange.ask_token_by_key(assertion(strong, key), client_id="cli_other").status_code == 401
    assert exchange.ask_token_by_key(assertion(strong, key), client_id=strong).status_code == 200


def test_kid_chooses_among_keys_and_may_be_left_out(exchange: Exchange) -> None:
    keys = [ECKey.generate_key("P-256", auto_kid=True), ECKey.generate_key("P-256", auto_kid=True), new_key("OKP")]
    jwks = {"keys": [key.as_dict(private=False) for key in keys]}
    client = exchange.make_client(exchange.organization_id, token_endpoint_auth_method="private_key_jwt", jwks=jwks)["id"]
    assert exchange.ask_token_by_key(assertion(client, keys[1], header={"kid": keys[1].kid})).status_code == 200
    assert exchange.ask_token_by_key(assertion(client, keys[1])).status_code == 200
    assert exchange.ask_token_by_key(assertion(client, keys[1], header={"kid": keys[0].kid})).status_code == 401


@pytest.mark.parametrize("rubbish", ["x", "a.b.c", "..", "e30.e30.AA", "W10.W10.AA", "é.é.é", "[" * 9000 + ".e30.AA", "A" * 40_000])
def test_rubbish_is_no_assertion_and_no_failure(exchange: Exchange, rubbish: str) -> None:
    answer = exchange.ask_token_by_key(rubbish)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_deeply_nested_assertion_is_refused(exchange: Exchange) -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"ES256"}').rstrip(b"=").decode()
    deep = base64.urlsafe_b64encode(b'{"sub":' + b"[" * 9000).rstrip(b"=").decode()
    assert exchange.ask_token_by_key(f"{head}.{deep}.AAAA").status_code == 401


@pytest.mark.parametrize("header", [{"crit": ["b64"], "b64": True}, {"crit": []}], ids=str)
def test_assertion_that_names_extensions_is_refused(exchange: Exchange, strong: str, key: ECKey, header: dict[str, Any]) -> None:
    assert exchange.ask_token_by_key(assertion(strong, key, header=header)).status_code == 401


def test_assertion_of_another_type_is_refused(exchange: Exchange, strong: str, key: ECKey) -> None:
    assert exchange.ask_token_by_key(assertion(strong, key, header={"typ": "at+jwt"})).status_code == 401
    assert exchange.ask_token_by_key(assertion(strong, key, header={"typ": "client-authentication+jwt"})).status_code == 200
    assert exchange.ask_token_by_key(assertion(strong, key), client_assertion_type="urn:other").status_code == 401


def test_database_that_is_away_is_told_in_oauths_form(exchange: Exchange, strong: str, key: ECKey) -> None:
    path = exchange.settings.data_dir / "exchange.db"
    exchange.database.close()
    path.rename(path.with_suffix(".away"))
    path.mkdir()
    answer = exchange.ask_token_by_key(assertion(strong, key))
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert answer.headers["retry-after"] == "2"
