"""Outbound: what was judged and has not left yet, by connection, and how a barrier waits for it or takes it back.

What was handed to a socket has left when the peer's TCP has acknowledged it: neither the transport's buffer nor the kernel's send
queue (`SIOCOUTQ`, tcp(7)) has it. `send()` returns long before: megabytes of it may stand in the kernel, and be read later.
A socket that may still hold something judged is closed with `SO_LINGER` 0 (socket(7)): whoever closes it, the end of this process
included, drops what the peer has not acknowledged.

Where the kernel does not show its queue (any system but Linux) nothing is ever known to have left: a barrier aborts at once what it
would wait for here, and a close after a whole answer is trusted to deliver it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter
from starlette.types import Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.changes import Changes
from gateway.streams.views import Stamp

if sys.platform == "linux":
    import fcntl
    import termios

SETTLE_S = 0.5
"""How long a barrier waits for a connection before it aborts it."""
PATIENCE_S = 75.0
"""How long the end of an answer waits for a peer that acknowledges nothing more."""
PATIENCE_AT_THE_END_S = 1.0
"""How long a stopping gateway waits for a peer that does not read."""
FIRST_LOOK_S, RAREST_LOOK_S = 0.001, 0.016
PIECE_BYTES = 48 * 1024
"""The most that is handed to a socket at once."""
UNSENT_BYTES = 12 * 1024
"""Above this many bytes in the transport's buffer a socket is not ready; with one piece more it has less than 64 KiB."""
KERNEL_UNSENT_BYTES = 16 * 1024
"""Above this many bytes that the peer has no room for, the kernel takes no more (`TCP_NOTSENT_LOWAT`, tcp(7)): with what the transport
has, a reader that stalls has less than 64 KiB that can still be taken back."""
IN_FLIGHT_BYTES = 256 * 1024
"""What the kernel is asked to hold of a socket, for the peer that has room (`SO_SNDBUF`); Linux doubles it for its own accounts."""
DROP_AT_CLOSE = struct.pack("ii", 1, 0)
DELIVER_AT_CLOSE = struct.pack("ii", 0, 0)

aborted = Counter("exchange_barrier_aborts_total", "Connections that were aborted because they held back a barrier.")


class Gone(Exception):
    """The subscriber has gone."""


class Connection(Protocol):
    """uvicorn's protocol of one connection, as `gateway/serve.py` shows it to the stream plane."""

    transport: asyncio.Transport
    flow: FlowControl
    cycle: RequestResponseCycle
    outlet: Outlet | None
    is_lost: bool


class Judgement(Protocol):
    """What is about to leave: the number of the last forbidding change that it knows, and whether it still holds."""

    stamp: int

    def holds(self) -> bool: ...


@dataclass(slots=True)
class _Mark:
    """What was judged at `stamp` ends where `end` bytes had been written."""

    stamp: int
    end: int


