"""The replica of this process: `protocol.Holder` driven by the real clock, in a thread of its own that no event loop can hold up."""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import time
from collections import deque
from collections.abc import Callable
from threading import Event, Thread
from typing import Protocol

import anyio.to_thread
import structlog
from prometheus_client import Gauge
from sqlalchemy import Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.barrier.leases import LeaseLost, Leases, Seat, held_by
from gateway.barrier.protocol import ENDED_ITSELF, Arm, CatchUp, End, Holder, HolderAction, Join, Renew, Settle
from gateway.barrier.timer import DeathTimer
from gateway.changes import Changes

log = structlog.get_logger(__name__)

LAST_WORDS_S = 0.05
AGAIN_S = 0.25
JOINS_MOST = 100

age = Gauge("exchange_lease_age_seconds", "Seconds since the last renewal of this replica's lease was sent that the database answered.")
lag = Gauge("exchange_confirmed_lag", "Changes that this replica has applied and not confirmed yet.")


class Outbound(Protocol):
    """What has been judged and has not left yet. Called on the event loop.

    What was handed to a socket has left when the peer's TCP has acknowledged it. A socket with anything judged and unacknowledged has
    `SO_LINGER` 0, closed or not: what the kernel of a dead process still holds must not leave.
    """

    async def settle(self, n: int) -> None:
        """Return once all that was judged before change `n` has left, was judged again, or never will leave."""

    def abort_all(self) -> None:
        """Close every connection with something judged on it, and drop what is unacknowledged."""


class Replica:
    """`start` joins; from then on everybody who forbids something waits for this process, until `stop` or its end."""

    def __init__(self, leases: Leases, seat: Seat, changes: Changes, outbound: Outbound) -> None:
        self.seat = seat
        self._lease = held_by(seat)
        self._leases = leases
        self._changes = changes
        self._outbound = outbound
        self._holder = Holder(leases.lease)
        self._events: queue.SimpleQueue[Callable[[], list[HolderAction]]] = queue.SimpleQueue()
        self._timer = DeathTimer()
        self._joined = False
        self._stopping = False
        self._left = Event()
        self._sent = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=self._run, name="lease", daemon=True)

    async def start(self) -> None:
        """Join. `Changes` have started; nobody is served before this returns. Raises `LeaseLost`, SQLAlchemy's `DBAPIError`."""
        self._loop = asyncio.get_running_loop()
        self._changes.follow(self._tell)
        await anyio.to_thread.run_sync(self._join)
        self._thread.start()
        age.set_function(lambda: time.monotonic() - self._sent)
        lag.set_function(lambda: self._changes.applied - self._holder.confirmed)
        log.info("joined", replica=self.seat.id, incarnation=self.seat.incarnation, change=self._holder.applied)

    def stop(self) -> None:
        """Abort what is open and give the lease back; from a worker thread, while the event loop runs."""
        if self._thread.is_alive():
            self._events.put(self._leave)
            self._left.wait(10)

    def lease(self) -> Select[int]:
        """A query that finds the lease, and holds it until its transaction ends: fencing waits for it. Raises `LeaseLost`."""
        if not self._joined:
            raise LeaseLost
        return self._lease

    def _join(self) -> None:
        # What renews has its connection before the lease runs: making one may take a busy machine longer than that.
        self._leases.standing()
        actions = deque(self._holder.loaded(self._changes.applied))
        for _ in range(JOINS_MOST):
            if self._joined:
                for action in actions:
                    self._events.put(lambda action=action: [action])  # type: ignore[misc] # mypy knows no lambda with a default
                return
            self._obey(actions)
        raise LeaseLost("others change so much that this replica cannot catch up")

    def _tell(self, n: int, forbids: int) -> None:
        """Changes up to `n` are applied here; called by whoever applied them."""
        self._events.put(lambda: self._holder.change_applied(n, forbids, time.monotonic()))

    def _run(self) -> None:
        while not self._left.is_set():
            try:
                event = self._events.get(timeout=self._pause())
            except queue.Empty:
                event = self._tick
            actions = deque(event())
            while actions:
                self._obey(actions)

    def _pause(self) -> float | None:
        until = self._holder.next_tick - time.monotonic()
        return None if until == float("inf") else max(0.0, until)

    def _tick(self) -> list[HolderAction]:
        return self._holder.tick(time.monotonic())

    def _obey(self, actions: deque[HolderAction]) -> None:
        """Carry out the first action, and put what follows from it before the others."""
        match actions.popleft():
            case Join(applied):
                actions.extendleft(reversed(self._try_to_join(applied)))
            case CatchUp():
                actions.extendleft(reversed(self._holder.caught_up(self._changes.apply())))
            case Renew(confirmed):
                actions.extendleft(reversed(self._renew(confirmed)))
            case Settle(n):
                self._settle(n)
            case Arm(deadline):
                self._timer.arm(deadline)
                self._joined = True
            case End(reason):
                self._end(reason)

    def _try_to_join(self, applied: int) -> list[HolderAction]:
        self._sent = time.monotonic()
        joined = self._leases.join(self.seat, applied)
        return self._holder.join_answered(self._sent, time.monotonic(), joined=joined)

    def _renew(self, confirmed: int) -> list[HolderAction]:
        sent = time.monotonic()
        try:
            committed = self._leases.renew(self.seat, confirmed)
        except (DBAPIError, PoolTimeout) as error:
            log.warning("lease_not_renewed", error=type(error).__name__)
            return self._holder.not_answered(time.monotonic())
        if committed is None:
            return self._holder.refused()
        self._sent = sent
        return self._holder.renewed(sent, confirmed, committed, time.monotonic())

    def _settle(self, n: int) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._until_settled(n), self._loop)

    async def _until_settled(self, n: int) -> None:
        while True:
            try:
                await self._outbound.settle(n)
            except Exception:
                # Not confirmed is what is safe; if it lasts, the holder ends the process.
                log.exception("not_settled", change=n)
                await asyncio.sleep(AGAIN_S)
            else:
                self._events.put(lambda: self._holder.settled(time.monotonic()))
                return

    def _abort_all(self) -> None:
        """On the event loop; what it closes is closed at the loop's next turn."""
        assert self._loop is not None
        done = Event()

        def abort() -> None:
            self._outbound.abort_all()
            assert self._loop is not None
            self._loop.call_later(LAST_WORDS_S / 2, done.set)

        self._loop.call_soon_threadsafe(abort)
        done.wait(LAST_WORDS_S if not self._stopping else 5)

    def _leave(self) -> list[HolderAction]:
        self._stopping = True
        self._abort_all()
        try:
            self._leases.leave(self.seat)
        except (DBAPIError, PoolTimeout) as error:
            log.warning("lease_not_given_back", error=type(error).__name__)
        self._joined = False
        self._timer.disarm()
        self._left.set()
        return []

    def _end(self, reason: str) -> None:
        """This process must let nothing out any more; the kernel's timer is behind it, should it be slow."""
        log.error("replica_ends", reason=reason, replica=self.seat.id, incarnation=self.seat.incarnation)
        self._abort_all()
        sys.stderr.flush()
        os._exit(ENDED_ITSELF)
