"""The world of the simulation: virtual time, processes with clocks of their own, a database, and the observer at the sockets."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.barrier.protocol import Row

COUNTED = (
    "left",
    "passed",
    "pending",
    "fences",
    "stops",
    "outages",
    "partitions",
    "kills",
    "ended",
    "joins",
    "joins_refused",
    "leaves",
    "aborts",
    "crashes",
)
LEASE_S = 2.0
BOUND_S = 10.0
SLACK_S = 0.25
"""A step may take 0.1 s, and so may the next."""


class World:
    """Events in the order of their virtual instants. `time` is nobody's clock: only the observer and the network read it."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.time = 0.0
        self.observer = Observer()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (max(time, self.time), next(self._order), act))

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.time, _, act = heapq.heappop(self._queue)
            act()

    def happens(self, chance: float) -> bool:
        return self.random.random() < chance


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong in a schedule, as chances or rates; each seed draws its own."""

    drift: float = 0.1
    """How much faster or slower than the world a clock may run."""
    pause: float = 0.0
    """The chance that the whole process is stopped before its next step."""
    crash: float = 0.0
    """Crashes a second, of each process."""
    slow_statement: float = 0.0
    cut: float = 0.0
    """The chance that a statement's connection breaks: it may have been carried out."""
    outages: int = 0
    trouble: float = 1.0
    """The chance that around a call another replica crashes, is stopped, is started anew, or loses the database."""
    troubles: tuple[str, ...] = ("crash", "restart", "stop", "cut_off", "degrade")
    late: tuple[float, float] = (0.3, 1.0)
    """Seconds, from and to, by which answers are late on a way that is degraded."""
    slow_reader: float = 0.0
    stalled_reader: float = 0.0
    stubborn: bool = False
    """One replica renews and never settles anything."""

    @classmethod
    def drawn(cls, dice: random.Random) -> Faults:
        def sometimes(most: float) -> float:
            return dice.uniform(0, most) if dice.random() < 0.6 else 0.0

        return cls(
            drift=sometimes(0.1),
            pause=sometimes(0.004),
            crash=sometimes(0.02),
            slow_statement=sometimes(0.08),
            cut=sometimes(0.02),
            outages=dice.choice((0, 0, 0, 1)),
            trouble=dice.choice((0.0, 0.5, 1.0, 1.0)),
            slow_reader=sometimes(0.5),
            stalled_reader=sometimes(0.3),
            stubborn=dice.random() < 0.1,
        )