class Outlet:
    """One connection that judged bytes go out by, from its first such answer until it is lost."""

    def __init__(self, connection: Connection, forget: Callable[[Outlet], None]) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the socket is closed."""
        self._transport = connection.transport
        self._socket: socket.socket = self._transport.get_extra_info("socket")
        self._forget = forget
        self._written = 0
        """Bytes of answers. What HTTP puts around them is not counted, so that never too much is taken for acknowledged."""
        self._marks: deque[_Mark] = deque()
        self._drops_at_close = False
        if connection.is_lost:  # its descriptor may be another's by now
            self.lost.set_result(None)
            return
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES)
        with suppress(OSError):  # the peer may have reset it
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, IN_FLIGHT_BYTES)
            if sys.platform == "linux":
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)

    def judged(self, size: int, stamp: int) -> None:
        """Count bytes that are written next, with nothing awaited between, and were judged at `stamp`."""
        if not self._drops_at_close:
            self._drop_at_close(drop=True)
        self._written += size
        if self._marks and self._marks[-1].stamp == stamp:
            self._marks[-1].end = self._written
            return
        self._look()
        self._marks.append(_Mark(stamp, self._written))

    def unjudged(self, size: int) -> None:
        """Count bytes that are written next and that nothing can forbid."""
        self._written += size

    def owes(self, before: int) -> bool:
        """True if something that was judged before the change `before` may still reach the peer from here."""
        if self.lost.done() or not self._marks or self._marks[0].stamp >= before:
            return False
        self._look()
        return bool(self._marks) and self._marks[0].stamp < before

    def unacknowledged(self) -> int:
        """Bytes that the peer's TCP has not acknowledged, headers included; where that is not shown, what the transport holds."""
        waiting = self._transport.get_write_buffer_size()
        if sys.platform == "linux":
            waiting += int.from_bytes(fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return waiting

    def rest(self) -> None:
        """Before a close, or another request: if everything has left, the socket closes as sockets do."""
        if self._drops_at_close and not self.lost.done() and not self.unacknowledged():
            self._look()
            self._drop_at_close(drop=False)

    async def empty(self, patience: Callable[[], float]) -> None:
        """Wait until everything has left, so that a close drops nothing.

        Raises `Gone`, also of a peer that has acknowledged nothing for as many seconds as `patience` says.
        """
        least, since, pause = sys.maxsize, time.monotonic(), FIRST_LOOK_S
        while not self.lost.done() and (waiting := self.unacknowledged()):
            if waiting < least:
                least, since = waiting, time.monotonic()
            elif time.monotonic() - since > patience():
                raise Gone
            await asyncio.sleep(pause)
            pause = min(2 * pause, RAREST_LOOK_S)
        if self.lost.done():
            raise Gone
        self.rest()

    def abort(self) -> None:
        """Close at the next turn of the loop and drop what the peer has not acknowledged."""
        if not self.lost.done():
            self._drop_at_close(drop=True)
            self._transport.abort()

    def close(self) -> None:
        """The connection is lost: called by its protocol, in the same turn of the loop that closes the socket."""
        if not self.lost.done():
            self.lost.set_result(None)
        self._forget(self)

    def _look(self) -> None:
        """Forget the marks of what was acknowledged."""
        if self._marks and sys.platform == "linux":
            acknowledged = self._written - self.unacknowledged()
            while self._marks and self._marks[0].end <= acknowledged:
                self._marks.popleft()

    def _drop_at_close(self, *, drop: bool) -> None:
        self._drops_at_close = drop
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DROP_AT_CLOSE if drop else DELIVER_AT_CLOSE)


class Outbound:
    """The connections of this process by which judged bytes go out. Everything here runs on the gateway's event loop."""

    def __init__(self, changes: Changes, stamp: Stamp, bar: Callable[[int], Awaitable[None]]) -> None:
        self._changes = changes
        self._bar = bar
        """Writes no grant any more that was judged before a change."""
        self._stamp = stamp
        self._outlets: set[Outlet] = set()
        self._settled = 0
        self._stopping = False

    def patience(self) -> float:
        """Seconds that the end of an answer waits for a peer that acknowledges nothing more."""
        return PATIENCE_AT_THE_END_S if self._stopping else PATIENCE_S

    def outlet(self, connection: Connection) -> Outlet:
        """The connection's outlet, made when judged bytes first go out by it."""
        if connection.outlet is None:
            connection.outlet = Outlet(connection, self._outlets.discard)
            if not connection.is_lost:
                self._outlets.add(connection.outlet)
        return connection.outlet

    async def settle(self, n: int) -> None:
        """Return once all that was judged before change `n` has left, or never will.

        What has not been written yet is judged again by whoever writes it. A connection that holds this back for `SETTLE_S` is
        aborted; its reader resumes by cursor. Raises `ValueError` if `n` is not applied here.
        """
        if n > self._changes.applied:
            raise ValueError(f"change {n} is not applied")
        # No forbidding change lies between the stamp's and n: what was judged at the stamp knows all that n does.
        before = min(n, self._stamp.value)
        if before <= self._settled:
            return
        await self._bar(before)
        deadline = time.monotonic() + (SETTLE_S if sys.platform == "linux" else 0)
        pause, due = FIRST_LOOK_S, [*self._outlets]
        while due := [outlet for outlet in due if outlet.owes(before)]:
            if time.monotonic() >= deadline:
                await self._abort(due)
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, RAREST_LOOK_S)
        self._settled = max(self._settled, before)

    def stop(self) -> None:
        """The gateway stops: wait for nobody who does not read."""
        self._stopping = True
        waiting = {outlet: outlet.unacknowledged() for outlet in self._outlets}
        asyncio.get_running_loop().call_later(PATIENCE_AT_THE_END_S, self._abort_stalled, waiting)

    def _abort_stalled(self, since: dict[Outlet, int]) -> None:
        for outlet, waiting in since.items():
            if waiting and outlet in self._outlets and outlet.unacknowledged() >= waiting:
                outlet.abort()

    def abort_all(self) -> None:
        """Abort every connection that judged bytes go out by: they are closed at the next turn of the loop."""
        for outlet in [*self._outlets]:
            outlet.abort()

    async def _abort(self, due: list[Outlet]) -> None:
        for outlet in due:
            outlet.abort()
            aborted.inc()
        # An aborted socket sends until it is closed.
        await asyncio.wait([outlet.lost for outlet in due])


