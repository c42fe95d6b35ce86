"""Too much: of one client, of one organization, of guesses, of everything at once. A real gateway, with small limits."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from connectors.client import Client, ProblemError
from tests.e2e.listener import Listener, until
from tests.e2e.open_data import Numbers
from tests.gateway import READER, Gateway

NewGateway = Callable[..., Gateway]


def guess(gateway: Gateway, client_id: str, secret: str = "wrong", address: str = "203.0.113.9") -> httpx2.Response:
    """Ask for a token, as a proxy in front would pass it on from this address."""
    form, headers = {"grant_type": "client_credentials"}, {"X-Forwarded-For": address}
    return httpx2.post(f"{gateway.url}/oauth/token", data=form, auth=(client_id, secret), headers=headers)


def ask(client: Client, times: int) -> None:
    for _ in range(times):
        client.get("/v1/me")


def test_a_client_has_a_limit_and_its_organization_one_for_all_and_me_tells_what_is_left(new_gateway: NewGateway) -> None:
    gateway = new_gateway(EXCHANGE_CLIENT_REQUESTS_PER_MINUTE="60", EXCHANGE_ORGANIZATION_REQUESTS_PER_MINUTE="80")
    first = gateway.partner("Eager", scopes=READER)
    organization = first.get("/v1/me")["organization"]["id"]
    answer = first.request("GET", "/v1/me")
    left = answer.json()["limits"]
    assert left["client"]["per_minute"] == 60
    assert 50 <= left["client"]["left"] < 60
    assert 70 <= left["organization"]["left"] < 80
    assert answer.headers["RateLimit-Policy"] == '"client";q=60;w=60, "organization";q=80;w=60'
    assert answer.headers["RateLimit"].startswith(f'"client";r={left["client"]["left"]};t=')

    with pytest.raises(ProblemError) as limited:
        ask(first, 100)
    assert limited.value.code == "rate_limited"
    assert int(limited.value.headers["retry-after"]) >= 1
    assert '"client";r=0' in limited.value.headers["ratelimit"]
    second = gateway.another_client(organization, scopes=READER)
    with pytest.raises(ProblemError) as shared:
        ask(second, 40)
    assert '"organization";r=0' in shared.value.headers["ratelimit"]
    # Others are not touched, and who waits as told goes on.
    assert gateway.partner("Patient", scopes=READER).get("/v1/me")
    time.sleep(int(shared.value.headers["retry-after"]))
    assert second.get("/v1/me")


def test_guesses_at_a_secret_are_damped_from_one_address_and_from_many(new_gateway: NewGateway) -> None:
    gateway = new_gateway(EXCHANGE_FAILED_LOGINS_PER_MINUTE="5")
    operator = gateway.made
    assert guess(gateway, operator.client_id, operator.client_secret, address="198.51.100.7").status_code == 200
    statuses = [guess(gateway, operator.client_id, address=f"203.0.113.{number}").status_code for number in range(12)]
    assert statuses[:5] == [401] * 5
    assert set(statuses[6:]) == {429}
    damped = guess(gateway, operator.client_id, operator.client_secret, address="203.0.113.99")
    assert damped.status_code == 429
    assert damped.json()["error"] == "temporarily_unavailable"
    assert int(damped.headers["Retry-After"]) >= 1
    # Unknown clients are answered alike, so that nothing is learnt of which there are.
    unknown = [guess(gateway, "cli_01k9x3v6t2h8m4c7d5e9f0g1a3", address=f"192.0.2.{number}").status_code for number in range(12)]
    assert unknown == statuses
    # From where it has proved itself, the client is let in all the while.
    assert guess(gateway, operator.client_id, operator.client_secret, address="198.51.100.7").status_code == 200
    # One address, many names: an address is damped too, and an IPv6 one with its whole network.
    walked = [guess(gateway, f"cli_{number:026d}", address=f"2001:db8::{number:x}").status_code for number in range(1, 12)]
    assert walked[:5] == [401] * 5
    assert walked[-1] == 429


ASKING = {"name": "Acme", "contact": "data@acme.example", "intent": "A route planner", "domain": "acme.example"}
CLAIM = {"claim": "none", "scopes": ["catalog:read"], "uses": 1, "approved": True}
BY_ADDRESS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "organizations": ("POST", "/v1/organizations", ASKING),
    "claims": ("POST", "/v1/organizations/org_01k9x3v6t2h8m4c7d5e9f0g1a3/registration-tokens", CLAIM),
    "registrations": ("POST", "/oauth/register", {}),
    "withdrawals": ("POST", "/v1/consents/withdraw", {"code": "none"}),
    "sessions": ("POST", "/v1/subjects/sessions", {"code": "none"}),
}


def test_an_address_of_ipv6_shares_each_limit_with_its_whole_network(new_gateway: NewGateway) -> None:
    """A subscriber has 2^64 of them: whoever limits a single one limits nobody."""
    names = ("REGISTRATIONS", "WITHDRAWALS", "SESSIONS", "ANONYMOUS_REQUESTS")
    gateway = new_gateway(**{f"EXCHANGE_{name}_PER_MINUTE": "3" for name in names})
    limited = BY_ADDRESS | {"reads": ("GET", Numbers(gateway).path, {})}

    def call(what: str, address: str) -> int:
        method, path, body = limited[what]
        headers = {"X-Forwarded-For": address, "Content-Type": "application/json"}
        content = json.dumps(body) if method == "POST" else None
        return httpx2.request(method, gateway.url + path, headers=headers, content=content).status_code

    for group, what in enumerate(limited, 1):
        statuses = [call(what, f"2001:db8:0:{group}::{number:x}") for number in range(1, 6)]
        assert 429 not in statuses[:3], (what, statuses)
        assert statuses[4] == 429, (what, statuses)
        assert call(what, f"2001:db8:1:{group}::1") == statuses[0], what


def test_no_stranger_keeps_out_a_client_that_authenticates_by_key(new_gateway: NewGateway) -> None:
    gateway = new_gateway(EXCHANGE_FAILED_LOGINS_PER_MINUTE="2")
    partner = gateway.partner("Keyed", scopes=READER)
    assert partner.credentials is not None
    rubbish = {
        "grant_type": "client_credentials",
        "client_id": partner.credentials.client_id,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "e30.e30.AAAA",
    }
    elsewhere = {"X-Forwarded-For": "203.0.113.9"}
    statuses: list[int] = []
    while 429 not in statuses and len(statuses) < 200:  # more than come back meanwhile, however slow the machine is
        statuses.append(httpx2.post(f"{gateway.url}/oauth/token", data=rubbish, headers=elsewhere).status_code)
    assert statuses[0] == 401
    assert statuses[-1] == 429
    for _ in range(5):
        guess(gateway, partner.credentials.client_id)
    assert partner.get("/v1/me")  # its first token of all, asked for now
    partner.credentials.forget(None)
    assert partner.get("/v1/me")


def test_streams_beyond_what_a_process_carries_are_shed_and_those_it_has_go_on(new_gateway: NewGateway) -> None:
    gateway = new_gateway(EXCHANGE_STREAMS_IN_FLIGHT="3", EXCHANGE_STREAMS_PER_CONTRACT="10")
    numbers = Numbers(gateway)
    reader = gateway.partner("Reader", scopes=READER)
    contract = numbers.contract(reader)
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(reader, contract)) for _ in range(3)]
        numbers.publish(1)
        for listener in listeners:
            listener.wait_for(1)
        with pytest.raises(ProblemError) as shed:
            list(reader.stream(contract, attempts=1))
        assert (shed.value.status, shed.value.code) == (503, "overloaded")
        assert int(shed.value.headers["retry-after"]) >= 1
        numbers.publish(2)
        for listener in listeners:
            listener.wait_for(2)
    until(lambda: _streams(reader, contract), "a place that came free", seconds=10)


def _streams(reader: Client, contract: str) -> bool:
    try:
        return next(iter(reader.stream(contract, attempts=1))).kind == "event"
    except ProblemError:
        return False


def test_bodies_beyond_what_a_process_carries_are_shed_before_they_are_read(new_gateway: NewGateway) -> None:
    gateway = new_gateway(EXCHANGE_IN_FLIGHT_MB="17")
    numbers = Numbers(gateway)
    size = 12 * 1024 * 1024
    provider = numbers.provider
    assert provider.credentials is not None
    with socket.create_connection(("127.0.0.1", gateway.port)) as slow:
        url = httpx2.URL(f"{gateway.url}/v1/datasets/{numbers.slug}/events")
        proving = provider.credentials.headers(provider.http, "POST", url)
        lines = [
            f"POST {url.path} HTTP/1.1",
            "Host: exchange",
            f"Content-Length: {size}",
            "Content-Type: application/cloudevents-batch+json",
        ]
        slow.sendall("\r\n".join([*lines, *(f"{name}: {value}" for name, value in proving.items()), "", ""]).encode() + b"[")
        time.sleep(0.5)
        event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {"text": "x" * 6 * 1024 * 1024}}
        with pytest.raises(ProblemError) as shed:
            provider.request("POST", url.path, body=[event], headers={"Content-Type": "application/cloudevents-batch+json"})
        assert (shed.value.status, shed.value.code) == (503, "overloaded")
        assert "retry-after" in shed.value.headers
        numbers.publish(1)  # what is small still passes
    until(lambda: _passes(provider, url.path, event), "room for a large body", seconds=10)


def _passes(provider: Client, path: str, event: Mapping[str, object]) -> bool:
    """True once the refusal is about the event and no more about the load."""
    try:
        provider.request("POST", path, body=json.loads(json.dumps([event])), headers={"Content-Type": "application/cloudevents-batch+json"})
    except ProblemError as problem:
        return problem.code != "overloaded"
    return True
