"""The modules of the OpenID Foundation's test plan for the FAPI 2.0 Security Profile (Final), client credentials grant, with
`private_key_jwt` and DPoP: each is a test with the module's name as its id.

Written from the modules' descriptions and the specification, not from their code; the Foundation's own suite was not run.
"""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from joserfc.jwk import ECKey, Key, RSAKey

from tests.dpop import Prover
from tests.identity.exchange import ASSERTION_TYPE, ISSUER, Exchange, assertion, bearer
from tests.identity.registering import by_key, make_token, register, registered
from tests.identity.test_dpop import ONLY_AT_CALLS, WRONG, made_wrong

PLAN = "fapi2-security-profile-final"


def module(name: str) -> pytest.MarkDecorator:
    """A test that is one module."""
    return pytest.mark.parametrize("plan", [PLAN], ids=[f"{PLAN}-{name}"])


class FapiClient:
    """A client of the profile: it registers itself, authenticates by key, and binds its tokens."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.metadata = exchange.http.get("/.well-known/oauth-authorization-server").json()
        self.token_endpoint = self.metadata["token_endpoint"]
        self.resource = f"{ISSUER}/v1/me"
        made, key = registered(exchange, dpop_bound_access_tokens=True)
        self.client_id, self.key = str(made["client_id"]), key
        self.prover = Prover()
        self.prover.hear(self.ask().headers)

    def ask(self, signed: str | None = None, proof: str | None = None, *, proves: bool = True, **form: str) -> Any:
        """A token request, right in everything that is not given."""
        sent = proof or (self.prover.proof("POST", self.token_endpoint) if proves else None)
        headers = {"DPoP": sent} if sent is not None else None
        return self.exchange.ask_token_by_key(signed or assertion(self.client_id, self.key), headers=headers, **form)

    def token(self) -> str:
        """A bound token."""
        answer = self.ask()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def call(self, token: str, proof: str | None = None, scheme: str = "DPoP") -> Any:
        """A call of the resource."""
        headers = {"Authorization": f"{scheme} {token}", "DPoP": proof or self.prover.proof("GET", self.resource, token)}
        return self.exchange.http.get("/v1/me", headers=headers)


@pytest.fixture
def client(exchange: Exchange) -> FapiClient:
    return FapiClient(exchange)


def another(exchange: Exchange, key: Key) -> str:
    """A client of another organization."""
    token = make_token(exchange, exchange.make_organization("Another"), approved=True)
    return str(register(exchange, token, **by_key(key)).json()["client_id"])


def refused(answer: Any, *errors: str) -> None:
    """An error in OAuth's form, whose description has no character that RFC 6749 section 5.2 forbids."""
    assert answer.status_code in {400, 401}, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"] in errors, answer.text
    assert not set(answer.json().get("error_description", "")) - {
        chr(code) for code in (0x20, 0x21, *range(0x23, 0x5C), *range(0x5D, 0x7F))
    }


@module("discovery-end-point-verification")
def test_metadata_offer_what_the_profile_asks_for(client: FapiClient, plan: str) -> None:
    said = client.metadata
    assert plan
    assert said["issuer"] == ISSUER
    assert set(said["dpop_signing_alg_values_supported"]) <= {"ES256", "PS256", "EdDSA", "Ed25519"}
    assert set(said["token_endpoint_auth_signing_alg_values_supported"]) <= {"ES256", "PS256", "EdDSA", "Ed25519"}
    assert "private_key_jwt" in said["token_endpoint_auth_methods_supported"]
    assert "client_credentials" in said["grant_types_supported"]
    assert not {"implicit", "password"} & set(said["grant_types_supported"])
    assert not {"client_secret_post", "client_secret_jwt", "none"} & set(said["token_endpoint_auth_methods_supported"])
    keys = client.exchange.http.get(said["jwks_uri"]).json()["keys"]
    assert keys
    assert not any({"d", "k"} & key.keys() for key in keys)


