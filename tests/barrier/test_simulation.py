"""The barrier's two invariants, in schedules made from seeds; and that wrong ways to build it are found out.

The observer (`world.py`) stands at the sockets with the world's own time: after a call has returned as passed nothing leaves that was
judged without its change, and no call waits longer than its bound.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.barrier.mutations import FORBIDDEN, LATE
from tests.barrier.simulation import run
from tests.barrier.world import BOUND_S, COUNTED, SLACK_S, Faults

SEEDS = 500
PATIENCE = 2000
"""Schedules in which a mistake must have been found."""


def test_nothing_forbidden_leaves_after_the_return_and_no_call_waits_beyond_its_bound() -> None:
    met: Counter[str] = Counter()
    longest = 0.0
    for seed in range(SEEDS):
        observer = run(seed)
        assert observer.broken == [], f"python -m tests.barrier.simulation {seed} {seed + 1}"
        met.update(observer.count)
        longest = max(longest, observer.longest)
    assert BOUND_S < longest < BOUND_S + SLACK_S, "no call came to its bound, so nothing was shown about it"
    assert met["passed"] > SEEDS, "most calls pass"
    assert [what for what in COUNTED if not met[what]] == [], "these schedules never met it"


def test_a_schedule_is_the_same_each_time() -> None:
    assert [run(seed) for seed in range(5)] == [run(seed) for seed in range(5)]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_wrong_barrier_lets_something_out(name: str) -> None:
    rules, faults = FORBIDDEN[name]
    found = next((observer for observer in (run(seed, rules, faults) for seed in range(PATIENCE)) if observer.broken), None)
    assert found is not None, "the simulation does not see this mistake"
    assert found.broken[0].startswith("forbidden: ")


@pytest.mark.parametrize("name", LATE)
def test_a_wrong_barrier_lets_a_call_wait_too_long(name: str) -> None:
    rules, faults = LATE[name]
    found = next((observer for observer in (run(seed, rules, faults) for seed in range(PATIENCE)) if observer.broken), None)
    assert found is not None
    assert found.broken[0].startswith("late: ")


@pytest.mark.parametrize("faults", dict.fromkeys(faults for _, faults in (FORBIDDEN | LATE).values()))
def test_the_right_barrier_holds_where_the_wrong_ones_break(faults: Faults) -> None:
    assert [seed for seed in range(100) if run(seed, faults=faults).broken] == []
