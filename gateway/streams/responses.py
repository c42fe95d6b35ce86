"""The three ways out: a page, a stream of server-sent events, a stream of lines.

Between the last question whether a flush still holds and its write nothing is awaited: an answer waits for the subscriber's
socket first, then asks, then writes. So what a change has forbidden is not written once the change is applied, and what was written
before is known to `gateway/streams/outbound.py` until it has left.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.database import now
from gateway.errors import ExchangeError
from gateway.streams.deliver import (
    Flush,
    Grant,
    Part,
    close,
    count_delivered,
    count_disclosed,
    judge_again,
    judge_next,
    move_on,
    pass_over,
    release,
    take_grant,
    wait_for_more,
)
from gateway.streams.limits import Bucket
from gateway.streams.log import LogUnavailable
from gateway.streams.outbound import Connection, Gone, Socket
from gateway.streams.reading import Reading
from gateway.streams.sealing import sealing_unavailable
from gateway.streams.views import chunks

HEARTBEAT_S = 15.0
PAUSE_S = 0.25
"""How long a stream waits before it asks again a part of the exchange that was away."""
LONGEST_LOOK_S = 20.0
"""How long a page passes over events that are all withheld, before it answers empty with the cursor so far."""
PASSING = frozenset({"audit_unavailable", "database_unavailable", "log_unavailable", "policy_switching", "policy_unavailable"})
"""Parts whose absence a stream sits out: nothing leaves, and it goes on when they are back. The policy engine is away for a moment
at each activation, and every decision is then made anew."""
CURSOR_BYTES = 512 * 1024
"""After so many bytes a stream says in the middle of a flush where it stands: who is far behind, over connections that break before a
flush is through, goes on all the same.
"""
KEYS_AWAY_S = 15.0
"""For so long a stream sits out a key-encryption key that is away; then it ends and says so, before the first event that needs it."""


class Page(Response):
    """One page of events, `application/cloudevents-batch+json`, waiting up to `wait` seconds for the first event."""

    def __init__(self, reading: Reading, *, limit_bytes: int, wait: float, headers: dict[str, str]) -> None:
        super().__init__(headers=headers, media_type="application/cloudevents-batch+json")
        self._reading = reading
        self._limit = limit_bytes
        self._deadline = time.monotonic() + wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        reading = self._reading
        flush = await self._flush()
        reading.streams.in_flight.admit(self._limit if flush.events else 0)
        while flush.events:
            if await release(reading, flush, flush.spans(), flush.whole()) and flush.holds():
                break
            flush = await judge_next(reading, most_bytes=self._limit)
        body = b"[" + b",".join(frame for part in flush.parts for frame in part.frames) + b"]"
        pass_over(reading, flush)
        count_delivered(reading, flush.events, len(body))
        _take_from(flush.permit.bucket, flush.events)
        for part in flush.parts:
            count_disclosed(reading, flush.permit, part, 0, part.count)
        cursor = reading.cursor()
        self.headers["Next-Cursor"] = cursor
        self.headers["Link"] = f'<{reading.streams.issuer}{scope["path"]}?cursor={cursor}>; rel="next"'
        self.headers["Content-Length"] = str(len(body))
        if flush.receipt is not None:
            self.headers["Audit-Entry"] = flush.receipt.header
        with reading.streams.in_flight.hold() as carry:
            carry(len(body))
            await self._send(scope, send, flush, body)

    async def _send(self, scope: Scope, send: Send, flush: Flush, body: bytes) -> None:
        reading, socket = self._reading, _socket(self._reading, scope, send)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            if flush.events:
                await socket.write_judged(body, flush, partial(judge_again, reading, flush))
            else:
                await socket.write(body)
            await socket.finish()
        except Gone:
            await socket.drop()

    async def _flush(self) -> Flush:
        """The first flush with events, or an empty one at the end of what there is, once the wait is over.

        What is withheld is passed: an empty page says that there is nothing more now, unless looking took `LONGEST_LOOK_S`.
        """
        reading = self._reading
        looked_until = time.monotonic() + LONGEST_LOOK_S
        while True:
            changed = reading.streams.next_change
            flush = await judge_next(reading, most_bytes=self._limit)
            if flush.awaits_key and not flush.parts:
                raise sealing_unavailable()
            left = 0 if reading.streams.stopping else self._deadline - time.monotonic()
            bucket = flush.permit.bucket
            if bucket is not None and bucket.available() < 1:
                if left < bucket.seconds_to_one:
                    raise ExchangeError("rate_limited", headers={"Retry-After": str(max(1, round(bucket.seconds_to_one)))})
                await asyncio.sleep(bucket.seconds_to_one)
            elif flush.events or (left <= 0 and (not flush.parts or time.monotonic() > looked_until)):
                return flush
            elif flush.parts:
                pass_over(reading, flush)
            else:
                await wait_for_more(reading, left, changed)


def _socket(reading: Reading, scope: Scope, send: Send) -> Socket:
    connection: Connection = scope["extensions"]["exchange.protocol"]["protocol"]
    return Socket(reading.streams.outbound, connection, send)


class Format(Protocol):
    """How events, cursors, receipts and the end look in a stream. An event is `before` + JSON, then `between`, `middle` or `last`."""

    media_type: str
    opening: bytes
    before: bytes
    between: bytes

    def middle(self, cursor: str, audit_entry: str) -> bytes:
        """What follows an event within a flush behind which a reader may go on."""

    def last(self, cursor: str, audit_entry: str, events: int) -> bytes:
        """What follows the last event of a flush."""

    def heartbeat(self, cursor: str) -> bytes: ...

    def end(self, cursor: str, problem: dict[str, Any] | None) -> bytes: ...


class ServerSentEvents:
    """`text/event-stream` (WHATWG HTML, server-sent events): the `id` is the cursor."""

    media_type = "text/event-stream"
    opening = b"retry: 2000\n\n"
    before = b"data: "
    between = b"\n\n"

    def middle(self, cursor: str, audit_entry: str) -> bytes:  # noqa: ARG002 - a receipt counts the events of a whole flush
        return b"\nid: %b\n\n" % cursor.encode()

    def last(self, cursor: str, audit_entry: str, events: int) -> bytes:
        receipt = orjson.dumps({"audit_entry": audit_entry, "events": events})
        return b"\nid: %b\n\nevent: receipt\ndata: %b\n\n" % (cursor.encode(), receipt)

    def heartbeat(self, cursor: str) -> bytes:
        return b"id: %b\n\n" % cursor.encode()

    def end(self, cursor: str, problem: dict[str, Any] | None) -> bytes:
        return b"event: end\nid: %b\ndata: %b\n\n" % (cursor.encode(), orjson.dumps(problem or {}))


class Lines:
    """`application/x-ndjson`: an event a line, and a line with the cursor at each flush."""

    media_type = "application/x-ndjson"
    opening = b""
    before = b""
    between = b"\n"

    def middle(self, cursor: str, audit_entry: str) -> bytes:
        return b"\n%b\n" % orjson.dumps({"next_cursor": cursor, "audit_entry": audit_entry})

    def last(self, cursor: str, audit_entry: str, events: int) -> bytes:  # noqa: ARG002 - the line before it can be counted
        return self.middle(cursor, audit_entry)

    def heartbeat(self, cursor: str) -> bytes:
        return b"%b\n" % orjson.dumps({"next_cursor": cursor})

    def end(self, cursor: str, problem: dict[str, Any] | None) -> bytes:
        return b"%b\n" % orjson.dumps({"next_cursor": cursor} | ({"end": problem} if problem else {}))


class Stream(Response):
    """Events as they come, until the contract, the token, the gateway or an idle time ends it."""

    def __init__(
        self, reading: Reading, form: Format, place: AbstractContextManager[None], *, idle: float | None, headers: dict[str, str]
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"} | headers, media_type=form.media_type)
        del self.headers["content-length"]
        self._reading = reading
        self._form = form
        self._place = place
        self._idle = idle
        """Seconds without anything new after which it ends; None: it stays."""
        self._grant: Grant | None = None
        """The last one, until an entry says what left under it."""
        self._since_cursor = 0
        """Bytes of events since the last cursor."""
        self._spoke = time.monotonic()
        self._keys_away_since: float | None = None
        """When an event was met whose key-encryption key is away."""
        self._changed = reading.streams.next_change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        with self._place, self._reading.streams.in_flight.stream():
            # What goes wrong up to the first flush is answered as a problem: nothing is sent yet.
            flush = await self._judge()
            if flush is not None and flush.receipt is not None:
                self.headers["Audit-Entry"] = flush.receipt.header
            socket = _socket(self._reading, scope, send)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await socket.write(self._form.opening)
                # In a task of its own, which wakes up without a walk through all that stands around a response.
                problem = await asyncio.create_task(self._deliver(socket, flush))
                await socket.write(self._form.end(self._reading.cursor(), problem))
                await socket.finish()
            except Gone:
                await socket.drop()
            finally:
                if self._grant is not None:
                    await close(self._reading, self._grant.closed)

    async def _deliver(self, socket: Socket, flush: Flush | None) -> dict[str, Any] | None:
        """Flush after flush until something ends the stream: the problem that did, or None after an idle time in which all was there."""
        streams = self._reading.streams
        away: ExchangeError | None = None
        while True:
            try:
                if flush is not None:
                    await self._write(socket, flush)
                elif await self._is_idle(socket, wait=away is None):
                    return self._problem(away) if away is not None else None
                flush, away = None, None
                if streams.stopping:
                    raise ExchangeError("gateway_stopping")
                # What changes from here on ends the wait that comes after: nothing is missed in between.
                self._changed = streams.next_change
                flush = await self._judge()
            except LogUnavailable:
                away = ExchangeError("log_unavailable")
                await self._sit_out(socket)
            except ExchangeError as error:
                if error.code not in PASSING and not (error.code == "sealing_unavailable" and self._waits_for_keys()):
                    return self._problem(error)
                away = error
                await self._sit_out(socket)

    async def _judge(self) -> Flush | None:
        """The next flush, released if it has events, by this entry of the log or that before; None if there is nothing to examine."""
        while True:
            flush = await judge_next(self._reading, will_wait=self._idle is None)
            if not flush.awaits_key:
                self._keys_away_since = None
            elif self._keys_away_since is None:
                self._keys_away_since = time.monotonic()
            if flush.awaits_key and not (flush.parts and self._waits_for_keys()):
                raise sealing_unavailable()
            if not flush.events:
                return flush if flush.parts else None
            if self._grant is not None and self._grant.takes(flush):
                return flush
            grant = await take_grant(self._reading, flush, self._grant.closed if self._grant is not None else None)
            if grant is not None:
                self._grant = grant
                return flush

    async def _write(self, socket: Socket, flush: Flush) -> None:
        """(7) Bytes out, chunk by chunk. What a change forbids on the way stays, and the reading stands before it."""
        if not flush.events:
            pass_over(self._reading, flush)
            return
        final_part = flush.last_with_events
        for part in flush.parts:
            if not await self._write_part(socket, flush, part, is_final=part is final_part):
                return
        self._spoke = time.monotonic()

    async def _write_part(self, socket: Socket, flush: Flush, part: Part, *, is_final: bool) -> bool:
        """False if a change forbids what is left of it.

        What is written is accounted for before anything is waited for, and at the end, however that comes: not chunk by chunk.
        """
        told = done = size = 0
        entry = flush.receipt.header if flush.receipt else ""

        def account() -> None:
            nonlocal told, size
            self._account(flush, part, told, done, size)
            told, size = done, 0

        try:
            for text, _, last in chunks(part.judged, self._form.before, self._form.between, part.count):
                if not socket.is_ready():
                    account()
                    await socket.ready()
                if not flush.holds():
                    return False
                done, size, tail = last, size + len(text), self._form.between
                self._since_cursor += len(text)
                if is_final and last == part.count:
                    account()  # first: the cursor that it ends with stands after it
                    tail = self._form.last(self._cursor(), entry, flush.events)
                elif self._since_cursor >= CURSOR_BYTES:
                    account()
                    tail = self._form.middle(self._cursor(), entry)
                if not socket.write_at_once(text, tail, flush):
                    account()
                    await socket.write_judged(text + tail, flush, partial(judge_again, self._reading, flush))
            return True
        finally:
            account()

    def _account(self, flush: Flush, part: Part, first: int, last: int, size: int) -> None:
        """The part's events from place `first` up to, and without, `last` are written, with `size` bytes."""
        assert self._grant is not None  # what is written was granted
        if last == part.count:
            move_on(self._reading, part, part.next)
        if first == last:
            return
        if last < part.count:
            move_on(self._reading, part, part.judged.offsets[last])
        closed = self._grant.closed
        closed.events += last - first
        closed.size += size
        closed.last[part.partition] = part.judged.offsets[last - 1]
        count_delivered(self._reading, last - first, size)
        _take_from(flush.permit.bucket, last - first)
        count_disclosed(self._reading, flush.permit, part, first, last)

    def _cursor(self) -> str:
        self._since_cursor = 0
        return self._reading.cursor()

    async def _is_idle(self, socket: Socket, *, wait: bool) -> bool:
        """Wait for something new, with a heartbeat now and then, unless a part was away; True when the stream's idle time is over."""
        socket.raise_if_gone()
        await self._beat(socket)
        quiet = time.monotonic() - self._spoke
        if self._idle is not None and quiet >= self._idle:
            return True
        if not wait:
            return False
        ends = [HEARTBEAT_S - quiet % HEARTBEAT_S]
        if self._idle is not None:
            ends.append(self._idle - quiet)
        if self._reading.caller is not None:
            ends.append((self._reading.caller.expires_at - now()).total_seconds())
        await wait_for_more(self._reading, max(0.02, min(ends)), self._changed, socket.gone)
        return False

    async def _sit_out(self, socket: Socket) -> None:
        """Pause; then it is asked again at once, because nothing tells when a part is back."""
        socket.raise_if_gone()
        await asyncio.sleep(PAUSE_S)
        await self._beat(socket)

    def _waits_for_keys(self) -> bool:
        """True while a key-encryption key is away, and not for long."""
        return self._keys_away_since is not None and time.monotonic() - self._keys_away_since < KEYS_AWAY_S

    def _problem(self, error: ExchangeError) -> dict[str, Any]:
        return error.problem(self._reading.streams.issuer, self._reading.path)

    async def _beat(self, socket: Socket) -> None:
        if time.monotonic() - max(self._spoke, socket.wrote) >= HEARTBEAT_S:
            await socket.write(self._form.heartbeat(self._reading.cursor()))


def _take_from(bucket: Bucket | None, events: int) -> None:
    if bucket is not None:
        bucket.take(events)
