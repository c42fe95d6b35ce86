"""Serve: the gateway on its public address, metrics and the policy bundle on the private one, in one process."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.app import create_admin_app, create_app, let_go
from gateway.barrier.protocol import WENT_BACK
from gateway.logs import set_up_logs
from gateway.remembered.standing import DatabaseWentBack
from gateway.settings import Settings
from gateway.streams.outbound import Outlet

log = structlog.get_logger(__name__)

SWITCH_S = 0.0005
MOST_HEAD = 64 * 1024
"""Bytes of a request line with its headers."""
HEAD_S = 20.0
"""Seconds in which the head of a request must be there, from its first byte on, or from the connection's beginning."""


class _Protocol(HttpToolsProtocol):
    """uvicorn's own, shown to the stream plane, which must know whether a socket takes more before it judges what to write, and what
    of that has left. Where uvicorn or the peer is about to close it, it closes gracefully if nothing judged is unacknowledged.
    """

    outlet: Outlet | None = None
    is_lost = False
    _head_bytes: int | None = 0
    """Bytes that have come since the last request's end, None once the head of the next is complete."""
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)

    def data_received(self, data: bytes) -> None:
        # The parser keeps what is incomplete without bound: neither a request line nor a header may go on for ever.
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            # A body may come in the same piece as its head, which is why a piece is fed as long as those before it were no more.
            if self._head_bytes - len(data) > MOST_HEAD:
                self.transport.abort()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._stop_head_timer()
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > MOST_HEAD:
            raise ValueError("the head of the request is too long")  # the parser answers 400 and closes
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head_bytes = 0

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._head_is_late)
        self.scope["extensions"] = {"exchange.protocol": {"protocol": self}}
        self._rest()

    def eof_received(self) -> None:
        self._rest()
        super().eof_received()

    def timeout_keep_alive_handler(self) -> None:
        self._rest()
        super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        self._rest()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_head_timer()
        self.is_lost = True
        if self.outlet is not None:
            self.outlet.close()

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._rest()
        self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _rest(self) -> None:
        if self.outlet is not None:
            self.outlet.rest()


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to `serve`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(settings: Settings, make_app: Callable[[Settings], FastAPI] = create_app) -> None:
    """Run until SIGINT or SIGTERM; then streams end with a cursor each. Raises `SystemExit` if it cannot start."""
    set_up_logs(settings)
    if sys.platform == "win32":
        asyncio.run(_serve(settings, make_app))
        return
    import uvloop

    uvloop.run(_serve(settings, make_app))


async def _serve(settings: Settings, make_app: Callable[[Settings], FastAPI]) -> None:
    app = make_app(settings)
    # Before the lease runs, which long work without a turn for other threads could cost this process.
    calm_the_collector()
    share_the_interpreter()
    # Not left to the server, which would print a traceback where the command line says what to do.
    try:
        async with app.router.lifespan_context(app):
            await _answer_until_told(app, settings)
    except DatabaseWentBack as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(WENT_BACK) from error


async def _answer_until_told(app: FastAPI, settings: Settings) -> None:
    public = _server(app, settings, settings.host, settings.port)
    private = _server(create_admin_app(app), settings, settings.admin_host, settings.admin_port)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    servers = [asyncio.create_task(server.serve(sockets=[_bind(server.config)])) for server in (private, public)]
    gc.freeze()
    waiting = asyncio.create_task(stopping.wait())
    await asyncio.wait([*servers, waiting], return_when=asyncio.FIRST_COMPLETED)
    let_go(app)
    for server in (public, private):
        server.should_exit = True
    await asyncio.gather(*servers)
    waiting.cancel()
    if not public.started:
        raise SystemExit(3)


def _server(app: object, settings: Settings, host: str, port: int) -> _Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            host=host,
            port=port,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(settings.stop_grace_s) + 1,
        ),
    )


def _bind(config: uvicorn.Config) -> socket.socket:
    try:
        bound = socket.create_server((config.host, config.port), backlog=1024)
    except OSError as error:
        mend = "Is another gateway running? Set EXCHANGE_PORT or EXCHANGE_ADMIN_PORT."
        raise SystemExit(f"Cannot listen on {config.host}:{config.port}: {error.strerror}. {mend}") from error
    bound.setblocking(False)
    return bound


def share_the_interpreter() -> None:
    """Let threads take turns often: a turn of the audit writer between two answers of the database waits for the event loop's to end."""
    sys.setswitchinterval(SWITCH_S)


def calm_the_collector() -> None:
    """What is made at start stays; a rarer collection takes the 40 ms tail of requests away."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
