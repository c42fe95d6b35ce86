"""What tests of registration do: ask, approve, make tokens, register."""

from __future__ import annotations

from typing import Any

from joserfc.jwk import ECKey, Key

from gateway.database import Database
from gateway.identity.published_keys import PublishedKeys
from gateway.identity.registration import Registration
from tests.identity.exchange import Exchange, assertion, bearer

SCOPES = ["catalog:read", "contracts:read", "events:read"]
ASKED = {
    "name": "Port Credit Mobility Inc.",
    "contact": "data@portcreditmobility.example",
    "intent": "A route planner.",
    "domain": "portcreditmobility.example",
}


def ask(exchange: Exchange, **members: Any) -> dict[str, Any]:
    asked = exchange.http.post("/v1/organizations", json=ASKED | members)
    assert asked.status_code == 201, asked.text
    document: dict[str, Any] = asked.json()
    return document


def approve(exchange: Exchange, organization: str) -> None:
    assert exchange.http.post(f"/v1/organizations/{organization}/approve", headers=exchange.operator).status_code == 200


def ask_token(exchange: Exchange, organization: str, headers: dict[str, str] | None = None, **members: Any) -> Any:
    wanted = {"scopes": SCOPES} | members
    return exchange.http.post(f"/v1/organizations/{organization}/registration-tokens", json=wanted, headers=headers)


def make_token(exchange: Exchange, organization: str | None = None, **members: Any) -> str:
    """A registration token of an approved organization, made by the operator."""
    of = organization or exchange.make_organization()
    made = ask_token(exchange, of, exchange.operator, **members)
    assert made.status_code == 201, made.text
    return str(made.json()["token"])


def jwks_of(key: Key) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False)]}


def by_key(key: Key, **members: Any) -> dict[str, Any]:
    """Metadata of a client with `private_key_jwt`."""
    return {"client_name": "Planner", "token_endpoint_auth_method": "private_key_jwt", "jwks": jwks_of(key)} | members


def register(exchange: Exchange, token: str, **metadata: Any) -> Any:
    return exchange.http.post("/oauth/register", json=metadata, headers=bearer(token))


def registered(exchange: Exchange, **members: Any) -> tuple[dict[str, Any], Key]:
    """A client that is active at once, with its key."""
    key = ECKey.generate_key("P-256")
    made = register(exchange, make_token(exchange, approved=True), **by_key(key, **members))
    assert made.status_code == 201, made.text
    return made.json(), key


def status_of_token(exchange: Exchange, client_id: str, key: Key, **claims: Any) -> int:
    """What the token endpoint says to an assertion by this key."""
    return int(exchange.ask_token_by_key(assertion(client_id, key, **claims)).status_code)


def replica_of(exchange: Exchange) -> tuple[Database, Registration]:
    """Another process's registration endpoint on the same database."""
    database = Database(exchange.settings.resolved_database_url)
    return database, Registration(database, exchange.keys, exchange.outward, PublishedKeys(exchange.outward))
