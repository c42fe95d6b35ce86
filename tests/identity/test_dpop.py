"""Tokens that are bound to a key: what a proof must be, and that each is good once (RFC 9449)."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from gateway.identity.proofs import Seen
from tests.dpop import Prover
from tests.identity.exchange import ISSUER, Exchange, assertion, bearer, new_key

TOKEN = f"{ISSUER}/oauth/token"
ME = f"{ISSUER}/v1/me"


class Bound:
    """A client by key whose tokens are bound to another key."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.key = new_key()
        self.prover = Prover()
        self.client = exchange.make_strong_client(exchange.make_organization(), self.key)

    def ask(self, proof: str | None, **form: str) -> Any:
        """Ask for a token with this proof."""
        headers = {} if proof is None else {"DPoP": proof}
        return self.exchange.ask_token_by_key(assertion(self.client, self.key), headers=headers, **form)

    def token(self) -> str:
        """A bound token."""
        self.prover.hear(self.ask(self.prover.proof("POST", TOKEN)).headers)
        answer = self.ask(self.prover.proof("POST", TOKEN))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def me(self, token: str, **claims: Any) -> Any:
        """Present it."""
        return self.exchange.http.get("/v1/me", headers=self.prover.headers("GET", ME, token, **claims))


@pytest.fixture
def bound(exchange: Exchange) -> Bound:
    return Bound(exchange)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_proof_at_the_token_endpoint_binds_the_token_to_its_key(bound: Bound) -> None:
    bound.prover.hear(bound.ask(bound.prover.proof("POST", TOKEN)).headers)
    answer = bound.ask(bound.prover.proof("POST", TOKEN))
    assert answer.json()["token_type"] == "DPoP"
    claims = json.loads(base64.urlsafe_b64decode(answer.json()["access_token"].split(".")[1] + "=="))
    assert claims["cnf"] == {"jkt": bound.prover.thumbprint}
    assert answer.headers["dpop-nonce"]


def test_first_proof_needs_no_nonce_and_brings_that_of_the_calls(bound: Bound) -> None:
    granted = bound.ask(bound.prover.proof("POST", TOKEN))
    assert (granted.status_code, granted.json()["token_type"]) == (200, "DPoP")
    without = bound.me(granted.json()["access_token"])
    assert (without.status_code, 'error="use_dpop_nonce"' in without.headers["www-authenticate"]) == (401, True)
    bound.prover.hear(granted.headers)
    assert bound.me(granted.json()["access_token"]).status_code == 200


@pytest.mark.parametrize("nonce", ["of-long-ago", "", 3, ["x"]], ids=str)
def test_nonce_at_the_token_endpoint_that_is_not_ours_is_replaced_and_costs_no_assertion(bound: Bound, nonce: object) -> None:
    proof_of_client = assertion(bound.client, bound.key)
    refused = bound.exchange.ask_token_by_key(proof_of_client, headers={"DPoP": bound.prover.proof("POST", TOKEN, nonce=nonce)})
    assert (refused.status_code, refused.json()["error"]) == (400, "use_dpop_nonce")
    bound.prover.hear(refused.headers)
    granted = bound.exchange.ask_token_by_key(proof_of_client, headers={"DPoP": bound.prover.proof("POST", TOKEN)})
    assert granted.status_code == 200


def test_without_proof_the_token_is_a_bearer_token(bound: Bound) -> None:
    answer = bound.ask(None)
    assert answer.json()["token_type"] == "Bearer"
    me = bound.exchange.http.get("/v1/me", headers=bearer(answer.json()["access_token"]))
    assert (me.status_code, me.json()["strong"]) == (200, False)


def token_by_secret(exchange: Exchange, prover: Prover, client_id: str, secret: str) -> str:
    """A bound token of a client with a secret."""

    def ask() -> Any:
        headers = {"DPoP": prover.proof("POST", TOKEN)}
        return exchange.http.post("/oauth/token", auth=(client_id, secret), data={"grant_type": "client_credentials"}, headers=headers)

    prover.hear(ask().headers)
    answer = ask()
    assert answer.json()["token_type"] == "DPoP"
    return str(answer.json()["access_token"])


