"""Programs that were not written here log in and call: what the metadata says is enough for them, and each does what its RFC says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from connectors.client import Client, new_key, public_jwks
from tests.e2e.district import District, visit
from tests.gateway import READER, Gateway

Run = Callable[..., dict[str, Any]]
"""Runs a client of others with these inputs and returns what it gives."""


@pytest.fixture(scope="module")
def planner(district: District) -> Client:
    """The start-up's own client, which proposes and signs what others read by."""
    return district.gateway.partner("Start-up", scopes=READER)


@pytest.fixture(scope="module")
def contract(district: District, planner: Client) -> str:
    """A contract over personal data, with events to read."""
    made = district.contract(planner)
    district.consent("visitor-1")
    district.publish(*(visit("visitor-1", number) for number in range(3)))
    return made


def test_openid_client_registers_binds_its_tokens_reads_asks_and_revokes(
    district: District, planner: Client, contract: str, openid_client: Run
) -> None:
    issuer, key = district.gateway.issuer, new_key()
    organization = planner.get("/v1/me")["organization"]["id"]
    wanted = {"scopes": ["catalog:read", "contracts:read", "events:read"], "approved": True}
    token = district.gateway.operator().post(f"/v1/organizations/{organization}/registration-tokens", wanted)["token"]
    made = openid_client(step="register", issuer=issuer, initial_access_token=token, key=key, scope="events:read contracts:read")
    said = openid_client(step="read", issuer=issuer, client_id=made["client_id"], key=key, contract=contract)
    assert (said["token_type"], said["status"], len(said["events"])) == ("dpop", 200, 3)
    assert said["authorization_details"] == [{"type": "data_contract", "contract": contract, "actions": ["read"]}]
    assert (said["introspected"]["active"], said["introspected"]["token_type"]) == (True, "DPoP")
    assert (said["after_revocation"], said["status_after_revocation"]) == ({"active": False}, 401)


def test_openid_client_learns_that_registration_needs_a_token(district: District, openid_client: Run) -> None:
    issuer = district.gateway.issuer
    with pytest.raises(AssertionError, match="401"):
        openid_client(step="register", issuer=issuer, initial_access_token="exr_none", key=new_key(), scope="events:read")


def test_requests_oauth2client_reads_personal_data_by_key_and_dpop(
    district: District, planner: Client, contract: str, clients_python: Run
) -> None:
    key = new_key()
    made = _client_by_key(district.gateway, planner, key)
    said = clients_python(
        "requests_oauth2client",
        issuer=district.gateway.issuer,
        client_id=made,
        key=key,
        contract=contract,
    )
    assert (said["token_type"].lower(), said["status"], len(said["events"])) == ("dpop", 200, 3)


def test_golang_oauth2_gets_a_token_by_secret_and_calls(district: District, planner: Client, go_client: Run) -> None:
    made = _client_by_secret(district.gateway, planner)
    given = {"client_id": made["id"], "client_secret": made["client_secret"], "scopes": ["catalog:read", "contracts:read"]}
    said = go_client(issuer=district.gateway.issuer, path="/v1/me", **given)
    assert (said["status"], said["token_type"]) == (200, "Bearer")
    assert (said["body"]["client"]["id"], said["body"]["scopes"]) == (made["id"], given["scopes"])


def test_librdkafka_fetches_a_token_that_introspects_as_its_clients_own(district: District, planner: Client, clients_python: Run) -> None:
    made = _client_by_secret(district.gateway, planner)
    secret = made["client_secret"]
    said = clients_python(
        "librdkafka",
        issuer=district.gateway.issuer,
        client_id=made["id"],
        client_secret=secret,
        scope="events:read",
    )
    asked = httpx2.post(f"{district.gateway.url}/oauth/introspect", data={"token": said["token"]}, auth=(made["id"], secret))
    told = asked.json()
    assert (told["active"], told["client_id"], told["scope"]) == (True, made["id"], "events:read")


def _client_by_key(gateway: Gateway, of: Client, key: dict[str, Any]) -> str:
    members = {"token_endpoint_auth_method": "private_key_jwt", "jwks": public_jwks(key)}
    return str(_client(gateway, of, members)["id"])


def _client_by_secret(gateway: Gateway, of: Client) -> dict[str, Any]:
    return _client(gateway, of, {"token_endpoint_auth_method": "client_secret_basic"})


def _client(gateway: Gateway, of: Client, members: dict[str, Any]) -> dict[str, Any]:
    organization = of.get("/v1/me")["organization"]["id"]
    body = {"organization": organization, "name": "by others", "scopes": list(READER), "roles": []}
    made: dict[str, Any] = gateway.operator().post("/v1/clients", body | members)
    return made
