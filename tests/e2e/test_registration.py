"""A program that registered itself, with keys that it publishes, signs a contract over personal data and reads under it."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from connectors.client import ProblemError, new_key, public_jwks
from connectors.registration import register
from tests.e2e.district import District, pulled, visit
from tests.gateway import READER, Gateway
from tests.public_web import Site


def test_a_client_that_publishes_its_keys_signs_and_reads(new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway(EXCHANGE_PARTNER_NETWORKS="127.0.0.0/8")
    published = [new_key()]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        content = json.dumps({"keys": [jwk for key in published for jwk in public_jwks(key)["keys"]]}).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    with Site(answer, "127.0.0.1", None).running() as site:
        operator = gateway.operator()
        organization = operator.post("/v1/organizations", {"name": "Acme", "kind": "partner"})["id"]
        operator.post(f"/v1/organizations/{organization}/approve")
        tokens = f"/v1/organizations/{organization}/registration-tokens"
        token = operator.post(tokens, {"scopes": list(READER), "approved": True})["token"]
        url = f"http://127.0.0.1:{site.port}/jwks"
        made = register(gateway.issuer, token, name="Planner", jwks_uri=url, address=gateway.url)
        client = gateway.client(made.client_id, key=published[0])

        district = District(gateway)
        contract = district.contract(client)
        district.consent("person-7")
        district.publish(visit("person-7"))
        assert len(pulled(client, contract)) == 1
        assert len(site.asked) == 2, "once when it registered, and once for all that it did"
        with pytest.raises(ProblemError, match="invalid_client"):
            gateway.client(made.client_id, key=new_key()).get("/v1/me")


def test_partners_on_this_machine_are_not_called_unless_it_is_allowed(gateway: Gateway) -> None:
    operator = gateway.operator()
    organization = operator.post("/v1/organizations", {"name": "Inside", "kind": "partner"})["id"]
    operator.post(f"/v1/organizations/{organization}/approve")
    token = operator.post(f"/v1/organizations/{organization}/registration-tokens", {"scopes": ["catalog:read"]})["token"]
    for url in (f"http://127.0.0.1:{gateway.admin_port}/metrics", f"https://localhost:{gateway.admin_port}/", "https://169.254.169.254/"):
        with pytest.raises(ProblemError, match="jwks_uri"):
            register(gateway.issuer, token, name="Inside", jwks_uri=url, address=gateway.url)
