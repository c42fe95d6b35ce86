"""Rows of identity: tokens that are issued, and what each request pays for the one that it brings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from statistics import median
from types import SimpleNamespace
from typing import Any

from fastapi import Request

from connectors.client import Client, new_key, public_jwks
from gateway.app import create_app
from gateway.identity.principal import Principal, authenticate
from tests.benchmarks.generator import run
from tests.benchmarks.measured import Measured
from tests.benchmarks.stage import Stage
from tests.dpop import Presenter, bound_token

TOKENS = 1500
CONNECTIONS = 8
ROUNDS = 3
CALLS = 2000
ME = "/v1/me"


def token_per_s(stage: Stage) -> Measured:
    """Tokens a second for a client with a key and DPoP: two signatures verified, two rows in the database, one signature made."""
    key = new_key()
    client = _client(stage, key)
    rates = []
    for _ in range(ROUNDS):
        plan = {"address": stage.address, "issuer": client.issuer, "client": client.credentials.client_id, "key": key}  # type: ignore[union-attr]
        plan |= {"nonce": bound_token(client)["nonce"], "connections": CONNECTIONS, "tokens": TOKENS}
        client.get(ME)
        done = run("tokens", plan)
        rates.append(done["events"] / done["seconds"])
    return Measured({"token_per_s": median(rates)}, f"{ROUNDS} times {TOKENS:,} tokens, {min(rates):.0f} to {max(rates):.0f} a second")


def verify(stage: Stage) -> Measured:
    """What `authenticate` takes of the processor for a read, with a token that was seen before: as bearer, and with a proof each time."""
    client = _client(stage, new_key())
    assert client.credentials is not None
    bearer, bound = Presenter(client.credentials.token(client.http)), Presenter(bound_token(client))
    state = create_app(stage.gateway.settings()).state
    try:
        with state.database.reading() as session:
            state.identity.load(session)
        bound.hear(state.proofs.nonce)
        took = {}
        for name, presenter in (("verify_bearer_us", bearer), ("verify_dpop_us", bound)):
            requests = [_request(state, presenter) for _ in range(CALLS)]
            took[name] = _microseconds(lambda requests=requests: asyncio.run(_authenticate(requests)))  # type: ignore[misc] # the default binds it
    finally:
        state.engine.close()
        state.database.close()
    return Measured(took, f"{CALLS:,} requests each, the first of which reads the token")


def _client(stage: Stage, key: dict[str, Any]) -> Client:
    organization = stage.consumer.get(ME)["organization"]["id"]
    body = {"organization": organization, "name": "bench", "scopes": ["events:read"], "roles": []}
    body |= {"token_endpoint_auth_method": "private_key_jwt", "jwks": public_jwks(key)}
    return stage.gateway.client(stage.gateway.operator().post("/v1/clients", body)["id"], key=key)


def _request(state: Any, presenter: Presenter) -> Request:
    """As the server hands it over."""
    headers = [(name.lower().encode(), value.encode()) for name, value in presenter.headers("GET", ME).items()]
    return Request(
        {"type": "http", "method": "GET", "path": ME, "raw_path": ME.encode(), "headers": headers, "app": SimpleNamespace(state=state)}
    )


async def _authenticate(requests: Sequence[Request]) -> list[Principal | None]:
    return [await authenticate(request) for request in requests]


def _microseconds(act: Callable[[], list[Principal | None]]) -> float:
    """Of processor time, a request."""
    began = time.process_time()
    callers = act()
    took = time.process_time() - began
    if None in callers:
        raise ValueError("a request proved nobody")
    return took / len(callers) * 1e6
