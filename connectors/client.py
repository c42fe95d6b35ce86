"""The SDK: a client of one exchange, over HTTP alone.

    with Client("https://exchange.example", "cli_...", key=my_jwk) as exchange:
        for page in exchange.pull("con_..."):
            for event in page.events:
                ...

The client asks for tokens when it needs them. Reading under a contract takes one that names that contract. Errors are
`ProblemError`s with a stable `code`.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import httpx2

from connectors.credentials import Credentials, digest_of, new_key, public_jwks
from connectors.problem import ProblemError, raise_for_problem

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


@dataclass(frozen=True, slots=True)
class Message:
    kind: Literal["event", "receipt", "end"]
    data: dict[str, Any]
    cursor: str | None


class Client:
    """A client of the exchange whose issuer is `url`; without `client_id` it reads what is open to anybody.

    Threads may share one. `address` is where the exchange is reached if that is not its issuer. `on_response` sees each
    response before its body is read.
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
    ) -> None:
        self.issuer = url.rstrip("/")
        self.credentials = Credentials(self.issuer, client_id, secret=secret, key=key) if client_id is not None else None
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
        content = None if body is None else json.dumps(body).encode("utf-8")
        kind = {} if body is None else {"Content-Type": "application/json"}

        def send() -> httpx2.Response:
            sent = kind | dict(headers or {}) | self._authorization(contract)
            return self.http.request(method, path, content=content, params=params or None, headers=sent)

        response = send()
        if response.status_code == httpx2.codes.UNAUTHORIZED and self.credentials is not None:
            self.credentials.forget(contract)
            response = send()
        raise_for_problem(response)
        return response

    def publish(self, dataset: str, events: Iterable[Mapping[str, Any]], *, batch: int = BATCH, attempts: int = 3) -> list[Published]:
        """Publish CloudEvents in batches, in order; returns the acknowledgement of each.

        A batch that may or may not have arrived is sent again under its `Idempotency-Key`. Raises `ProblemError`:
        `event_does_not_fit` names the places by index in the batch, of which nothing was appended.
        """
        pending, acknowledged = iter(events), []
        while chunk := list(itertools.islice(pending, batch)):
            headers = {"Content-Type": "application/cloudevents-batch+json", "Idempotency-Key": str(uuid4())}
            send = partial(self.request, "POST", f"/v1/datasets/{dataset}/events", body=chunk, headers=headers)
            response = self._persist(attempts, send)
            answer = response.json()
            acknowledged.append(Published(answer["accepted"], answer["positions"], response.headers.get("Audit-Entry", "")))
        return acknowledged

    def pull(
        self, of: str, *, cursor: str | None = None, wait: int = 0, limit_bytes: int | None = None, partitions: str | None = None
    ) -> Iterator[Page]:
        """Pages of what a contract (`con_...`) or an open dataset (its slug) gives, from `cursor` on, to the first empty page.

        `wait` is how many seconds (30 at most) the exchange waits for an event before it answers with that empty page.
        """
        given: dict[str, str | int | None] = {"wait": wait, "limit_bytes": limit_bytes, "partitions": partitions}
        while True:
            params = {name: value for name, value in (given | {"cursor": cursor}).items() if value is not None}
            headers = {"Accept": "application/cloudevents-batch+json"}
            response = self.request("GET", _events_of(of), params=params, headers=headers, contract=_contract(of))
            cursor = response.headers["Next-Cursor"]
            page = Page(response.json(), cursor, response.headers.get("Audit-Entry", ""))
            yield page
            if not page.events:
                return

    def stream(self, of: str, *, cursor: str | None = None, attempts: int = 5) -> Iterator[Message]:
        """What a contract or an open dataset gives, as it happens, over SSE, until the exchange ends it with a reason.

        A broken connection is resumed from the last cursor, up to `attempts` times in a row, and may repeat one flush; an
        expired token is renewed. The last message is `end`, with the problem. Raises `ProblemError`, `httpx2.TransportError`.
        """
        failures, pause = 0, 1.0
        while True:
            broken: httpx2.TransportError = httpx2.RemoteProtocolError("The stream ended without a reason.")
            try:
                with self._subscribed(of, cursor) as source:
                    for sent in source:
                        failures, cursor = 0, sent.id or cursor
                        pause = sent.retry / 1000 if sent.retry else pause
                        if not sent.data:
                            continue  # a cursor alone, which shows that the stream lives
                        message = _message(sent, cursor)
                        yield message
                        if message.kind == "end":
                            return
            except _Expired:
                self._forget(of)
                continue
            except httpx2.TransportError as error:
                broken = error
            failures += 1
            if failures >= attempts:
                raise broken
            time.sleep(pause * failures)

    def sign(self, contract: str) -> Any:
        """Read a contract's text and sign the digest of what was read, by key. Raises `ProblemError`, `ValueError` without a key."""
        if self.credentials is None:
            raise ValueError("Only a client can sign.")
        text = self.request("GET", f"/v1/contracts/{contract}/text", headers={"Accept": "*/*"})
        digest = digest_of(text.content)
        if text.headers.get("Repr-Digest", digest) != digest:
            raise ValueError(f"The text of {contract} is not the one that its digest names.")
        return self.post(f"/v1/contracts/{contract}/sign", {"text_digest": digest, "signature": self.credentials.sign_digest(digest)})

    def _authorization(self, contract: str | None) -> dict[str, str]:
        """The token goes into a header and nowhere else."""
        return {} if self.credentials is None else {"Authorization": f"Bearer {self.credentials.token(self.http, contract)}"}

    def _forget(self, of: str) -> None:
        if self.credentials is not None:
            self.credentials.forget(_contract(of))

    @contextmanager
    def _subscribed(self, of: str, cursor: str | None) -> Iterator[httpx2.EventSource]:
        headers = self._authorization(_contract(of)) | ({"Last-Event-ID": cursor} if cursor else {})
        timeout = httpx2.Timeout(10.0, read=IDLE_SECONDS)
        with self.http.sse(_events_of(of), headers=headers, timeout=timeout) as source:
            if source.response.is_error:
                source.response.read()
                raise_for_problem(source.response)
            yield source

    def _persist(self, attempts: int, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        """Send again what may be sent again: after a broken connection, and when a part of the exchange is away."""
        for attempt in range(1, attempts + 1):
            try:
                return send()
            except httpx2.TransportError:
                if attempt == attempts:
                    raise
                pause = float(attempt)
            except ProblemError as problem:
                # `partly_appended` is the caller's: only the events that it names may be sent again.
                if problem.status != httpx2.codes.SERVICE_UNAVAILABLE or problem.code == "partly_appended" or attempt == attempts:
                    raise
                told = problem.headers.get("retry-after", "")
                pause = float(told) if told.isdecimal() else float(attempt)
            time.sleep(pause)
        raise AssertionError("unreachable")


def _contract(of: str) -> str | None:
    return of if of.startswith("con_") else None


def _events_of(of: str) -> str:
    return f"/v1/contracts/{of}/events" if _contract(of) else f"/v1/datasets/{of}/events"


def _message(sent: httpx2.ServerSentEvent, cursor: str | None) -> Message:
    data = json.loads(sent.data)
    if sent.event == "end":
        if data.get("code") == "token_expired":
            raise _Expired
        return Message("end", data, cursor)
    return Message("receipt" if sent.event == "receipt" else "event", data, cursor)


class _Expired(Exception):
    """The exchange ended a stream because its token has expired: a new token resumes it."""
