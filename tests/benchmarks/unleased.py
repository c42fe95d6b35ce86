"""`python -m tests.benchmarks.unleased`: `exchange serve` of a gateway that stands at no barrier, for the ratio that says what that costs.

It holds no lease: nothing is renewed, no timer is armed, no transaction of releases asks for it. Its sockets are as they come, and
nobody keeps account of what has left them. What it forbids it forbids without waiting. Never to be run for anything else.
"""

from __future__ import annotations

import asyncio

from fastapi import FastAPI

from gateway.app import create_app
from gateway.serve import serve
from gateway.settings import Settings
from gateway.streams.outbound import Connection, Outbound, Outlet


class _NoReplica:
    """In the place of `gateway.barrier.replica.Replica`."""

    async def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def lease(self) -> None:
        """Nothing guards a transaction."""


class _PlainOutlet(Outlet):
    """A connection of which nothing is known but whether it is lost."""

    def __init__(self, connection: Connection) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = connection.transport
        self._socket = self._transport.get_extra_info("socket")
        self._forget = lambda _outlet: None
        self._drops_at_close = False
        if connection.is_lost:
            self.lost.set_result(None)

    def judged(self, size: int, stamp: int) -> None:
        pass

    def unjudged(self, size: int) -> None:
        pass


class _PlainOutbound(Outbound):
    """Outlets that no barrier asks."""

    def outlet(self, connection: Connection) -> Outlet:
        if connection.outlet is None:
            connection.outlet = _PlainOutlet(connection)
        return connection.outlet


def create_app_without_lease(settings: Settings) -> FastAPI:
    """The gateway's application, save for what the barrier puts in the way of events."""
    app = create_app(settings)
    state = app.state
    state.replica = _NoReplica()
    state.streams.outbound = _PlainOutbound(state.changes, state.streams.stamp, state.audit.bar)
    return app


if __name__ == "__main__":
    serve(Settings(), create_app_without_lease)