@module("happy-flow")
def test_client_gets_a_bound_token_and_calls_with_it(client: FapiClient, plan: str) -> None:
    assert plan
    answer = client.ask(scope="events:read")
    granted = answer.json()
    assert (granted["token_type"], granted["scope"]) == ("DPoP", "events:read")
    assert granted["expires_in"] <= 600
    assert answer.headers["cache-control"] == "no-store"
    called = client.call(granted["access_token"])
    assert (called.status_code, called.json()["client"]["id"], called.json()["strong"]) == (200, client.client_id, True)


@module("access-token-type-header-case-sensitivity")
@pytest.mark.parametrize("scheme", ["dpop", "DPOP", "dPoP"])
def test_name_of_the_scheme_is_taken_in_any_case(client: FapiClient, plan: str, scheme: str) -> None:
    assert plan
    assert client.call(client.token(), scheme=scheme).status_code == 200


@module("check-dpop-proof-nbf-exp")
def test_nbf_and_exp_in_a_proof_are_borne_and_held_to(client: FapiClient, plan: str) -> None:
    assert plan
    second = int(time.time())
    cases: list[tuple[dict[str, Any], int]] = [
        ({"nbf": second, "exp": second + 60}, 200),
        ({"nbf": second + 300}, 400),
        ({"exp": second - 300}, 400),
    ]
    for claims, status in cases:
        assert client.ask(proof=client.prover.proof("POST", client.token_endpoint, **claims)).status_code == status, claims


@module("ensure-dpopproof-with-iat-10seconds-before-succeeds")
def test_proof_of_ten_seconds_ago_is_taken(client: FapiClient, plan: str) -> None:
    _assert_taken(client, plan, -10)


@module("ensure-dpopproof-with-iat-10seconds-after-succeeds")
def test_proof_of_ten_seconds_ahead_is_taken(client: FapiClient, plan: str) -> None:
    _assert_taken(client, plan, 10)


def _assert_taken(client: FapiClient, plan: str, seconds: int) -> None:
    assert plan
    issued = int(time.time()) + seconds
    granted = client.ask(proof=client.prover.proof("POST", client.token_endpoint, iat=issued))
    assert granted.status_code == 200, granted.text
    token = granted.json()["access_token"]
    assert client.call(token, client.prover.proof("GET", client.resource, token, iat=int(time.time()) + seconds)).status_code == 200


@module("ensure-client-id-in-token-endpoint")
def test_client_id_of_another_client_is_refused(client: FapiClient, plan: str) -> None:
    assert plan
    key = ECKey.generate_key("P-256")
    other = another(client.exchange, key)
    refused(client.ask(client_id=other), "invalid_client")
    refused(client.ask(assertion(other, client.key)), "invalid_client")
    assert client.ask(assertion(other, key)).status_code == 200


@module("ensure-holder-of-key-required")
def test_token_request_without_a_proof_is_refused(client: FapiClient, plan: str) -> None:
    assert plan
    refused(client.ask(proves=False), "invalid_dpop_proof")
    token = client.token()
    assert client.exchange.http.get("/v1/me", headers=bearer(token)).json()["code"] == "dpop_required"
    assert client.exchange.http.get("/v1/me", headers={"Authorization": f"DPoP {token}"}).status_code == 401


@module("ensure-signed-client-assertion-with-RS256-fails")
def test_assertion_by_rs256_is_refused(client: FapiClient, plan: str) -> None:
    assert plan
    key = RSAKey.generate_key(2048)
    made = another(client.exchange, key)
    refused(client.ask(assertion(made, key, "RS256")), "invalid_client")
    assert client.ask(assertion(made, key, "PS256")).status_code == 200


@module("ensure-client-assertion-in-token-endpoint")
def test_request_without_an_assertion_is_refused(client: FapiClient, plan: str) -> None:
    assert plan
    form = {"grant_type": "client_credentials", "client_id": client.client_id}
    for more in ({}, {"client_assertion_type": ASSERTION_TYPE}, {"client_assertion": assertion(client.client_id, client.key)}):
        headers = {"DPoP": client.prover.proof("POST", client.token_endpoint)}
        refused(client.exchange.http.post("/oauth/token", data=form | more, headers=headers), "invalid_client", "invalid_request")


