"""An observer at the clients' sockets: streams of server-sent events read raw, each event with where it ended on its wire and when.

What a barrier promises is about bytes: when a call has returned, no byte of what it forbids is on its way any more that the peer's TCP
has not acknowledged already. The peer is this process, so `shore()` knows: what its kernel had acknowledged is what was read from a
socket and what waits in it to be read (`FIONREAD`).
"""

from __future__ import annotations

import fcntl
import re
import selectors
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.dpop import Presenter

NONCE = re.compile(rb"(?i)\r\ndpop-nonce: *([^\r]+)")
IDENTIFIER = re.compile(rb'"id":"([^"]+)"')
AGAIN_S = 0.1
"""Between two attempts to connect."""
SILENT_S = 5.0
"""A stream whose head has not come by then is tried elsewhere."""
STALLED_BUFFER = 4096
READ_BYTES = 256 * 1024
PASSING = (b'"token_expired"', b'"gateway_stopping"')
"""Ends of a stream after which a subscriber comes again."""
DROP_AT_CLOSE = struct.pack("ii", 1, 0)

Address = tuple[str, int]
Shore = dict["Tap", int]


@dataclass(frozen=True, slots=True)
class Heard:
    """An event: its identifier, the byte of the wire after its last, and when that was read (monotonic, seconds)."""

    identifier: str
    end: int
    at: float


class Tap:
    """One connection, from its request to its end; the bytes are taken apart as they come."""

    def __init__(self, address: Address, request: bytes, *, stalled: bool) -> None:
        self.socket = socket.socket()
        if stalled:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_BUFFER)
        self.socket.settimeout(1)
        try:
            self.socket.connect(address)
            self.socket.sendall(request)
        except OSError:
            self.socket.close()
            raise
        self.socket.setblocking(False)
        self.address = address
        self.opened = time.monotonic()
        self.received = 0
        self.heard: list[Heard] = []
        self.people: set[str] = set()
        self.cursor: bytes | None = None
        self.status = 0
        self.nonce = ""
        """For the next proof (RFC 9449 section 9)."""
        self.ended: bytes | None = None
        """The problem with which the stream was ended."""
        self.over = False
        self._raw = bytearray()
        self._message = bytearray()
        self._left: int | None = None
        """Bytes of the chunk that are still to come; None: the head is."""

    def acknowledged(self) -> int:
        """Bytes that this side's TCP has acknowledged."""
        if self.over:
            return self.received
        waiting = fcntl.ioctl(self.socket.fileno(), termios.FIONREAD, bytes(4))
        return self.received + int.from_bytes(waiting, sys.byteorder)

    def read(self) -> None:
        """Take what there is."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.received += len(data)
        self._raw += data
        at = time.monotonic()
        while self._advance(at):
            pass

    def close(self, *, rudely: bool = False) -> None:
        self.over = True
        with suppress(OSError):
            if rudely:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DROP_AT_CLOSE)
            self.socket.close()

    def tail(self) -> bytes:
        """What came after the last whole message."""
        return bytes(self._message)

    def _advance(self, at: float) -> bool:
        """One step in what was read and not taken apart; False if more must come first."""
        if self._left is None:
            head, found, rest = self._raw.partition(b"\r\n\r\n")
            if found:
                self.status, self._left, self._raw = int(head[9:12]), 0, rest
                found_nonce = NONCE.search(head)
                self.nonce = found_nonce[1].decode() if found_nonce else ""
            return bool(found)
        if self._left > 0:
            piece = self._raw[: self._left]
            begins = self.received - len(self._raw)
            del self._raw[: len(piece)]
            self._left -= len(piece)
            self._take(piece, begins, at)
            return bool(piece)
        # between two chunks: what ends the one before, and the size of the next (RFC 9112 section 7.1)
        line = self._raw.lstrip(b"\r\n")
        size, found, rest = line.partition(b"\r\n")
        if found:
            self._left, self._raw = int(size, 16) or sys.maxsize, rest
        return bool(found)

    def _take(self, piece: bytearray, begins: int, at: float) -> None:
        """`piece` of the body stands on the wire from byte `begins` on."""
        before = len(self._message)
        self._message += piece
        start, search = 0, max(0, before - 1)
        while (found := self._message.find(b"\n\n", search)) >= 0:
            self._hear(bytes(self._message[start:found]), begins + found + 2 - before, at)
            start = search = found + 2
        del self._message[:start]

    def _hear(self, message: bytes, end: int, at: float) -> None:
        lines = message.split(b"\n")
        for line in lines:
            if line.startswith(b"id: "):
                self.cursor = line[4:]
        if lines[0].startswith(b"data: ") and (identifier := IDENTIFIER.search(lines[0])):
            self.heard.append(Heard(identifier[1].decode(), end, at))
            self.people.add(self.heard[-1].identifier.rsplit("-", 2)[0])
        elif lines[0] == b"event: end":
            self.ended = message


class Subscriber:
    """What reads under one contract, at `home` or wherever it is let in, on and on from its cursor (`start` at first)."""

    def __init__(
        self, contract: str, token: Callable[[], str | Mapping[str, Any]], addresses: list[Address], home: int, start: bytes | None = None
    ) -> None:
        self.contract = contract
        self.token = token
        self.taps: list[Tap] = []
        self.stays = True
        """It connects again when a connection is over."""
        self.addresses = addresses
        self._start = start
        self._turn = home
        self._next = 0.0

    @property
    def tap(self) -> Tap | None:
        """The connection that it has now."""
        return self.taps[-1] if self.taps and not self.taps[-1].over else None

    @property
    def count(self) -> int:
        """Events that it has heard."""
        return sum(len(tap.heard) for tap in self.taps)

    @property
    def cursor(self) -> bytes | None:
        """Where it goes on."""
        return next((tap.cursor for tap in reversed(self.taps) if tap.cursor), self._start)

    def heard_of(self) -> set[str]:
        """The people whose events came."""
        return {person for tap in self.taps for person in tap.people}

    @property
    def listens(self) -> bool:
        return self.tap is not None and self.tap.status == 200

    def connect(self, *, stalled: bool = False) -> Tap | None:
        """A new connection at the next address, if there is somebody."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + AGAIN_S
        address = self.addresses[self._turn % len(self.addresses)]
        cursor = self.cursor
        path, presenter = f"/v1/contracts/{self.contract}/events", Presenter(self.token())
        presenter.hear(next((tap.nonce for tap in reversed(self.taps) if tap.nonce), ""))
        head = [f"GET {path} HTTP/1.1", "Host: exchange", "Accept: text/event-stream"]
        head += [f"Last-Event-ID: {cursor.decode()}"] if cursor else []
        try:
            made = Tap(address, ("\r\n".join(head) + f"\r\n{presenter.lines('GET', path)}\r\n").encode(), stalled=stalled)
        except OSError:
            self._turn += 1
            return None
        self.taps.append(made)
        return made

    def elsewhere(self) -> None:
        """Try the next address when it connects again."""
        self._turn += 1


