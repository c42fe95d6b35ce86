"""What runs in the simulation: replicas with streams and calls, which carry out what the machines of the protocol say."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.barrier.protocol import (
    Arm,
    CatchUp,
    End,
    Fence,
    Holder,
    HolderAction,
    Join,
    Passed,
    Pending,
    Read,
    Renew,
    Row,
    Settle,
    Waiting,
    WaitingAction,
)
from tests.barrier.world import BOUND_S, LEASE_S, Database, Process, World

POLL_S = 0.25
PATIENCE_S = 0.5
"""After so long a settling aborts the connections that hold it back."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The machines, and the ways of the driver that a mutation breaks one at a time."""

    holder: type[Holder] = Holder
    waiting: type[Waiting] = Waiting
    steady_clock: bool = True
    timer: bool = True
    left_when_acknowledged: bool = True
    join_looks: bool = True


@dataclass(slots=True, eq=False)
class Batch:
    """Judged events: at which change, and what has become of them."""

    knew: int
    left: bool = False
    acknowledged: bool = False


@dataclass(slots=True, eq=False)
class Connection:
    """A subscriber's socket. The kernel sends in order, when the reader makes room, until the connection or the process ends."""

    pace: float
    """Seconds that its reader takes for a batch, at most."""
    sent: list[Batch] = field(default_factory=list)
    open: bool = True
    free_at: float = 0.0


class Stubborn(Holder):
    """A broken replica: it renews for ever and ends itself for nothing."""

    @property
    def next_tick(self) -> float:
        self._owed = None
        return super().next_tick


