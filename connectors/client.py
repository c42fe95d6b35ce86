"""The SDK: a client of one exchange, over HTTP alone.

    with Client("https://exchange.example", "cli_...", key=my_jwk) as exchange:
        for page in exchange.pull("con_..."):
            for event in page.events:
                ...

The client asks for tokens when it needs them. Reading under a contract takes one that names that contract. With a key its tokens are
bound to its process, and each request proves that (DPoP, RFC 9449). Errors are `ProblemError`s with a stable `code`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx2

from connectors.credentials import Credentials, Proven
from connectors.following import Following, Message
from connectors.jose import digest_of, new_key, public_jwks
from connectors.persist import persist
from connectors.problem import ProblemError, raise_for_problem
from connectors.receipts import Receipts

__all__ = ["Client", "Message", "Page", "ProblemError", "Published", "digest_of", "new_key", "public_jwks"]

BATCH = 500
"""Events in one publishing request; the exchange takes 16 MiB."""
IDLE_SECONDS = 45.0
"""A stream that was silent for so long is broken: the exchange sends an `id:` every 15 seconds."""


@dataclass(frozen=True, slots=True)
class Published:
    """An acknowledged batch: how many events, where they stand, and the leaf hash of its audit entry."""

    accepted: int
    positions: list[dict[str, int]]
    audit_entry: str


@dataclass(frozen=True, slots=True)
class Page:
    """What one pull gave: events, the cursor after them, and the leaf hash of the release's audit entry."""

    events: list[dict[str, Any]]
    next_cursor: str
    audit_entry: str