class Observer:
    """One thread that reads all subscribers' sockets, save those that are stalled. Use it in `with`."""

    def __init__(self) -> None:
        self.subscribers: list[Subscriber] = []
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)
        for subscriber in self.subscribers:
            if subscriber.tap:
                subscriber.tap.close(rudely=True)
        self._selector.close()

    def watch(self, *subscribers: Subscriber) -> None:
        with self._lock:
            self.subscribers += subscribers

    def stall(self, subscriber: Subscriber) -> Tap | None:
        """Connect a subscriber that does not read, until `read_on`; None if nobody is there."""
        subscriber.stays = False
        made = subscriber.connect(stalled=True)
        self.watch(subscriber)
        return made

    def read_on(self, tap: Tap) -> None:
        """Read what the stalled connection has, on and on."""
        with self._lock:
            self._selector.register(tap.socket, selectors.EVENT_READ, tap)

    def forget(self) -> None:
        """Drop what was heard on connections that are over."""
        with self._lock:
            for subscriber in self.subscribers:
                over, subscriber.taps[:-1] = subscriber.taps[:-1], []
                for tap in subscriber.taps:
                    tap.heard.clear()
                    tap.people.clear()
                    tap.cursor = tap.cursor or next((before.cursor for before in reversed(over) if before.cursor), None)
            self.subscribers[:] = [subscriber for subscriber in self.subscribers if subscriber.stays]

    def shore(self) -> Shore:
        """By connection, the bytes that are acknowledged now. What a call forbids must not come after them, nor on a later one."""
        with self._lock:
            return {tap: tap.acknowledged() for subscriber in self.subscribers for tap in subscriber.taps}

    def beyond(self, shore: Shore, person: str, subscribers: Iterable[Subscriber] | None = None) -> list[str]:
        """The events of this person (all events, if that is empty) of which a byte came beyond the shore."""
        found: list[str] = []
        with self._lock:
            for subscriber in self.subscribers if subscribers is None else subscribers:
                for tap in subscriber.taps:
                    limit = shore.get(tap, 0)
                    found += [heard.identifier for heard in tap.heard if heard.end > limit and heard.identifier.startswith(person)]
                    part = IDENTIFIER.search(tap.tail()) if tap.received > limit else None
                    if part and part[1].decode().startswith(person):
                        found.append(part[1].decode())
        return found

    def _run(self) -> None:
        while not self._stop.is_set():
            ready = self._selector.select(0.02)
            with self._lock:
                for key, _ in ready:
                    self._read(key.data)
                for subscriber in self.subscribers:
                    self._keep(subscriber)

    def _read(self, tap: Tap) -> None:
        tap.read()
        if tap.over:
            self._unregister(tap)

    def _keep(self, subscriber: Subscriber) -> None:
        """Hang up where there is nothing to hear, and connect again."""
        tap = subscriber.tap
        if tap is not None and tap.ended is not None:
            subscriber.stays = any(code in tap.ended for code in PASSING)
            self._hang_up(tap)
        elif tap is not None and subscriber.stays and _is_fruitless(tap):
            self._hang_up(tap)
            subscriber.elsewhere()
        if subscriber.tap is None and subscriber.stays:
            made = subscriber.connect()
            if made is not None:
                self._selector.register(made.socket, selectors.EVENT_READ, made)

    def _hang_up(self, tap: Tap) -> None:
        self._unregister(tap)
        tap.close()

    def _unregister(self, tap: Tap) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(tap.socket)


def _is_fruitless(tap: Tap) -> bool:
    return tap.status != 200 if tap.status else time.monotonic() > tap.opened + SILENT_S