class Leaseholder(Process):
    """The half of a gateway that holds a lease and follows changes."""

    def __init__(self, world: World, database: Database, name: str, incarnation: int, rules: Rules, *, stubborn: bool = False) -> None:
        super().__init__(world)
        self.key = (name, str(incarnation))
        self.rules = rules
        self.database = database
        self.stubborn = stubborn
        self.holder = (Stubborn if stubborn else rules.holder)(LEASE_S)
        self.waiting = rules.waiting(BOUND_S)
        self.applied = 0
        self.serving = True
        self.connections: list[Connection] = []
        self._timer = 0
        self._deadline = math.inf
        self._writing = 0
        """Streams between their last question and their write, during which the event loop does nothing else."""
        self._reading = False
        self._calls = itertools.count()
        self._committed: dict[Hashable, tuple[int, float, float]] = {}
        self.step(self._load)

    # -- the lease --

    def _load(self) -> None:
        self.database.ask(self, lambda: self.database.changes + 1, self._loaded)

    def _loaded(self, changes: int | None) -> None:
        if changes is None:
            self.step(self._load, after=0.5)
            return
        self.applied = changes - 1
        self.step(self._ready, after=self.world.random.uniform(0.0, 1.0))

    def _ready(self) -> None:
        """Loading takes its time, and what was loaded is as old as its beginning."""
        self._obey(self.holder.loaded(self.applied))
        self.at_clock(self.clock() + POLL_S, self._follow)

    def _obey(self, actions: Iterable[HolderAction]) -> None:
        """Each action is a step of its own: the process may be stopped before it."""
        for action in actions:
            self.step(partial(self._carry_out, action))
        if self.holder.next_tick < math.inf:
            self.at_clock(self.holder.next_tick, self._tick)

    def _tick(self) -> None:
        if self.clock() >= self.holder.next_tick:
            self._obey(self.holder.tick(self.clock()))

    def _carry_out(self, action: HolderAction) -> None:
        match action:
            case Join(applied):
                self._join(applied)
            case CatchUp():
                self._apply(lambda: self._obey(self.holder.caught_up(self.applied)))
            case Renew(confirmed):
                self._renew(confirmed)
            case Settle(n):
                self._settle(n, self.clock())
            case Arm(deadline):
                self._arm(deadline)
            case End():
                self.world.observer.count["ended"] += 1
                self.kill()

    def _join(self, applied: int) -> None:
        sent = self.clock()
        row = Row(*self.key, 0, applied, LEASE_S)

        def join() -> bool:
            return self.database.join(row if self.rules.join_looks else replace(row, confirmed=self.database.changes))

        def answered(joined: bool | None) -> None:  # noqa: FBT001 - what the statement gave
            if joined is None:  # it may have joined: only a new incarnation can tell
                self.kill()
                return
            self.world.observer.count["joins" if joined else "joins_refused"] += 1
            self._obey(self.holder.join_answered(sent, self.clock(), joined=joined))

        self.step(lambda: self.database.ask(self, join, answered))

    def _renew(self, confirmed: int) -> None:
        sent = self.clock()

        def answered(committed: int | None) -> None:
            if committed is None:
                self._obey(self.holder.not_answered(self.clock()))
            elif committed == 0:
                self._obey(self.holder.refused())
            else:
                self._obey(self.holder.renewed(sent, confirmed, committed, self.clock()))

        self.step(lambda: self.database.ask(self, lambda: self.database.renew(self.key, confirmed), answered))

    def leave(self) -> None:
        """SIGTERM: abort what is open, give the lease back, exit. If the database does not answer, exit all the same."""
        for connection in self.connections:
            connection.open = False
        self.serving = False
        if self.holder.live:
            self.world.observer.count["leaves"] += 1
            self.step(lambda: self.database.ask(self, lambda: self.database.leave(self.key), lambda _: self.kill()))

    def _arm(self, deadline: float) -> None:
        first = self._deadline == math.inf
        self._deadline = deadline
        self._timer += 1
        armed = self._timer
        if self.rules.timer:
            # The kernel's timer asks nobody whether the process runs.
            self.world.at(self.instant(deadline), lambda: self._expire(armed))
        if first:
            for _ in range(2):
                self.connect()

    def _expire(self, armed: int) -> None:
        if self.alive and armed == self._timer:
            self.world.observer.count["kills"] += 1
            self.kill()

    def step_clock(self, seconds: float) -> None:
        if self.rules.steady_clock or not self.alive:
            return
        self._offset += seconds
        if self._deadline < math.inf:
            self._arm(self._deadline)

    # -- changes --

    def _follow(self) -> None:
        self._apply(lambda: None)
        self.at_clock(self.clock() + POLL_S, self._follow)

    def _apply(self, then: Callable[[], None]) -> None:
        def read(n: int | None) -> None:
            if n is not None and n - 1 > self.applied:
                self.applied = n - 1
                self._obey(self.holder.change_applied(self.applied, self.applied, self.clock()))
            then()

        self.database.ask(self, lambda: self.database.changes + 1, read)

    @abstractmethod
    def connect(self) -> None:
        """Open a stream to a reader."""

    @abstractmethod
    def _settle(self, n: int, began: float) -> None:
        """Let all that was judged before change `n` leave, or never leave; then tell the holder."""


