"""Who plays: the operator, a department that provides, a start-up that consumes, an auditor; each a client with an organization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.client import Client, new_key, public_jwks
from gateway.cli.demo.process import Exchange
from gateway.cli.demo.screen import Screen

PROVIDER_SCOPES = [
    "catalog:read",
    "catalog:write",
    "contracts:read",
    "contracts:write",
    "events:publish",
    "events:read",
    "consents:read",
    "consents:write",
    "audit:read",
]
CONSUMER_SCOPES = ["catalog:read", "contracts:read", "contracts:write", "events:read", "audit:read"]


@dataclass(frozen=True, slots=True)
class Cast:
    """The clients of the story, and the organizations of the two parties. `readers` are the consumer's, one at each replica."""

    screen: Screen
    anybody: Client
    operator: Client
    auditor: Client
    provider: Client
    provider_id: str
    readers: tuple[Client, ...]
    consumer_id: str
    consumer_key: dict[str, Any] = field(repr=False)
    """The start-up's private key, which the lines to paste use: it plays on this machine."""

    @property
    def consumer(self) -> Client:
        return self.readers[0]

    def close(self) -> None:
        for client in (self.anybody, self.operator, self.auditor, self.provider, *self.readers):
            client.close()


def gather(exchange: Exchange, screen: Screen) -> Cast:
    """The operator makes the organizations and their clients. Raises `ProblemError`."""
    made = exchange.operator
    operator = Client(exchange.url, made.client_id, secret=made.client_secret, on_response=screen.heard)
    screen.act("The operator lets two organizations in")
    provider_id = _organization(operator, screen, "Economic Development, City of Mississauga", "department")
    consumer_id = _organization(operator, screen, "Lakeshore Mobility", "partner")
    auditor_body = {"organization": made.organization_id, "name": "City auditor", "scopes": ["audit:read"], "roles": ["auditor"]}
    consumer_key = new_key()
    return Cast(
        screen=screen,
        anybody=Client(exchange.url, on_response=screen.heard),
        operator=operator,
        auditor=_keyed(operator, screen, exchange.urls[:1], auditor_body, "the auditor's client: reads the log, nothing else")[0],
        provider=_keyed(
            operator,
            screen,
            exchange.urls[:1],
            {"organization": provider_id, "name": "Data desk", "scopes": PROVIDER_SCOPES, "roles": []},
            "the department's client; only the public half of its key leaves its machine",
        )[0],
        provider_id=provider_id,
        readers=_keyed(
            operator,
            screen,
            exchange.urls,
            {"organization": consumer_id, "name": "Planner", "scopes": CONSUMER_SCOPES, "roles": []},
            "the start-up's client, which proves itself by key: personal data goes to no other",
            key=consumer_key,
        ),
        consumer_id=consumer_id,
        consumer_key=consumer_key,
    )


def _organization(operator: Client, screen: Screen, name: str, kind: str) -> str:
    with screen.line(f"{name} is a {kind} of the exchange"):
        organization = operator.post("/v1/organizations", {"name": name, "kind": kind, "contact": "data@example.org"})
        if organization["standing"] == "pending":
            operator.post(f"/v1/organizations/{organization['id']}/approve")
    return str(organization["id"])


def _keyed(
    operator: Client, screen: Screen, urls: Sequence[str], body: dict[str, Any], meaning: str, key: dict[str, Any] | None = None
) -> tuple[Client, ...]:
    """A client that proves itself by key, at each of these addresses of the one exchange."""
    key = key or new_key()
    with screen.line(meaning):
        made = operator.post("/v1/clients", body | {"token_endpoint_auth_method": "private_key_jwt", "jwks": public_jwks(key)})
    return tuple(Client(operator.issuer, made["id"], key=key, address=url, on_response=screen.heard) for url in urls)