class Socket:
    """One answer on its way out: pieces, each judged when the socket takes it."""

    def __init__(self, outbound: Outbound, connection: Connection, send: Send) -> None:
        self._outbound = outbound
        self._connection = connection
        self._outlet = outbound.outlet(connection)
        self._send = send
        self.wrote = time.monotonic()

    @property
    def gone(self) -> asyncio.Future[None]:
        """Done once the subscriber has gone."""
        return self._outlet.lost

    async def ready(self) -> None:
        """Wait until the socket takes more. Raises `Gone`."""
        self.raise_if_gone()
        while self._connection.flow.write_paused:
            await self._connection.flow.drain()
            self.raise_if_gone()

    def is_ready(self) -> bool:
        """True if the socket takes more now."""
        return not (self._connection.flow.write_paused or self._connection.transport.is_closing())

    def write_at_once(self, text: bytes, tail: bytes, judgement: Judgement) -> bool:
        """Write what was just found to hold, for a socket that is ready, unless it is too large for one piece."""
        size = len(text) + len(tail)
        if len(text) > PIECE_BYTES:
            return False
        self._outlet.judged(size, judgement.stamp)
        # One HTTP chunk (RFC 9112 section 7.1) whose text, the same for all subscribers, is not copied on its way to the socket.
        self._connection.transport.writelines((b"%x\r\n" % size, text, tail, b"\r\n"))
        self.wrote = time.monotonic()
        return True

    async def write_judged(self, data: bytes, judgement: Judgement, judge_again: Callable[[], Awaitable[bool]]) -> None:
        """Write what was found to hold, asking before each piece with nothing awaited between the answer and the write.

        What does not hold any more is judged again; if it may not leave as it is, the connection is cut in the middle of it.
        Raises `Gone`.
        """
        for start in range(0, len(data), PIECE_BYTES):
            await self.ready()
            while not judgement.holds():
                if not await judge_again():
                    raise Gone
                await self.ready()
            piece = data[start : start + PIECE_BYTES]
            self._outlet.judged(len(piece), judgement.stamp)
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        self.wrote = time.monotonic()

    async def write(self, data: bytes) -> None:
        """Wait for the socket and write what needs no judgement. Raises `Gone`."""
        if data:
            await self.ready()
            self._outlet.unjudged(len(data))
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            self.wrote = time.monotonic()

    async def finish(self) -> None:
        """End the answer; if the connection ends with it, not before everything has left. Raises `Gone`."""
        await self.ready()
        if not self._connection.cycle.keep_alive:
            await self._outlet.empty(self._outbound.patience)
        await self._send({"type": "http.response.body", "body": b""})

    async def drop(self) -> None:
        """Close at once, with what is unsent: the subscriber has gone, or must not have the rest."""
        self._outlet.abort()
        await asyncio.wait([self._outlet.lost])

    def raise_if_gone(self) -> None:
        if self._connection.transport.is_closing():
            raise Gone
