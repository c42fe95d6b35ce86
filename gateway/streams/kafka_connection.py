"""TCP connections to Kafka brokers: frames go out, frames come back, and correlation ids tell which answers which.

They live on asyncio like the rest of the stream plane: kafka-python's own event loop would need a thread, and every answer would
wait for the interpreter lock twice. What is in the frames is the business of `kafka_log`.
Framing: https://kafka.apache.org/protocol#protocol_common
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

from gateway.streams.log import LogUnavailable

DEADLINE_S = 10.0
"""How long one call is tried, in seconds, before it raises `LogUnavailable`."""
MAX_FRAME_BYTES = 64 * 1024 * 1024
_CONNECT_TIMEOUT_S = 2.0
_OWN_CONNECTIONS = 200
_IDLE_CONNECTIONS = 16

Address = tuple[str, int]
T = TypeVar("T")


class ConnectionGone(Exception):
    """The connection broke, or an answer did not come in time. A request under way may or may not have been done."""


class NotConnected(ConnectionGone):
    """There was no connection to send on: nothing was done."""


class Retriable(Exception):
    """The broker's answer says: look up the topic again and repeat."""


async def trying(attempt: Callable[[float], Awaitable[T]]) -> T:
    """Repeat `attempt(monotonic time of the last failure, or 0)` until it works, then raise `LogUnavailable`.

    What follows a failure ends ten seconds after the start, done or not.
    """
    deadline, failed, pause = time.monotonic() + DEADLINE_S, 0.0, 0.02
    while True:
        try:
            async with asyncio.timeout(max(0.1, deadline - failed) if failed else None):
                return await attempt(failed)
        except (ConnectionGone, Retriable, TimeoutError) as error:
            failed = time.monotonic()
            if failed + pause > deadline:
                raise LogUnavailable(str(error) or "no answer in time") from error
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.5)


class Connection(asyncio.BufferedProtocol):
    """Requests may be pipelined; the broker answers them one after another."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._correlation = 0
        self._size = bytearray(4)
        self._frame: bytearray | None = None
        self._target = memoryview(self._size)
        self._filled = 0

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Raises `NotConnected` if nobody answers within two seconds."""
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        except (OSError, TimeoutError) as error:
            raise NotConnected(f"{host}:{port}: {str(error) or 'no answer'}") from error
        return connection

    async def call(self, message: Callable[[int], bytes | bytearray], *, timeout_s: float) -> bytes:
        """Send the frame that `message(correlation id)` gives and return the body of its answer. Raises `ConnectionGone`."""
        return await self.answered(self.send(message), timeout_s=timeout_s)

    def send(self, message: Callable[[int], bytes | bytearray]) -> asyncio.Future[bytes]:
        """Send the frame that `message(correlation id)` gives, and give what `answered` waits for. Raises `NotConnected`."""
        if self.closed or self._transport is None:
            raise NotConnected("the connection is closed")
        self._correlation = correlation = (self._correlation + 1) & 0x7FFFFFFF
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        frame = message(correlation)
        self._answers[correlation] = answer
        self._transport.write(frame)
        return answer

    async def answered(self, answer: asyncio.Future[bytes], *, timeout_s: float) -> bytes:
        """The body of the answer. Raises `ConnectionGone`.

        After a timeout the connection is closed: what comes behind on it could only be later still.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            self.close()
            raise ConnectionGone(f"no answer within {timeout_s:.1f} s") from error

    def close(self) -> None:
        """Close at once; whoever waits for an answer gets `ConnectionGone`."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio names it
        return self._target[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled < len(self._target):
            return
        if self._frame is None:
            length = int.from_bytes(self._size, "big", signed=True)
            if not 5 <= length <= MAX_FRAME_BYTES:
                self.close()
                return
            self._frame = bytearray(length)
            self._expect(self._frame)
            return
        frame, self._frame = self._frame, None
        self._expect(self._size)
        self._answered(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(ConnectionGone(str(exc or "closed by the broker")))

    def _expect(self, buffer: bytearray) -> None:
        self._target = memoryview(buffer)
        self._filled = 0

    def _answered(self, frame: bytearray) -> None:
        answer = self._answers.pop(int.from_bytes(frame[:4], "big"), None)
        if answer is None or frame[4]:  # an answer to nothing, or header tags, which no broker sends
            self.close()
        elif not answer.done():
            answer.set_result(bytes(memoryview(frame)[5:]))


class Connections:
    """All connections to all brokers: one for each kind of work, and more for what the broker may hold back for seconds.

    A broker answers the requests of a connection one after another, so that whatever waits there must have a connection of its own.
    """

    def __init__(self) -> None:
        self._shared: dict[tuple[Address, str], Connection] = {}
        self._opening: defaultdict[tuple[Address, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._idle: defaultdict[Address, list[Connection]] = defaultdict(list)
        self._own: defaultdict[Address, set[Connection]] = defaultdict(set)

    async def shared(self, address: Address, work: str) -> Connection:
        """The connection for a kind of work. Raises `NotConnected`."""
        connection = self._shared.get((address, work))
        if connection is None or connection.closed:
            async with self._opening[address, work]:
                connection = self._shared.get((address, work))
                if connection is None or connection.closed:
                    connection = self._shared[address, work] = await Connection.open(*address)
        return connection

    def opened(self, address: Address | None, work: str) -> Connection | None:
        """The connection for a kind of work, if it is open."""
        connection = self._shared.get((address, work)) if address else None
        return None if connection is None or connection.closed else connection

    @asynccontextmanager
    async def own(self, address: Address) -> AsyncIterator[Connection | None]:
        """A connection that nobody else uses meanwhile, or None if 200 are in use. Raises `NotConnected`."""
        idle, own = self._idle[address], self._own[address]
        if len(own) >= _OWN_CONNECTIONS:
            yield None
            return
        connection: Connection | None = None
        while connection is None or connection.closed:
            connection = idle.pop() if idle else await Connection.open(*address)
        own.add(connection)
        try:
            yield connection
        except BaseException:  # a cancelled wait too: its answer would still keep the connection busy
            connection.close()
            raise
        finally:
            own.discard(connection)
        if len(idle) < _IDLE_CONNECTIONS:
            idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        for connection in self._shared.values():
            connection.close()
        for connections in [*self._idle.values(), *self._own.values()]:
            for connection in connections:
                connection.close()