@module("ensure-client-assertion-with-exp-is-5-minutes-in-past-fails")
def test_assertion_that_expired_five_minutes_ago_is_refused(client: FapiClient, plan: str) -> None:
    assert plan
    refused(client.ask(assertion(client.client_id, client.key, exp=int(time.time()) - 300)), "invalid_client")


@module("ensure-client-assertion-with-wrong-aud-fails")
@pytest.mark.parametrize(
    "audience",
    ["https://elsewhere.example", f"{ISSUER}/oauth/token", [ISSUER], [ISSUER, "https://elsewhere.example"], f"{ISSUER}/"],
    ids=["another", "the token endpoint", "a list", "a list with another", "a slash more"],
)
def test_assertion_for_another_audience_is_refused(client: FapiClient, plan: str, audience: Any) -> None:
    assert plan
    refused(client.ask(assertion(client.client_id, client.key, aud=audience)), "invalid_client")


@module("ensure-client-assertion-with-no-sub-fails")
def test_assertion_without_sub_is_refused(client: FapiClient, plan: str) -> None:
    assert plan
    refused(client.ask(assertion(client.client_id, client.key, sub=None)), "invalid_client")


def _unsecured(client: FapiClient) -> str:
    claims = assertion(client.client_id, client.key).split(".")[1]
    return base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode() + f".{claims}."


@module("ensure-invalid-client-assertions-fail")
def test_invalid_assertions_are_refused_and_a_right_one_is_taken_after_them(client: FapiClient, plan: str) -> None:
    """Beyond the fourteen: the module that later versions of the plan have in the place of several."""
    assert plan
    second = int(time.time())
    wrong: list[dict[str, Any]] = [{"sub": "cli_other"}, {"iss": None}, {"iss": "cli_other"}, {"aud": None}]
    wrong += [{"iat": second + 90, "nbf": second + 90, "exp": second + 150}]
    for claims in wrong:
        refused(client.ask(assertion(client.client_id, client.key, **claims)), "invalid_client")
    right = assertion(client.client_id, client.key)
    refused(client.ask(right, client_assertion_type="urn:other"), "invalid_client")
    refused(client.ask(_unsecured(client)), "invalid_client")
    refused(client.ask(assertion(client.client_id, ECKey.generate_key("P-256"))), "invalid_client")
    soon = int(time.time()) + 8
    assert client.ask(assertion(client.client_id, client.key, iat=soon, nbf=soon)).status_code == 200
    assert client.ask(right).status_code == 200


NEGATIVES = WRONG | ONLY_AT_CALLS


@pytest.mark.parametrize("wrong", NEGATIVES.values(), ids=[f"{PLAN}-dpop-negative-tests-{name}" for name in NEGATIVES])
def test_proof_that_is_wrong_in_one_thing_opens_nothing(client: FapiClient, wrong: dict[str, Any]) -> None:
    token = client.token()
    called = client.call(token, made_wrong(client.prover, "GET", client.resource, token, wrong))
    assert (called.status_code, 'error="invalid_dpop_proof"' in called.headers["www-authenticate"]) == (401, True)
    if wrong not in ONLY_AT_CALLS.values():
        refused(client.ask(proof=made_wrong(client.prover, "POST", client.token_endpoint, None, wrong)), "invalid_dpop_proof")
    assert client.call(token).status_code == 200


@module("dpop-negative-tests")
def test_proof_that_was_used_or_is_there_twice_opens_nothing(client: FapiClient, plan: str) -> None:
    assert plan
    token = client.token()
    proof = client.prover.proof("GET", client.resource, token)
    assert [client.call(token, proof).status_code for _ in range(2)] == [200, 401]
    once = client.prover.proof("POST", client.token_endpoint)
    assert [client.ask(proof=once).status_code for _ in range(2)] == [200, 400]
    twice = [("DPoP", client.prover.proof("GET", client.resource, token)) for _ in range(2)]
    answer = client.exchange.http.get("/v1/me", headers=[("Authorization", f"DPoP {token}"), *twice])
    assert answer.status_code == 401