def test_client_with_a_secret_can_bind_its_tokens_too_and_is_not_strong_for_it(exchange: Exchange) -> None:
    prover = Prover()
    token = token_by_secret(exchange, prover, exchange.operator_id, exchange.operator_secret)
    me = exchange.http.get("/v1/me", headers=prover.headers("GET", ME, token)).json()
    assert (me["client"]["id"], me["strong"]) == (exchange.operator_id, False)


@pytest.mark.parametrize(("algorithm", "kind"), [("ES256", "EC"), ("EdDSA", "OKP"), ("Ed25519", "OKP"), ("PS256", "RSA")], ids=str)
def test_proof_of_each_algorithm_is_accepted(bound: Bound, algorithm: str, kind: str) -> None:
    bound.prover = Prover(RSAKey.generate_key(4096) if kind == "RSA" else new_key(kind), algorithm)
    assert bound.me(bound.token()).json()["strong"] is True


# -- calls -------------------------------------------------------------------------------------------------------------


def test_bound_token_with_a_proof_is_accepted_and_the_answer_gives_the_nonce_for_the_next(bound: Bound) -> None:
    token = bound.token()
    for _ in range(2):
        assert bound.me(token).status_code == 200


def test_bound_token_as_bearer_is_refused(bound: Bound) -> None:
    answer = bound.exchange.http.get("/v1/me", headers=bearer(bound.token()))
    assert (answer.status_code, answer.json()["code"]) == (401, "dpop_required")
    assert answer.headers["www-authenticate"].startswith('DPoP error="invalid_token"')


