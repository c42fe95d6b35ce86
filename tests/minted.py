"""Every secret that passes between a test's clients and a gateway, so that the gateway's log can be searched for each of them."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import httpx2

MEMBERS = frozenset(
    {
        *("access_token", "claim", "client_assertion", "client_secret", "code", "d", "refresh_token", "registration_access_token"),
        *("signature", "subject_token", "token", "withdrawal_code"),
    }
)
"""Members of documents and forms whose value nobody else may read."""
SHORTEST = 12
"""Of a secret; shorter words, such as a problem's code, stand in logs for other reasons."""


class Minted:
    """Give `see` to a client as its hook on responses: it takes what is secret from the request too. Threads may share one."""

    def __init__(self) -> None:
        self._found: set[str] = set()
        self._lock = threading.Lock()

    def see(self, response: httpx2.Response) -> None:
        found = {*_of_headers(response.request.headers), *_of_body(response.request)}
        if response.headers.get("Content-Type", "").partition(";")[0] == "application/json":
            response.read()
            found |= set(_of_document(_json(response.content)))
        found |= {morsel.partition("=")[2].partition(";")[0] for morsel in response.headers.get_list("set-cookie")}
        found.add(response.headers.get("DPoP-Nonce", ""))
        with self._lock:
            self._found |= {secret for secret in found if len(secret) >= SHORTEST}

    def __len__(self) -> int:
        return len(self._found)

    def found_in(self, text: str) -> list[str]:
        """The first letters of each secret that the text has, whole or without its signature (a JWT's claims tell enough)."""
        with self._lock:
            parts = {part for secret in self._found for part in (secret, *_claims(secret))}
        return [f"{part[:6]}... ({len(part)} characters)" for part in sorted(parts) if part in text]


def _of_headers(headers: httpx2.Headers) -> Iterator[str]:
    scheme, _, value = headers.get("Authorization", "").partition(" ")
    yield value
    yield headers.get("DPoP", "")
    if scheme.lower() == "basic":
        yield unquote_plus(base64.b64decode(value).decode().partition(":")[2])
    yield from (part.partition("=")[2].strip() for part in headers.get("Cookie", "").split(";"))


def _of_body(request: httpx2.Request) -> Iterator[str]:
    try:
        body = request.content
    except httpx2.RequestNotRead:
        return
    if request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        yield from (value for name, value in parse_qsl(body.decode()) if name in MEMBERS)
    else:
        yield from _of_document(_json(body))


def _of_document(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            if name in MEMBERS and isinstance(value, str):
                # What explains itself, such as the code of a reason, is no secret.
                yield "" if name == "code" and value.islower() else value
            else:
                yield from _of_document(value)
    elif isinstance(document, list):
        for below in document:
            yield from _of_document(below)


def _json(body: bytes) -> Any:
    """What is no JSON, or is nested too deep to be read, holds no secret that anybody minted."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _claims(secret: str) -> list[str]:
    parts = secret.split(".")
    return [parts[1]] if len(parts) == 3 and len(parts[1]) >= SHORTEST else []
