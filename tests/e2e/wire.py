"""Requests as an ill-behaved program makes them, and what must be true of every answer and of the gateway's log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx2

from connectors.client import Client
from connectors.dpop import asks_for_nonce
from gateway.errors import catalogue
from tests.gateway import Gateway

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"

PERSON = "person-"
"""How the people of these tests are named: it must never stand in a log."""
TRACES = ("Traceback (most recent call last)", "internal_error", "Exception in ASGI application", "Task exception was never retrieved")
TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{10,}\.")
SECRET = re.compile(r"\b(exs|exo|exr|era)_[A-Za-z0-9_-]{10,}")


def send(
    client: Client,
    method: str,
    path: str,
    *,
    contract: str | None = None,
    token: str | None = None,
    body: Any = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str | int] | None = None,
) -> httpx2.Response:
    """One request with the client's token (or this one), which is answered as it is: nothing is tried again and nothing is raised.

    `body` is sent as JSON, `content` as it is.
    """
    kind = {} if body is None else {"Content-Type": "application/json"}
    content = content if body is None else json.dumps(body).encode()
    answer = httpx2.Response(0)
    for _ in range(2):
        sent = authorization(client, method, path, contract) if token is None else {"Authorization": f"Bearer {token}"}
        answer = client.http.request(method, path, content=content, params=params, headers=sent | kind | dict(headers or {}))
        if client.credentials is not None:
            client.credentials.learn(answer)
        if token is not None or not asks_for_nonce(answer):
            break  # who lacks a nonce has been answered nothing yet
    return answer


def authorization(client: Client, method: str, path: str, contract: str | None = None) -> dict[str, str]:
    """The headers that prove the client, for this one request."""
    if client.credentials is None:
        return {}
    return client.credentials.headers(client.http, method, client.http.build_request(method, path).url, contract)


def problem(answer: httpx2.Response, code: str) -> dict[str, Any]:
    """The problem document of an answer that must have this code, whole and true to RFC 9457."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text[:500]
    document: dict[str, Any] = answer.json()
    assert document["code"] == code, document
    assert answer.status_code == document["status"] == catalogue()[code]["status"]
    assert document["type"].endswith(f"/problems/{code}")
    assert {"title", "detail", "instance", "hint"} <= set(document)
    assert answer.headers["x-request-id"].startswith("req_")
    if answer.status_code in {401, 403}:
        assert "resource_metadata=" in answer.headers["www-authenticate"]
    if answer.status_code in {429, 503}:
        assert int(answer.headers["retry-after"]) >= 1
    return document


def pointers(document: Mapping[str, Any]) -> list[str]:
    """Where input was wrong."""
    return [error["pointer"] for error in document["errors"]]


def assert_calm(gateway: Gateway) -> None:
    """Nothing in the gateway's log tells of a bug, of a secret, or of a person."""
    text = gateway.log.read_text(errors="replace") if gateway.log.exists() else ""
    for trace in TRACES:
        found = text.find(trace)
        assert found < 0, _end_of_trace(text[found:])
    assert " status=500" not in text
    assert PERSON not in text
    assert not TOKEN.search(text)
    assert not SECRET.search(text)
    assert gateway.minted.found_in(text) == []
    for entry in json.loads(gateway.settings().resolved_key_file.read_text())["keys"]:
        assert entry.get("value", entry.get("jwk", {}).get("d")) not in text


def _end_of_trace(text: str) -> str:
    """The end of a traceback, up to the next line of the log."""
    return (re.split(r"^2\d{3}-", text, maxsplit=1, flags=re.MULTILINE)[0])[-700:]
