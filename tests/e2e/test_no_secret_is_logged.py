"""A whole story, from asking for an organization to reading personal data; then the logs are searched for every secret of it.

`assert_calm` searches those of every other gateway in these tests for what its clients minted.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from connectors.client import new_key, public_jwks
from connectors.registration import Registration, register
from tests.gateway import Gateway
from tests.minted import Minted

SCOPES = ["catalog:read", "contracts:read", "events:read"]


def come_in(gateway: Gateway, http: httpx2.Client) -> tuple[str, str]:
    """An organization that was asked for and approved, and its first registration token."""
    wanted = {"name": "Acme", "contact": "data@acme.example", "intent": "A route planner", "domain": "acme.example"}
    asked = http.post("/v1/organizations", json=wanted).json()
    gateway.operator().post(f"/v1/organizations/{asked['id']}/approve")
    body = {"claim": asked["claim"], "scopes": SCOPES, "uses": 2, "approved": True}
    path = f"/v1/organizations/{asked['id']}/registration-tokens"
    token = http.post(path, json=body).json()["token"]
    assert http.post(path, json=body).status_code == 403
    return asked["id"], token


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_no_secret_of_a_whole_story_is_logged(new_gateway: Callable[..., Gateway], level: str) -> None:
    gateway = new_gateway(EXCHANGE_LOG_LEVEL=level)
    with httpx2.Client(base_url=gateway.url, event_hooks={"response": [gateway.minted.see]}) as http:
        _, token = come_in(gateway, http)
        key, newer = new_key(), new_key()
        made = register(gateway.issuer, token, name="Planner", key=key, address=gateway.url)
        own = Registration(gateway.issuer, made, address=gateway.url)
        secrets = {token, made.access_token, own.change(jwks=public_jwks(newer)).access_token, own.read().access_token}
        by_key = gateway.client(made.client_id, key=newer)
        assert by_key.get("/v1/me")["strong"] is True

        plain = http.post("/oauth/register", json={"client_name": "Plain"}, headers={"Authorization": f"Bearer {token}"}).json()
        auth = (plain["client_id"], plain["client_secret"])
        access = http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=auth).json()["access_token"]
        http.get("/v1/me", headers={"Authorization": f"Bearer {access}"})
        http.post("/oauth/introspect", data={"token": access}, auth=auth)
        # What is refused is told to nobody either: a wrong place is where secrets are lost.
        http.get("/v1/me", params={"access_token": access})
        http.get(f"/v1/clients/{plain['client_secret']}", headers={"Authorization": f"Bearer {access}"})
        http.post("/oauth/token", data={"grant_type": plain["client_secret"]}, auth=auth)
        http.post("/oauth/register", content=made.access_token, headers={"Authorization": f"Bearer {token}x"})
        gateway.operator().post(f"/v1/clients/{plain['client_id']}/rotate", {"overlap": "PT1H"})
        http.post("/oauth/revoke", data={"token": access}, auth=auth)
    text = gateway.log.read_text()
    assert "client_authenticated" in text
    assert not [secret[:6] for secret in secrets if secret in text]
    assert len(gateway.minted) > 15
    assert gateway.minted.found_in(text) == []


def test_the_search_finds_what_it_looks_for() -> None:
    minted = Minted()
    request = httpx2.Request(
        "POST",
        "http://x/oauth/token",
        data={"client_assertion": "aaaa.bbbbbbbbbbbbbbb.cccc"},
        headers={"Authorization": "Basic Y2xpXzE6ZXhzX3NlY3JldF9vZl9pdA==", "DPoP": "proof-proof-proof"},
    )
    minted.see(httpx2.Response(200, json={"access_token": "token-token-token", "scope": "events:read"}, request=request))
    for text in ("x exs_secret_of_it x", "claims bbbbbbbbbbbbbbb", "token-token-token", "proof-proof-proof"):
        assert len(minted.found_in(text)) == 1, text
    assert minted.found_in("events:read") == []
