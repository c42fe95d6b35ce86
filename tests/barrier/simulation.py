"""One schedule from one seed: `run(4711)` is the same every time.

`python -m tests.barrier.simulation 0 20000` runs many and says what they met.
"""

from __future__ import annotations

import random
import sys
from collections import Counter

from tests.barrier.nodes import Replica, Rules
from tests.barrier.world import Database, Faults, Observer, World

REPLICAS = 3
CALLS_UNTIL_S = 8.0
LASTS_S = 20.0
"""Longer than the last call's bound."""


def run(seed: int, rules: Rules | None = None, faults: Faults | None = None) -> Observer:
    """Three replicas, their streams, and a few calls, under the faults that the seed draws or those given."""
    dice = random.Random(seed)
    world = World(seed, faults or Faults.drawn(dice))
    database = Database(world)
    seats = [Seat(world, database, f"r{n}", rules or Rules(), stubborn=world.faults.stubborn and n == 0) for n in range(REPLICAS)]
    for _ in range(dice.randint(2, 5)):
        _call(world, seats, dice, dice.uniform(2.0, CALLS_UNTIL_S))
    for _ in range(world.faults.outages):
        world.at(dice.uniform(1.0, CALLS_UNTIL_S), lambda: database.away_for(dice.uniform(0.1, 5.0)))
    for _ in range(4):
        world.at(dice.uniform(1.0, CALLS_UNTIL_S), lambda: dice.choice(seats).step_clock(dice.uniform(-5.0, 5.0)))
    world.run(LASTS_S)
    return world.observer


def _call(world: World, seats: list[Seat], dice: random.Random, when: float) -> None:
    """A call, sometimes two at once on one replica or on two; and around it something happens to another replica."""
    *callers, victim = dice.sample(seats, REPLICAS)
    for caller in dice.choice((callers[:1], callers[:1], callers, callers[:1] * 2)):
        world.at(when, caller.forbid)
    if world.happens(world.faults.trouble):
        befalls = getattr(victim, dice.choice(world.faults.troubles))
        world.at(when + dice.uniform(-3.5, 0.3), befalls)
        if befalls == victim.degrade:  # the way to the database becomes slow, and then breaks
            world.at(when + dice.uniform(-0.3, 0.5), victim.cut_off)


class Seat:
    """A place for a replica, in which a supervisor starts the next when one has ended."""

    def __init__(self, world: World, database: Database, name: str, rules: Rules, *, stubborn: bool) -> None:
        self._world, self._database, self._name, self._rules, self._stubborn = world, database, name, rules, stubborn
        self._incarnation = 0
        self._start()

    def forbid(self) -> None:
        if self._replica.alive:
            self._replica.forbid()

    def crash(self) -> None:
        self._world.observer.count["crashes"] += 1
        self._replica.kill()

    def restart(self) -> None:
        self._replica.leave()

    def stop(self) -> None:
        self._replica.stop_for(self._world.random.uniform(0.1, 6.0))

    def cut_off(self) -> None:
        self._replica.cut_off_until = self._world.time + self._world.random.uniform(0.5, 5.0)
        self._world.observer.count["partitions"] += 1

    def degrade(self) -> None:
        self._replica.answers_late = self._world.random.uniform(*self._world.faults.late)

    def step_clock(self, seconds: float) -> None:
        self._replica.step_clock(seconds)

    def _start(self) -> None:
        self._incarnation += 1
        self._replica = Replica(self._world, self._database, self._name, self._incarnation, self._rules, stubborn=self._stubborn)
        self._look()

    def _look(self) -> None:
        """Four times a second: has it ended? And may it crash."""
        world = self._world
        if self._replica.alive and world.happens(world.faults.crash / 4):
            self.crash()
        if self._replica.alive:
            world.at(world.time + 0.25, self._look)
        else:
            world.at(world.time + world.random.uniform(0.3, 2.0), self._start)


def main(first: int, last: int) -> int:
    """Run the seeds from `first` to before `last`; the number of those that broke an invariant."""
    met: Counter[str] = Counter()
    longest, broken = 0.0, 0
    for seed in range(first, last):
        observer = run(seed)
        met.update(observer.count)
        longest = max(longest, observer.longest)
        if observer.broken:
            broken += 1
            print(f"seed {seed}: {observer.broken[0]}")
    print(f"{last - first} schedules, {broken} broken, longest wait {longest:.3f} s; {dict(met)}")
    return broken


if __name__ == "__main__":
    sys.exit(1 if main(int(sys.argv[1]), int(sys.argv[2])) else 0)
