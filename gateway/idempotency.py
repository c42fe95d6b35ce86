"""`Idempotency-Key`: a POST that is repeated gets its first answer again and does nothing twice.

A key belongs to one client and path and is kept for 24 hours. Answers below 500 are kept, sealed, for one may hold a secret;
after any other, and a minute after a crash, the key is free again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from sqlalchemy import ColumnElement, LargeBinary, delete, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column
from starlette.types import Message, Receive, Scope, Send

from gateway.database import Base, Database, now
from gateway.errors import ExchangeError
from gateway.identity.principal import Principal, authenticate, challenge
from gateway.keys import SecretKey

log = structlog.get_logger(__name__)

KEPT = timedelta(hours=24)
RUNNING = timedelta(minutes=1)
SWEEP_ONE_IN = 200
"""How rarely a request also deletes what others left to expire."""
LONGEST_KEY = 255
LONGEST_PATH = 1000
LONGEST_BODY = 16 * 1024 * 1024


class IdempotentAnswer(Base):
    """A request with a key. `sealed` is null while the first one runs; `attempt` tells which one may write the answer."""

    __tablename__ = "idempotent_answers"
    client_id: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    attempt: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[str]
    secret_key_id: Mapped[str]
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime] = mapped_column(index=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it went out: status, headers, body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def is_final(self) -> bool:
        """False if the request is to be repeated: it failed, is stored and not in force everywhere yet (202 `barrier_pending`), or the
        caller is to sign in again for it (401).
        """
        is_problem = ("content-type", "application/problem+json") in self.headers
        return self.status < 500 and self.status != 401 and not (self.status == 202 and is_problem)

    def packed(self) -> bytes:
        return orjson.dumps([self.status, self.headers]) + b"\n" + self.body

    @classmethod
    def unpacked(cls, data: bytes) -> Answer:
        head, _, body = data.partition(b"\n")
        status, headers = orjson.loads(head)
        return cls(status, tuple((name, value) for name, value in headers), body)

    async def send(self, send: Send, more: Iterable[tuple[str, str]] = ()) -> None:
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*self.headers, *more)]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class IdempotentRoute(APIRoute):
    """A route whose POST honours `Idempotency-Key`: `APIRouter(route_class=IdempotentRoute)`. Others pass untouched."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST" or not any(name == b"idempotency-key" for name, _ in scope["headers"]):
            await self.answer(scope, receive, send)
            return
        request = Request(scope, receive)
        caller = await authenticate(request)
        if caller is None:  # nobody to whom a key could belong; the endpoint says whether it needs a token
            await self.answer(scope, receive, send)
            return
        body = await _read(request)
        once = Once.of(request, caller, body)
        earlier = await run_in_threadpool(once.begin)
        if earlier is not None:
            await earlier.send(send, more=[("Idempotency-Replayed", "true")])
            return
        kept = False
        try:
            answer = await self._first(scope, receive, body)
            kept = answer.is_final
            if kept:
                await run_in_threadpool(once.keep, answer)
        finally:
            if not kept:
                await run_in_threadpool(once.forget)
        await answer.send(send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the endpoint."""
        await super().handle(scope, receive, send)

    async def _first(self, scope: Scope, receive: Receive, body: bytes) -> Answer:
        """Run the endpoint and take its answer, errors included, as it would have gone out: after its transaction."""
        sent: list[Message] = []
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return unread.pop() if unread else await receive()

        async def keep(message: Message) -> None:
            sent.append(message)

        await self.answer(scope, receive_again, keep)
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in sent[0]["headers"])
        return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise ExchangeError("body_too_large")
    return bytes(body)


@dataclass(frozen=True, slots=True)
class Once:
    """One request with a key. Its methods use the database: call them in a worker thread."""

    database: Database
    secret: SecretKey
    request: Request
    caller: Principal
    key: str
    fingerprint: bytes
    attempt: bytes

    @classmethod
    def of(cls, request: Request, caller: Principal, body: bytes) -> Once:
        """Raises `bad_request` for a key that is none, `not_found` for a path that no database could hold beside it."""
        keys = request.headers.getlist("idempotency-key")
        key = keys[0]
        if len(keys) > 1 or not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
            raise ExchangeError("bad_request", f"Idempotency-Key must be there once, with 1 to {LONGEST_KEY} printable ASCII characters.")
        if len(request.url.path) > LONGEST_PATH or not request.url.path.isprintable():
            raise ExchangeError("not_found")
        state = request.app.state
        return cls(
            state.database, state.keys.secret("stored_answer"), request, caller, key, _fingerprint(request, body), secrets.token_bytes(16)
        )

    def begin(self) -> Answer | None:
        """The first answer, if there is one; None if this is the first request, which now holds the key.

        Raises `idempotency_key_reused`, `request_in_progress`, `scope_missing`, `database_unavailable`.
        """
        if secrets.randbelow(SWEEP_ONE_IN) == 0:
            self._sweep()
        row = IdempotentAnswer(
            client_id=self.caller.actor,
            path=self.request.url.path,
            key=self.key,
            fingerprint=self.fingerprint,
            attempt=self.attempt,
            scopes=" ".join(sorted(self.caller.scopes)),
            secret_key_id=self.secret.id,
            expires_at=now() + RUNNING,
        )
        try:
            with self.database.transaction() as session:
                session.execute(delete(IdempotentAnswer).where(*self._mine(), IdempotentAnswer.expires_at <= now()))
                session.add(row)
        except IntegrityError:
            return self._earlier()
        return None

    def keep(self, answer: Answer) -> None:
        """Seal the answer and keep it. The answer is true whether it can be kept or not, so nothing is raised."""
        nonce = secrets.token_bytes(12)
        sealed = nonce + AESGCM(self.secret.value).encrypt(nonce, answer.packed(), self._bound_to())
        try:
            with self.database.transaction() as session:
                session.execute(
                    update(IdempotentAnswer)
                    .where(*self._mine(), IdempotentAnswer.attempt == self.attempt)
                    .values(sealed=sealed, expires_at=now() + KEPT)
                )
        except ExchangeError as error:
            log.warning("idempotent_answer_not_kept", code=error.code)

    def forget(self) -> None:
        """Free the key: what was asked for has not been done."""
        try:
            with self.database.transaction() as session:
                session.execute(delete(IdempotentAnswer).where(*self._mine(), IdempotentAnswer.attempt == self.attempt))
        except ExchangeError as error:
            log.warning("idempotency_key_not_freed", code=error.code)

    def _earlier(self) -> Answer:
        with self.database.reading() as session:
            row = session.get(IdempotentAnswer, (self.caller.actor, self.request.url.path, self.key))
        if row is not None and row.fingerprint != self.fingerprint:
            raise ExchangeError("idempotency_key_reused")
        if row is None or row.sealed is None:
            raise ExchangeError("request_in_progress", headers={"Retry-After": "1"})
        # The answer may hold what a narrower token may not see.
        missing = set(row.scopes.split()) - self.caller.scopes
        if missing:
            header = challenge(self.request, error="insufficient_scope", scope=row.scopes)
            raise ExchangeError("scope_missing", "The first request had more scopes than this token.", headers={"WWW-Authenticate": header})
        try:
            data = AESGCM(self.secret.value).decrypt(row.sealed[:12], row.sealed[12:], self._bound_to())
        except InvalidTag as error:  # sealed under a key that was replaced since
            raise ExchangeError("request_in_progress", "The first answer can no longer be opened; it is kept for a day.") from error
        return Answer.unpacked(data)

    def _sweep(self) -> None:
        with self.database.transaction() as session:
            session.execute(delete(IdempotentAnswer).where(IdempotentAnswer.expires_at <= now()))

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return (
            IdempotentAnswer.client_id == self.caller.actor,
            IdempotentAnswer.path == self.request.url.path,
            IdempotentAnswer.key == self.key,
        )

    def _bound_to(self) -> bytes:
        """Associated data: an answer opens only for the request that it answered."""
        return orjson.dumps([self.caller.actor, self.request.url.path, self.key]) + self.fingerprint


def _fingerprint(request: Request, body: bytes) -> bytes:
    """SHA-256 of what makes two requests the same: query, media type, the attributes of an event in binary mode, body."""
    attributes = sorted((name, value) for name, value in request.headers.items() if name == "content-type" or name.startswith("ce-"))
    return hashlib.sha256(orjson.dumps([request.url.query, attributes]) + b"\n" + body).digest()