def test_bound_token_without_proof_is_refused(bound: Bound) -> None:
    answer = bound.exchange.http.get("/v1/me", headers={"Authorization": f"DPoP {bound.token()}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert 'error="invalid_dpop_proof"' in answer.headers["www-authenticate"]


def test_token_that_is_bound_to_nothing_is_refused_as_dpop(bound: Bound) -> None:
    token = bound.ask(None).json()["access_token"]
    answer = bound.me(token)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert answer.headers["www-authenticate"].startswith("DPoP ")


def test_call_without_token_is_told_of_both_schemes(exchange: Exchange) -> None:
    told = exchange.http.get("/v1/me").headers["www-authenticate"]
    assert told.startswith("Bearer resource_metadata=")
    assert ', DPoP algs="ES256 EdDSA Ed25519 PS256"' in told


def test_call_is_told_the_nonce_that_it_lacks(bound: Bound) -> None:
    token = bound.token()
    answer = bound.me(token, nonce="of-long-ago")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert 'error="use_dpop_nonce"' in answer.headers["www-authenticate"]
    bound.prover.hear(answer.headers)
    assert bound.me(token).status_code == 200


def test_missing_scope_is_told_in_the_scheme_that_was_used(bound: Bound) -> None:
    token = bound.token()
    headers = bound.prover.headers("POST", f"{ISSUER}/v1/organizations", token)
    answer = bound.exchange.http.post("/v1/organizations", json={"name": "x", "kind": "partner"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert answer.headers["www-authenticate"].startswith('DPoP error="insufficient_scope"')


# -- what is wrong with a proof ----------------------------------------------------------------------------------------


def _private(key: Key) -> dict[str, Any]:
    return {"jwk": key.as_dict(private=True)}


P384, SECP256K1 = ECKey.generate_key("P-384"), ECKey.generate_key("secp256k1")
SMALL_RSA = {"kty": "RSA", "n": base64.urlsafe_b64encode(b"\xff" * 128).rstrip(b"=").decode(), "e": "AQAB"}
OTHER, RSA, OCT = new_key(), RSAKey.generate_key(2048), OctKey.generate_key(256)
X25519, ED25519 = OKPKey.generate_key("X25519"), new_key("OKP")
PRIVATE = new_key()

# Per case: the claims that are replaced, or the header, the key that signs, the key that is shown.
WRONG: dict[str, dict[str, Any]] = {
    "typ JWT": {"header": {"typ": "JWT"}},
    "typ of an access token": {"header": {"typ": "at+jwt"}},
    "no typ": {"header": {"typ": None}},
    "typ in capitals": {"header": {"typ": "DPOP+JWT"}},
    "alg none": {"header": {"alg": "none"}},
    "alg HS256": {"header": {"alg": "HS256"}, "key": OCT},
    "alg HS256 with the public key": {"header": {"alg": "HS256", "jwk": OCT.as_dict()}, "key": OCT},
    "alg RS256": {"header": {"alg": "RS256", "jwk": RSA.as_dict(private=False)}, "key": RSA},
    "alg ES384": {"header": {"alg": "ES384", "jwk": P384.as_dict(private=False)}, "key": P384},
    "alg ES256K": {"header": {"alg": "ES256K", "jwk": SECP256K1.as_dict(private=False)}, "key": SECP256K1},
    "alg PS256 with a key of another type": {"header": {"alg": "PS256"}, "key": RSA},
    "no jwk": {"header": {"jwk": None}},
    "jwk that is text": {"header": {"jwk": "key"}},
    "jwk with the private key": {"header": _private(PRIVATE), "key": PRIVATE},
    "jwk that is a secret": {"header": {"jwk": OCT.as_dict()}},
    "jwk of 1,024 bits": {"header": {"alg": "PS256", "jwk": SMALL_RSA}, "key": RSA},
    "jwk with a vast exponent": {"header": {"alg": "PS256", "jwk": RSA.as_dict(private=False) | {"e": RSA.as_dict()["n"]}}, "key": RSA},
    "jwk of another curve": {"header": {"jwk": P384.as_dict(private=False)}},
    "jwk for agreeing on keys": {"header": {"alg": "EdDSA", "jwk": X25519.as_dict(private=False)}, "key": ED25519},
    "jwk that is no point": {"header": {"jwk": {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}}},
    "jwk of numbers": {"header": {"jwk": {"kty": "EC", "crv": "P-256", "x": 1, "y": 2}}},
    "jwk without kty": {"header": {"jwk": {"crv": "P-256"}}},
    "jwk with a kty that is a list": {"header": {"jwk": {"kty": []}}},
    "jwk for encryption": {"header": {"jwk": OTHER.as_dict(private=False) | {"use": "enc"}}, "key": OTHER},
    "signature by another key": {"key": OTHER},
    "critical header": {"header": {"crit": ["exp"], "exp": 1}},
    "payload that is not encoded": {"header": {"crit": ["b64"], "b64": False}},
    "no jti": {"jti": None},
    "empty jti": {"jti": ""},
    "long jti": {"jti": "x" * 257},
    "jti that is a number": {"jti": 1},
    "jti with a NUL": {"jti": "a\x00"},
    "no htm": {"htm": None},
    "htm of another method": {"htm": "PATCH"},
    "htm in small letters": {"htm": "{method.lower}"},
    "no htu": {"htu": None},
    "htu of another path": {"htu": f"{ISSUER}/v1/clients"},
    "htu of another host": {"htu": "https://elsewhere.example/v1/me"},
    "htu of another scheme": {"htu": "{url.https}"},
    "htu that is a path": {"htu": "/v1/me"},
    "htu with a user": {"htu": "{url.user}"},
    "htu that is no URL": {"htu": "http://[::1"},
    "htu with a port that is none": {"htu": "http://exchange.test:port/v1/me"},
    "htu that is a number": {"htu": 7},
    "no iat": {"iat": None},
    "iat in words": {"iat": "now"},
    "iat that is true": {"iat": True},
    "iat beyond all numbers": {"iat": 10**400},
    "iat an hour ago": {"iat": -3600},
    "iat an hour ahead": {"iat": 3600},
    "exp five minutes ago": {"exp": -300},
    "nbf five minutes ahead": {"nbf": 300},
    "exp in words": {"exp": "later"},
}
TIMES = {"iat", "exp", "nbf"}


def made_wrong(prover: Prover, method: str, url: str, token: str | None, wrong: dict[str, Any]) -> str:
    """A proof that is wrong in one thing."""
    meant = {
        "{method.lower}": method.lower(),
        "{url.https}": url.replace("http://", "https://"),
        "{url.user}": url.replace("http://", "http://exchange@"),
    }
    claims: dict[str, Any] = {name: meant.get(value, value) if isinstance(value, str) else value for name, value in wrong.items()}
    for name in TIMES & claims.keys():
        if type(claims[name]) is int and abs(claims[name]) < 10_000:
            claims[name] += int(time.time())
    return prover.proof(method, url, token, **claims)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_proof_that_is_wrong_in_one_thing_gets_no_token(bound: Bound, wrong: dict[str, Any]) -> None:
    bound.prover.hear(bound.ask(bound.prover.proof("POST", TOKEN)).headers)
    answer = bound.ask(made_wrong(bound.prover, "POST", TOKEN, None, wrong))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof"), answer.text


ONLY_AT_CALLS: dict[str, dict[str, Any]] = {
    "no ath": {"ath": None},
    "ath of another token": {"ath": "A" * 43},
    "ath that is a number": {"ath": 3},
    "another key": {"header": {"jwk": OTHER.as_dict(private=False)}, "key": OTHER},
}


@pytest.mark.parametrize("wrong", (WRONG | ONLY_AT_CALLS).values(), ids=(WRONG | ONLY_AT_CALLS).keys())
def test_proof_that_is_wrong_in_one_thing_opens_no_call(bound: Bound, wrong: dict[str, Any]) -> None:
    token = bound.token()
    proof = made_wrong(bound.prover, "GET", ME, token, wrong)
    answer = bound.exchange.http.get("/v1/me", headers={"Authorization": f"DPoP {token}", "DPoP": proof})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid"), answer.text
    assert answer.headers["www-authenticate"].startswith('DPoP error="invalid_dpop_proof"')


@pytest.mark.parametrize("rubbish", ["", "x", "a.b.c", "..", "e30.e30.AA", "W10.W10.AA", "é.é.é", "[" * 9000 + ".e30.AA", "A" * 40_000])
def test_rubbish_is_no_proof_and_no_failure(bound: Bound, rubbish: str) -> None:
    answer = bound.exchange.http.post("/oauth/token", data={"grant_type": "client_credentials"}, headers=[(b"DPoP", rubbish.encode())])
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")
    headers = [(b"Authorization", f"DPoP {bound.token()}".encode()), (b"DPoP", rubbish.encode())]
    assert bound.exchange.http.get("/v1/me", headers=headers).status_code == 401


@pytest.mark.parametrize("claims", ["[]", "3", "null", '"x"', "{", "[" * 9000])
def test_claims_that_are_no_object_are_refused(bound: Bound, claims: str) -> None:
    head = base64.urlsafe_b64encode(
        json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": bound.prover.key.as_dict(private=False)}).encode()
    )
    body = base64.urlsafe_b64encode(claims.encode())
    proof = b".".join(part.rstrip(b"=") for part in (head, body, b"A" * 86)).decode()
    assert bound.ask(proof).json()["error"] == "invalid_dpop_proof"


def test_two_proofs_are_refused(bound: Bound) -> None:
    token = bound.token()
    proofs = [("DPoP", bound.prover.proof("GET", ME, token)) for _ in range(2)]
    answer = bound.exchange.http.get("/v1/me", headers=[("Authorization", f"DPoP {token}"), *proofs])
    assert answer.json()["code"] == "token_invalid"
    form = {"grant_type": "client_credentials"}
    twice = [("DPoP", bound.prover.proof("POST", TOKEN)) for _ in range(2)]
    assert bound.exchange.http.post("/oauth/token", data=form, headers=twice).json()["error"] == "invalid_dpop_proof"


def test_proof_is_for_the_issuer_wherever_a_proxy_reaches_the_exchange(bound: Bound) -> None:
    token = bound.token()
    for url, status in ((ME, 200), ("http://10.0.0.1:8080/v1/me", 401)):
        headers = bound.prover.headers("GET", url, token)
        assert bound.exchange.http.get("http://10.0.0.1:8080/v1/me", headers=headers).status_code == status
    headers = bound.prover.headers("GET", f"{ISSUER}/v1/organizations", token)
    assert bound.exchange.http.get("/v1/organizations?limit=1", headers=headers).status_code == 200


@pytest.mark.parametrize("seconds", [-10, 8], ids=["ten seconds behind", "eight seconds ahead"])
def test_clock_that_is_a_little_off_is_borne(bound: Bound, seconds: int) -> None:
    assert bound.me(bound.token(), iat=int(time.time()) + seconds).status_code == 200


def test_only_a_key_that_has_signed_is_remembered(bound: Bound) -> None:
    bound.token()
    reader = bound.exchange.app.state.proofs._reader
    known = dict(reader._keys)
    assert known
    shown = {"jwk": OTHER.as_dict(private=False)}
    assert bound.ask(bound.prover.proof("POST", TOKEN, header=shown)).json()["error"] == "invalid_dpop_proof"
    assert reader._keys == known


# -- once --------------------------------------------------------------------------------------------------------------


def test_proof_at_the_token_endpoint_is_good_once(bound: Bound) -> None:
    bound.token()
    proof = bound.prover.proof("POST", TOKEN)
    assert bound.ask(proof).status_code == 200
    answer = bound.ask(proof)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")


def test_proof_without_nonce_at_the_token_endpoint_is_good_once_across_replicas(bound: Bound) -> None:
    proof = bound.prover.proof("POST", TOKEN)
    assert bound.ask(proof).status_code == 200
    again = bound.ask(proof)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_dpop_proof")
    late = bound.prover.proof("POST", TOKEN, iat=int(time.time()) - 61)
    assert bound.ask(late).json()["error"] == "invalid_dpop_proof"


def test_jti_is_good_once_even_in_another_proof(bound: Bound) -> None:
    bound.token()
    assert bound.ask(bound.prover.proof("POST", TOKEN, jti="one")).status_code == 200
    assert bound.ask(bound.prover.proof("POST", TOKEN, jti="one", iat=int(time.time()) - 1)).status_code == 400


def test_proof_of_a_read_is_good_once(bound: Bound) -> None:
    token = bound.token()
    headers = bound.prover.headers("GET", ME, token)
    assert bound.exchange.http.get("/v1/me", headers=headers).status_code == 200
    again = bound.exchange.http.get("/v1/me", headers=headers)
    assert (again.status_code, again.json()["code"]) == (401, "token_invalid")


def test_proof_of_a_change_is_good_once_across_replicas(exchange: Exchange) -> None:
    operator = Prover()
    token = token_by_secret(exchange, operator, exchange.operator_id, exchange.operator_secret)
    headers = operator.headers("POST", f"{ISSUER}/v1/organizations", token)
    assert exchange.http.post("/v1/organizations", json={"name": "One", "kind": "partner"}, headers=headers).status_code == 201
    exchange.app.state.proofs = exchange.new_proofs()  # as another replica has them, with nothing in memory
    again = exchange.http.post("/v1/organizations", json={"name": "Two", "kind": "partner"}, headers=headers)
    assert (again.status_code, again.json()["code"]) == (401, "token_invalid")


def test_two_keys_may_use_one_jti(bound: Bound) -> None:
    bound.token()
    other = Prover()
    other.nonce = bound.prover.nonce
    assert bound.ask(bound.prover.proof("POST", TOKEN, jti="one")).status_code == 200
    assert bound.ask(other.proof("POST", TOKEN, jti="one")).status_code == 200


def test_what_was_seen_is_kept_for_its_span_and_no_more_than_is_allowed() -> None:
    seen = Seen(10, 3)
    assert [seen.add(b"a", 100.0), seen.add(b"a", 109.9), seen.add(b"a", 119.8)] == [True, False, False]
    assert seen.add(b"a", 140.0)
    assert all(seen.add(bytes([number]), 141.0) for number in range(20))
