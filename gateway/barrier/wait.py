"""Waiting at the barrier: `protocol.Waiting` driven by the real clock. One thread reads the leases for all calls of this process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter, Histogram
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.audit.record import Entry
from gateway.barrier.leases import Leases
from gateway.barrier.places import Places
from gateway.barrier.protocol import Fence, Passed, Pending, Read, Row, Waiting, WaitingAction
from gateway.errors import ExchangeError

log = structlog.get_logger(__name__)

BOUND_S = 10.0
"""The longest that a call waits."""
KEPT_PASSES = 10_000
KIND = "barrier_passed"

seconds = Histogram(
    "exchange_barrier_seconds",
    "Seconds from a forbidding change's commit until nothing that it forbids could leave any replica.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
pending = Counter("exchange_barrier_pending_total", "Calls that returned before the barrier had passed, because their bound was reached.")
fences = Counter("exchange_fences_total", "Leases of other replicas, or of earlier starts, that this one has fenced.")


@dataclass(frozen=True, slots=True)
class Pass:
    """A barrier that has passed: `replicas` were live and have confirmed `change`, `waited_ms` after its commit."""

    change: int
    replicas: int
    waited_ms: int


@dataclass(slots=True, eq=False)
class _Call:
    change: int
    began: float
    over: threading.Event = field(default_factory=threading.Event)
    passed: Pass | None = None


class Barrier:
    """`wait(change)` from worker threads. `note_down` appends an audit entry durably; `on_fenced` is told of each fence."""

    def __init__(
        self, leases: Leases, note_down: Callable[[Entry], object], *, by: str, on_fenced: Callable[[], None] = lambda: None
    ) -> None:
        self._leases = leases
        self._note_down = note_down
        self._by = by
        self._on_fenced = on_fenced
        self.places = Places()
        """Started by whoever has the event loop that calls come from."""
        self._waiting = Waiting(BOUND_S)
        self._passes: OrderedDict[int, Pass] = OrderedDict()
        self._something = threading.Condition()
        self._open = True
        self._read_at = 0.0
        self._fences: list[Row] = []
        self._thread = threading.Thread(target=self._run, name="barrier", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._something:
            self._open = False
            self._something.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=BOUND_S)

    def wait_for_last(self, forbids: int) -> None:
        """After the commit of a transaction whose last forbidding change is `forbids`, 0 if none is. Raises as `wait`."""
        if forbids:
            self.wait(forbids)

    def wait(self, change: int) -> Pass:
        """Return once nothing that this committed change forbids can leave any replica, and an audit entry says so.

        Raises `barrier_pending` after `BOUND_S`; calling again waits on. Raises `audit_unavailable` if the entry cannot be written.
        """
        with self._something:
            known = self._passes.get(change)
            if known is not None:
                return known
            call = _Call(change, time.monotonic())
            self._obey(self._waiting.committed(call, change, call.began))
            self._something.notify()
        with self.places.lent():
            over = call.over.wait(BOUND_S)
        if not over:  # the thread may hang on a database that says nothing
            with self._something:
                self._obey(self._waiting.tick(max(time.monotonic(), call.began + BOUND_S)))
        if call.passed is None:
            waited = {"change": change, "waited_ms": _since(call.began)}
            raise ExchangeError("barrier_pending", headers={"Retry-After": "2"}, barrier=waited)
        self._keep(call.passed)
        return call.passed

    def _keep(self, passed: Pass) -> None:
        seconds.observe(passed.waited_ms / 1000)
        detail = {"replicas": str(passed.replicas), "waited_ms": str(passed.waited_ms)}
        self._note_down(Entry(kind=KIND, action="confirm", change=passed.change, detail=detail))
        with self._something:
            self._passes[passed.change] = passed
            if len(self._passes) > KEPT_PASSES:
                self._passes.popitem(last=False)

    def _run(self) -> None:
        while self._next_read():
            asked = time.monotonic()
            try:
                rows = self._leases.standing()
            except (DBAPIError, PoolTimeout) as error:
                log.warning("leases_not_read", error=type(error).__name__)
                with self._something:
                    self._obey(self._waiting.not_read(time.monotonic()))
                continue
            with self._something:
                self._obey(self._waiting.leases_read(rows, asked, time.monotonic()))
                dead, self._fences = self._fences, []
            for row in dead:
                self._fence(row)

    def _next_read(self) -> bool:
        """Wait until leases are to be read; False once this is stopped."""
        with self._something:
            while self._open:
                pause = self._read_at - time.monotonic()
                if self._waiting.busy and pause <= 0:
                    return True
                self._something.wait(pause if self._waiting.busy else None)
        return False

    def _obey(self, actions: Iterable[WaitingAction]) -> None:
        for action in actions:
            match action:
                case Read(at):
                    self._read_at = at
                case Fence(row):
                    self._fences.append(row)
                case Passed(_Call() as call, replicas):
                    call.passed = Pass(call.change, replicas, _since(call.began))
                    call.over.set()
                case Pending(_Call() as call):
                    pending.inc()
                    call.over.set()

    def _fence(self, row: Row) -> None:
        try:
            done = self._leases.fence(row, self._by)
        except (DBAPIError, PoolTimeout) as error:
            log.warning("not_fenced", replica=row.id, error=type(error).__name__)
            return
        if done:
            fences.inc()
            log.warning("fenced", replica=row.id, incarnation=row.incarnation, beat=row.beat, confirmed=row.confirmed)
            self._on_fenced()


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