class Client:
    """A client of the exchange whose issuer is `url`; without `client_id` it reads what is open to anybody.

    It proves itself by `key`, a private JWK (ES256, EdDSA, PS256), or by `secret`. Threads may share one. `address` is where the
    exchange is reached if that is not its issuer. `on_response` sees each response before its body is read. `receipts` is a file to
    which a line is added for each batch that was published or received (`receipts.py`).
    """

    def __init__(
        self,
        url: str,
        client_id: str | None = None,
        *,
        secret: str | None = None,
        key: Mapping[str, Any] | None = None,
        address: str | None = None,
        timeout: float = 40.0,
        on_response: Callable[[httpx2.Response], None] | None = None,
        receipts: Path | None = None,
    ) -> None:
        self.issuer = url.rstrip("/")
        self.credentials = Credentials(self.issuer, client_id, secret=secret, key=key) if client_id is not None else None
        self.receipts = Receipts(receipts)
        hooks = {"response": [on_response]} if on_response else {}
        self.http = httpx2.Client(
            base_url=address or self.issuer, timeout=timeout, event_hooks=hooks, headers={"Accept": "application/json"}
        )

    def __repr__(self) -> str:
        return f"Client({self.issuer!r}, {self.credentials!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def get(self, path: str, **params: str | int) -> Any:
        """The JSON of a GET. Raises `ProblemError`."""
        return self.request("GET", path, params=params).json()

    def post(self, path: str, body: Any = None, *, idempotency_key: str | None = None) -> Any:
        """The JSON of a POST (None if it has no content). Raises `ProblemError`."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        response = self.request("POST", path, body=body, headers=headers)
        return response.json() if response.content else None

    def patch(self, path: str, changes: Mapping[str, Any], *, etag: str) -> Any:
        """Merge `changes` (RFC 7396) into the document whose ETag was read. Raises `ProblemError` `stale` if it changed since."""
        headers = {"If-Match": etag, "Content-Type": "application/merge-patch+json"}
        return self.request("PATCH", path, body=changes, headers=headers).json()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        contract: str | None = None,
    ) -> httpx2.Response:
        """Any call, with a token (one that names `contract`, if given). A refused token is renewed once. Raises `ProblemError`."""
        response = self.http.send(self.build(method, path, body=body, params=params, headers=headers), auth=self.proof(contract))
        raise_for_problem(response)
        return response

    @contextmanager
    def open(self, request: httpx2.Request, *, contract: str | None = None) -> Iterator[httpx2.Response]:
        """Send a request of `build` and read its answer as it comes. Raises `ProblemError`."""
        response = self.http.send(request, auth=self.proof(contract), stream=True)
        try:
            if response.is_error:
                response.read()
                raise_for_problem(response)
            yield response
        finally:
            response.close()

    def build(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Request:
        """The request that `request` would send, without what proves the client. A body of bytes goes as it is, else as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode("utf-8")
        kind = {} if body is None or isinstance(body, bytes) else {"Content-Type": "application/json"}
        return self.http.build_request(method, path, content=content, params=params or None, headers=kind | dict(headers or {}))

    def publish(self, dataset: str, events: Iterable[Mapping[str, Any]], *, batch: int = BATCH, attempts: int = 5) -> list[Published]:
        """Publish CloudEvents in batches, in order; returns the acknowledgement of each.

        A batch that may or may not have arrived is sent again under its `Idempotency-Key`. Raises `ProblemError`:
        `event_does_not_fit` names the places by index in the batch, of which nothing was appended.
        """
        pending, acknowledged = iter(events), []
        while chunk := list(itertools.islice(pending, batch)):
            headers = {"Content-Type": "application/cloudevents-batch+json", "Idempotency-Key": str(uuid4())}
            send = partial(self.request, "POST", f"/v1/datasets/{dataset}/events", body=chunk, headers=headers)
            response = persist(send, attempts)
            answer, audit_entry = response.json(), response.headers.get("Audit-Entry", "")
            self.receipts.keep("publish", dataset, audit_entry, answer["accepted"])
            acknowledged.append(Published(answer["accepted"], answer["positions"], audit_entry))
        return acknowledged

    def pull(
        self,
        of: str,
        *,
        cursor: str | None = None,
        wait: int = 0,
        limit_bytes: int | None = None,
        partitions: str | None = None,
        attempts: int = 5,
    ) -> Iterator[Page]:
        """Pages of what a contract (`con_...`) or an open dataset (its slug) gives, from `cursor` on, to the first empty page.

        `wait` is how many seconds (30 at most) the exchange waits for an event before it answers with that empty page. A page is asked
        for up to `attempts` times, after a broken connection or while a part of the exchange is away. Raises `ProblemError`,
        `httpx2.TransportError`.
        """
        given: dict[str, str | int | None] = {"wait": wait, "limit_bytes": limit_bytes, "partitions": partitions}
        headers = {"Accept": "application/cloudevents-batch+json"}
        while True:
            params = {name: value for name, value in (given | {"cursor": cursor}).items() if value is not None}
            response = persist(
                partial(self.request, "GET", _events_of(of), params=params, headers=headers, contract=_contract(of)), attempts
            )
            cursor = response.headers["Next-Cursor"]
            page = Page(response.json(), cursor, response.headers.get("Audit-Entry", ""))
            if page.events:
                self.receipts.keep("pull", of, page.audit_entry, len(page.events))
            yield page
            if not page.events:
                return

    def stream(self, of: str, *, cursor: str | None = None, attempts: int = 5) -> Iterator[Message]:
        """What a contract or an open dataset gives, as it happens, over SSE, until the exchange ends it with a reason.

        A broken connection is resumed from the last cursor, up to `attempts` times in a row, and an expired token is renewed; either
        way each event comes once. The last message is `end`, with the problem. Raises `ProblemError`, `httpx2.TransportError`.
        """
        following = Following(partial(self._subscribed, of), partial(self._forget, of), cursor=cursor, attempts=attempts)
        for message in following.messages():
            if message.kind == "receipt":
                self.receipts.keep("stream", of, message.data.get("audit_entry", ""), message.data.get("events", 0))
            yield message

    def sign(self, contract: str) -> Any:
        """Read a contract's text and sign the digest of what was read, by key. Raises `ProblemError`, `ValueError` without a key."""
        if self.credentials is None:
            raise ValueError("Only a client can sign.")
        text = self.request("GET", f"/v1/contracts/{contract}/text", headers={"Accept": "*/*"})
        digest = digest_of(text.content)
        if text.headers.get("Repr-Digest", digest) != digest:
            raise ValueError(f"The text of {contract} is not the one that its digest names.")
        return self.post(f"/v1/contracts/{contract}/sign", {"text_digest": digest, "signature": self.credentials.sign_digest(digest)})

    def proof(self, contract: str | None = None) -> Proven | None:
        """What puts token and proof on a request of `http`, for a call that this class does not have; None without a client."""
        return None if self.credentials is None else Proven(self.credentials, self.http, contract)

    def _forget(self, of: str) -> None:
        if self.credentials is not None:
            self.credentials.forget(_contract(of))

    @contextmanager
    def _subscribed(self, of: str, cursor: str | None) -> Iterator[httpx2.EventSource]:
        headers = {"Last-Event-ID": cursor} if cursor else {}
        timeout = httpx2.Timeout(10.0, read=IDLE_SECONDS)
        with self.http.sse(_events_of(of), headers=headers, timeout=timeout, auth=self.proof(_contract(of))) as source:
            if source.response.is_error:
                source.response.read()
                raise_for_problem(source.response)
            yield source


def _contract(of: str) -> str | None:
    return of if of.startswith("con_") else None


def _events_of(of: str) -> str:
    return f"/v1/contracts/{of}/events" if _contract(of) else f"/v1/datasets/{of}/events"