class Replica(Leaseholder):
    """A gateway: what a leaseholder is, with streams, and calls that forbid."""

    # -- streams --

    def connect(self) -> None:
        world = self.world
        slow, stalled = world.happens(world.faults.slow_reader), world.happens(world.faults.stalled_reader)
        connection = Connection(10.0 if stalled else 1.0 if slow else 0.003)
        self.connections.append(connection)
        self._judge(connection)

    def _judge(self, connection: Connection) -> None:
        if not self.serving:
            return
        if not connection.open:
            self.step(self.connect, after=0.3)
            return
        batch = Batch(self.applied)

        def released(may: bool | None) -> None:  # noqa: FBT001 - what the statement gave
            if may is None:
                self.step(lambda: self._judge(connection), after=0.25)
            elif may:
                self._ask_last(connection, batch)

        self.step(lambda: self.database.ask(self, lambda: self.database.may_release(self.key), released))

    def _ask_last(self, connection: Connection, batch: Batch) -> None:
        """Does it still hold? Then it is written next, and the event loop does nothing between; other threads do."""
        if batch.knew != self.applied or not connection.open or not self.serving:
            self._judge(connection)
            return
        self._writing += 1
        self.step(lambda: self._write(connection, batch))

    def _write(self, connection: Connection, batch: Batch) -> None:
        self._writing -= 1
        world, dice = self.world, self.world.random
        if connection.open:
            connection.sent.append(batch)
            connection.free_at = max(connection.free_at, world.time) + connection.pace * dice.uniform(0.1, 1.0)
            world.at(connection.free_at, lambda: self._leave(connection, batch))
        self.step(lambda: self._judge(connection), after=dice.uniform(0.05, 0.6))

    def _leave(self, connection: Connection, batch: Batch) -> None:
        """The kernel sends it, while the process may be stopped; not once the connection or the process has ended."""
        if not connection.open or not self.alive:
            return
        batch.left = True
        self.world.observer.left(self.world.time, batch.knew, "/".join(self.key))
        self.world.at(self.world.time + self.world.random.uniform(0.0002, 0.02), lambda: setattr(batch, "acknowledged", True))

    def _settle(self, n: int, began: float) -> None:
        """Poll what was judged before `n` until it was acknowledged; after a while abort what has not been."""
        if self.stubborn:
            return
        if self._writing:
            self.step(lambda: self._settle(n, began))
            return
        if not self.rules.left_when_acknowledged:
            self._obey(self.holder.settled(self.clock()))
            return
        back = [c for c in self.connections if c.open and any(b.knew < n and not b.acknowledged for b in c.sent)]
        if back and self.clock() < began + PATIENCE_S:
            self.step(lambda: self._settle(n, began), after=0.01)
            return
        for connection in back:
            connection.open = False
            self.world.observer.count["aborts"] += 1
        self._obey(self.holder.settled(self.clock()))

    # -- calls --

    def forbid(self) -> None:
        """A call: commit a change, and return when the barrier has passed or the bound is reached."""

        def committed(n: int | None) -> None:
            if n is None:
                return  # the call fails: it has promised nothing
            call = next(self._calls)
            self._committed[call] = (n, self.clock(), self.stopped_for)
            self._wait(self.waiting.committed(call, n, self.clock()))
            self._apply(lambda: None)

        self.step(lambda: self.database.ask(self, self.database.commit_change, committed))

    def _wait(self, actions: Iterable[WaitingAction]) -> None:
        for action in actions:
            match action:
                case Read(at):
                    self.at_clock(at, self._read)
                case Fence(row):
                    self.step(partial(self._fence, row))
                case Passed(call, _):
                    self.step(partial(self._return, call, passed=True))
                case Pending(call):
                    self.step(partial(self._return, call, passed=False))
        if self.waiting.next_tick < math.inf:
            self.at_clock(self.waiting.next_tick, lambda: self._wait(self.waiting.tick(self.clock())))

    def _read(self) -> None:
        """One read at a time, as one thread reads for all calls of a process."""
        if self._reading or not self.waiting.busy:
            return
        self._reading = True
        asked = self.clock()

        def answered(rows: list[Row] | None) -> None:
            self._reading = False
            at = self.clock()
            self._wait(self.waiting.not_read(at) if rows is None else self.waiting.leases_read(rows, asked, at))

        self.step(lambda: self.database.ask(self, self.database.standing, answered))

    def _fence(self, row: Row) -> None:
        self.database.ask(self, lambda: self.database.fence(row), lambda _: None)

    def _return(self, call: Hashable, *, passed: bool) -> None:
        n, since, stopped_before = self._committed.pop(call)
        stopped = (self.stopped_for - stopped_before) * self._rate
        self.world.observer.call_returned(self.world.time, n, self.clock() - since, stopped, passed=passed)
