"""The metadata (RFC 8414, RFC 9728) are walked: what they name is called, in each way that they name, and works."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from tests.dpop import Prover
from tests.gateway import Gateway

SERVER, RESOURCE = "/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource"
FORMS = {
    "token_endpoint": {"grant_type": "client_credentials"},
    "introspection_endpoint": {"token": "rubbish"},
    "revocation_endpoint": {"token": "rubbish"},
}
KEY_OF: dict[str, Callable[[], Key]] = {
    "ES256": lambda: ECKey.generate_key("P-256"),
    "EdDSA": lambda: OKPKey.generate_key("Ed25519"),
    "Ed25519": lambda: OKPKey.generate_key("Ed25519"),
    "PS256": lambda: RSAKey.generate_key(2048),
}


class Unwarned(jws.JWSRegistry):
    def get_alg(self, name: str) -> Any:
        """Any algorithm, without a word on its age."""
        return self.algorithms[name]


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=gateway.url) as client:
        yield client


def strong_client(gateway: Gateway, key: Key) -> str:
    operator = gateway.operator()
    body = {
        "organization": operator.get("/v1/me")["organization"]["id"],
        "name": "By key",
        "scopes": ["catalog:read"],
        "roles": [],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [key.as_dict(private=False)]},
    }
    return str(operator.post("/v1/clients", body)["id"])


def by_key(issuer: str, client_id: str, key: Key, algorithm: str) -> dict[str, str]:
    second = int(time.time())
    claims = {"iss": client_id, "sub": client_id, "aud": issuer, "iat": second, "exp": second + 60, "jti": secrets.token_hex(8)}
    assertion = jwt.encode({"alg": algorithm}, claims, key, registry=Unwarned())
    return {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion": assertion}


def test_every_address_that_is_named_answers(http: httpx2.Client, gateway: Gateway) -> None:
    said = http.get(SERVER).json()
    assert said["issuer"] == gateway.issuer
    for name, url in (said | http.get(RESOURCE).json()).items():
        if name.endswith("_endpoint"):
            assert http.post(url).status_code in {400, 401}, name
        elif name in {"jwks_uri", "service_documentation", "resource_documentation"}:
            assert http.get(url).status_code == 200, name


def test_every_endpoint_takes_a_client_in_each_way_that_is_named(http: httpx2.Client, gateway: Gateway) -> None:
    said = http.get(SERVER).json()
    endpoints = {name for name in said if f"{name}_auth_methods_supported" in said}
    assert endpoints == set(FORMS)
    made = {algorithm: KEY_OF[algorithm]() for algorithm in said["token_endpoint_auth_signing_alg_values_supported"]}
    clients = {algorithm: strong_client(gateway, key) for algorithm, key in made.items()}
    for endpoint in endpoints:
        assert set(said[f"{endpoint}_auth_methods_supported"]) == {"client_secret_basic", "private_key_jwt"}
        by_secret = http.post(said[endpoint], data=FORMS[endpoint], auth=(gateway.made.client_id, gateway.made.client_secret))
        assert by_secret.status_code == 200, by_secret.text
        for algorithm in said[f"{endpoint}_auth_signing_alg_values_supported"]:
            proof = by_key(said["issuer"], clients[algorithm], made[algorithm], algorithm)
            answer = http.post(said[endpoint], data=FORMS[endpoint] | proof)
            assert answer.status_code == 200, (endpoint, algorithm, answer.text)


@pytest.mark.parametrize("where", [SERVER, RESOURCE])
def test_proofs_of_each_algorithm_that_is_named_are_taken(http: httpx2.Client, gateway: Gateway, where: str) -> None:
    endpoint = http.get(SERVER).json()["token_endpoint"]
    for algorithm in http.get(where).json()["dpop_signing_alg_values_supported"]:
        prover, auth = Prover(KEY_OF[algorithm](), algorithm), (gateway.made.client_id, gateway.made.client_secret)
        form = FORMS["token_endpoint"]
        prover.hear(http.post(endpoint, data=form, auth=auth, headers={"DPoP": prover.proof("POST", endpoint)}).headers)
        granted = http.post(endpoint, data=form, auth=auth, headers={"DPoP": prover.proof("POST", endpoint)})
        token = granted.json()["access_token"]
        assert http.get("/v1/me", headers=prover.headers("GET", f"{gateway.issuer}/v1/me", token)).status_code == 200


def test_each_scope_grant_and_type_of_details_that_is_named_is_granted(http: httpx2.Client, gateway: Gateway) -> None:
    said, auth = http.get(SERVER).json(), (gateway.made.client_id, gateway.made.client_secret)
    assert set(http.get(RESOURCE).json()["scopes_supported"]) <= set(said["scopes_supported"])
    form = {
        "grant_type": "client_credentials",
        "scope": " ".join(said["scopes_supported"]),
        "resource": http.get(RESOURCE).json()["resource"],
    }
    assert set(http.post(said["token_endpoint"], data=form, auth=auth).json()["scope"].split()) == set(said["scopes_supported"])
    assert "client_credentials" in said["grant_types_supported"]
    assert http.get(RESOURCE).json()["authorization_servers"] == [said["issuer"]] == said["protected_resources"]
    (kind,) = said["authorization_details_types_supported"]
    refused = http.post(
        said["token_endpoint"], data=form | {"authorization_details": f'[{{"type": "{kind}", "contract": "con_x"}}]'}, auth=auth
    )
    assert (refused.json()["error"], "not one of yours" in refused.json()["error_description"]) == ("invalid_authorization_details", True)