class Process:
    """What runs on one machine: it steps when it is neither stopped nor dead, and reads a clock that drifts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = True
        self.cut_off_until = 0.0
        """Until when nothing that this process sends reaches the database."""
        self.answers_late = 0.0
        """Seconds by which the network delays what the database answers this process."""
        self.stopped_for = 0.0
        self._stopped_until = 0.0
        drift = world.faults.drift
        self._rate = 1 + world.random.uniform(-drift, drift)
        self._offset = world.random.uniform(0, 1e6)

    def clock(self) -> float:
        """This process's own seconds."""
        return self._offset + self._rate * self.world.time

    def instant(self, clock: float) -> float:
        """The world's time at which this process's clock shows `clock`."""
        return (clock - self._offset) / self._rate

    def step_clock(self, seconds: float) -> None:
        """Somebody sets the clock. A monotonic one does not care."""

    def step(self, act: Callable[[], None], after: float = 0.0) -> None:
        """Do this next, a moment from now; between any two steps the process may be stopped, and it may be over."""
        dice = self.world.random
        delay = after + (dice.uniform(0.0001, 0.002) if dice.random() > 0.02 else dice.uniform(0, 0.1))
        self.world.at(self.world.time + delay, lambda: self._go(act))

    def at_clock(self, clock: float, act: Callable[[], None]) -> None:
        self.world.at(self.instant(clock), lambda: self._go(act))

    def stop_for(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        until = self.world.time + seconds
        self.stopped_for += max(0.0, until - max(self._stopped_until, self.world.time))
        self._stopped_until = max(self._stopped_until, until)
        self.world.observer.count["stops"] += 1

    def kill(self) -> None:
        """SIGKILL, which also ends a process that is stopped."""
        self.alive = False

    def _go(self, act: Callable[[], None]) -> None:
        if not self.alive:
            return
        if self.world.time >= self._stopped_until and self.world.happens(self.world.faults.pause):
            self.stop_for(self.world.random.choice((0.05, 0.5, 1.0, 2.0, 4.0)) * self.world.random.uniform(0.5, 1.5))
        if self.world.time < self._stopped_until:
            self.world.at(self._stopped_until, lambda: self._go(act))
            return
        act()


Answer = Callable[[Any], None]
"""Called with what a statement gave; None: it failed, and may have been carried out."""


class Database:
    """One primary that keeps what it acknowledged. It can be away, as in a failover; statements can be slow, and connections break."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.changes = 0
        self.leases: dict[tuple[str, str], Row] = {}
        self.fenced: set[tuple[str, str]] = set()
        self._away_until = 0.0

    def away_for(self, seconds: float) -> None:
        self._away_until = max(self._away_until, self._world.time + seconds)
        self._world.observer.count["outages"] += 1

    def ask(self, process: Process, statement: Callable[[], Any], answer: Answer) -> None:
        """Send a statement now. It is carried out at one instant, later; the answer is a step of the process, later still."""
        world, dice = self._world, self._world.random
        there = dice.uniform(0.0002, 0.002)
        if world.happens(world.faults.slow_statement):
            there = dice.uniform(0.05, 3.0)
        back = dice.uniform(0.0002, 0.002) if not world.happens(world.faults.slow_statement) else dice.uniform(0.05, 2.0)

        def carry_out() -> None:
            if max(self._away_until, process.cut_off_until) > world.time or (world.happens(world.faults.cut) and world.happens(0.5)):
                process.step(lambda: answer(None), after=dice.uniform(0.001, 0.5))
                return
            result = statement()
            if world.happens(world.faults.cut):
                process.step(lambda: answer(None), after=dice.uniform(0.001, 0.5))
                return
            # An answer that is under way when the primary goes is lost with its connection.
            process.step(lambda: answer(None if world.time < self._away_until else result), after=back + process.answers_late)

        world.at(world.time + there, carry_out)

    def join(self, row: Row) -> bool:
        if self.changes != row.confirmed:
            return False
        self.leases[row.id, row.incarnation] = row
        return True

    def renew(self, key: tuple[str, str], confirmed: int) -> int:
        """The counter of changes; 0 if there is no such lease that is not fenced."""
        if key in self.fenced or key not in self.leases:
            return 0
        row = self.leases[key]
        self.leases[key] = replace(row, beat=row.beat + 1, confirmed=confirmed)
        return max(1, self.changes)

    def fence(self, row: Row) -> bool:
        key = (row.id, row.incarnation)
        if key in self.fenced or key not in self.leases or self.leases[key].beat != row.beat:
            return False
        self.fenced.add(key)
        self._world.observer.count["fences"] += 1
        return True

    def standing(self) -> list[Row]:
        return [row for key, row in self.leases.items() if key not in self.fenced]

    def leave(self, key: tuple[str, str]) -> bool:
        return self.leases.pop(key, None) is not None

    def may_release(self, key: tuple[str, str]) -> bool:
        return key in self.leases and key not in self.fenced

    def commit_change(self) -> int:
        self.changes += 1
        return self.changes


@dataclass(slots=True)
class Observer:
    """Stands at the sockets and at the callers, with the world's time, and holds the two invariants against what it sees."""

    returned: list[tuple[float, int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    count: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    longest: float = 0.0

    def left(self, time: float, knew: int, where: str) -> None:
        """Something that was judged when the replica had applied `knew` has left it."""
        self.count["left"] += 1
        for since, n in self.returned:
            if knew < n and time > since:
                self.broken.append(
                    f"forbidden: judged at change {knew}, left {where} {time - since:.4f} s after the call for {n} had returned"
                )

    def call_returned(self, time: float, n: int, waited: float, stopped: float, *, passed: bool) -> None:
        """`waited` and `stopped` are by the caller's own clock, from the answer to its commit."""
        self.count["passed" if passed else "pending"] += 1
        self.longest = max(self.longest, waited - stopped)
        if waited - stopped > BOUND_S + SLACK_S:
            self.broken.append(f"late: the call for {n} waited {waited:.3f} s, of which it was stopped {stopped:.3f} s")
        if passed:
            self.returned.append((time, n))
