"""A gateway whose parts a test can ask, a dataset with a backlog, and subscribers that read when they are told to: real sockets."""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import uvloop
from fastapi import FastAPI

from gateway.app import create_app
from gateway.serve import _bind, _server
from gateway.streams.live import Streams
from gateway.streams.outbound import Outbound
from tests.dpop import Presenter, bound_token
from tests.e2e.district import FOOTFALL, District, visit
from tests.engines import Engines
from tests.gateway import READER, Gateway

VISITORS = ("ada", "bob", "cyd", "dan")
BACKLOG = 220
"""Events of each visitor that are there before a test begins: a page, and more than half a megabyte, far more than sockets hold."""
ZONE = "-".join(["lakeshore"] * 60)
SUBSCRIBERS = 100

Result = TypeVar("Result")


class Watched:
    """What is under way in a gateway, where the seconds that each settling took are kept."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self.took: list[float] = []

    async def settle(self, n: int) -> None:
        began = time.monotonic()
        await self._outbound.settle(n)
        self.took.append(time.monotonic() - began)

    def abort_all(self) -> None:
        self._outbound.abort_all()


class Here:
    """A gateway in a thread of this process, on the loop that it runs on in production, so that a test can ask its parts."""

    def __init__(self, folder: Path) -> None:
        self.outside = Gateway(Engines(folder / "engines"), folder / "gateway")
        settings = self.outside.settings().model_copy(update={"streams_per_contract": 2 * SUBSCRIBERS})
        self.app: FastAPI = create_app(settings)
        self._watched = self.app.state.replica._outbound = Watched(self.app.state.streams.outbound)
        self._server = _server(self.app, settings, settings.host, settings.port)
        self._server.config.lifespan = "on"
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    @property
    def streams(self) -> Streams:
        streams: Streams = self.app.state.streams
        return streams

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started or not self.outside.is_ready(policy=True):
            assert self._thread.is_alive()
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self.outside.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._server.serve(sockets=[_bind(self._server.config)]))
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def unsent(self) -> list[int]:
        """Bytes that peers have not acknowledged, of each connection that has any."""

        async def look() -> list[int]:
            return [waiting for outlet in self.streams.outbound._outlets if (waiting := outlet.unacknowledged())]

        return self.run(look())

    @property
    def settled_in(self) -> float:
        """Seconds that the last settling took: a call that forbids something waits for it."""
        return self._watched.took[-1]

    @contextmanager
    def applied(self, forbidding: Callable[[], object]) -> Iterator[None]:
        """Within: what this call forbids is applied, and the call waits for what was judged before."""
        before = self.streams.changes.applied
        call = threading.Thread(target=forbidding)
        call.start()
        while self.streams.changes.applied == before:
            time.sleep(0.001)
        yield
        call.join()


@dataclass
class Street:
    """A dataset with a backlog about four visitors, and a consumer of it."""

    gateway: Gateway
    contract: str = ""
    consents: dict[str, str] = field(default_factory=dict)
    last: str = ""
    """The visitor whose events are the last of a page: pages go through partitions in their order."""

    def __post_init__(self) -> None:
        self.district = District(self.gateway)
        self.consumer = self.gateway.partner("Reader", scopes=READER)
        ends: list[tuple[int, int, str]] = []
        for visitor in VISITORS:
            self.consents[visitor] = self.district.consent(visitor)
            [done] = self.publish(visitor, BACKLOG)
            ends += [(position["partition"], len(ends), visitor) for position in done.positions]
        self.last = max(ends)[2]
        self.contract = self.district.contract(self.consumer)
        self.path = f"/v1/contracts/{self.contract}/events"

    def publish(self, visitor: str, number: int) -> Any:
        return self.district.provider.publish(FOOTFALL, [visit(visitor, index, zone=ZONE) for index in range(number)], batch=BACKLOG)

    def withdraw(self, visitor: str) -> None:
        self.district.provider.post(f"/v1/consents/{self.consents.pop(visitor)}/withdraw")

    def change(self) -> None:
        """A change that forbids, and nothing that anybody reads here."""
        self.change_to_come()()

    def change_to_come(self) -> Callable[[], object]:
        """A call that does nothing but such a change."""
        return partial(self.district.provider.post, f"/v1/consents/{self.district.consent('somebody')}/withdraw")

    def events(self) -> int:
        """How many a reader from the start gets."""
        return sum(len(page.events) for page in self.consumer.pull(self.contract))

    def token(self) -> str:
        return str(bound_token(self.consumer, self.contract)["token"])


class Reader:
    """A subscriber's socket, which reads only when it is told to."""

    def __init__(self, street: Street, accept: str, *, cursor: str = "earliest", header: str = "X: y", buffer: int = 16 * 1024) -> None:
        self._presenter, self._path = Presenter(bound_token(street.consumer, street.contract)), street.path
        self._request = f"GET {street.path}?cursor={cursor}&limit_bytes=16777216 HTTP/1.1\r\nHost: city\r\nAccept: {accept}\r\n{header}\r\n"
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", street.gateway.port))
        self.ask()

    def ask(self) -> None:
        self.socket.sendall(f"{self._request}{self._presenter.lines('GET', self._path)}\r\n".encode())

    def close(self) -> None:
        self.socket.close()

    def arrived(self) -> int:
        """Bytes that this end's kernel has acknowledged and that were not read (`FIONREAD`)."""
        return int(struct.unpack("i", fcntl.ioctl(self.socket.fileno(), termios.FIONREAD, bytes(4)))[0])

    def stall(self) -> None:
        """Read nothing until nothing more arrives."""
        before = -1
        while before < (before := self.arrived()) or not before:
            time.sleep(0.1)

    def to_the_end(self) -> tuple[bytes, bool]:
        """All that comes until the other end closes, and whether it closed as sockets do."""
        got = b""
        with suppress(ConnectionResetError):
            while some := self.socket.recv(65536):
                got += some
            return got, True
        return got, False

    def page(self) -> list[dict[str, Any]]:
        """The events of one whole answer with a length."""
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.socket.recv(65536)
        head, _, body = got.partition(b"\r\n\r\n")
        [length] = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        while len(body) < length:
            some = self.socket.recv(65536)
            assert some, f"cut after {len(body)} of {length} bytes"
            body += some
        found: list[dict[str, Any]] = json.loads(body)
        return found

    def until(self, events: int, *, pause: float = 0.0) -> None:
        """Read a stream until it has had so many events."""
        got = b""
        while got.count(b'"specversion"') < events:
            some = self.socket.recv(8192)
            assert some, f"cut after {len(got)} bytes"
            got += some
            time.sleep(pause)
