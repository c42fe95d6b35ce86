"""Loads a consent index in a process that does nothing else, and asks it about one event after another.

Plan: database, dataset, purposes, recipient, people (how many of a `crowd` there are), events (of one round, judged by
the block), rounds.
Result: load_s, rss_mb (what the index adds), lookup_us (of each round: processor time, an event), passed (the share of all events).
"""

from __future__ import annotations

import gc
import random
import time
from pathlib import Path

from consent.index import ConsentIndex, DoubtView, View
from gateway.database import Database
from gateway.streams.blocks import BLOCK_EVENTS
from tests.benchmarks.crowd import sref
from tests.benchmarks.load.control import read_plan, tell, wait_for_go
from tests.benchmarks.material import SEED

REGULARS, REGULARLY = 20, 2
"""One person in so many is a regular, and one event in so many is about one of those."""


def main() -> None:
    plan = read_plan()
    index, database = ConsentIndex(), Database(plan["database"])
    with database.reading() as session:
        wait_for_go()
        before, began = _resident_mb(), time.monotonic()
        index.load(session)
        load_s = time.monotonic() - began
    database.close()
    # As the gateway does when it has started.
    gc.collect()
    gc.freeze()
    rss_mb = _resident_mb() - before
    asked = (plan["dataset"], frozenset(plan["purposes"]), plan["recipient"])
    view, doubts = index.view(*asked), index.doubt_view(*asked)
    choose = random.Random(SEED)
    now = time.time_ns() // 1_000_000
    took, passed = [], 0
    for _ in range(plan["rounds"]):
        spent = 0.0
        for _ in range(plan["events"] // BLOCK_EVENTS):
            about = [_somebody(choose, plan["people"]) for _ in range(BLOCK_EVENTS)]
            appended = [now - choose.randrange(60_000) for _ in about]
            people = frozenset(about)  # known of a block since it was decoded
            began = time.process_time()
            passed += _pass(view, doubts, people, about, appended, now)
            spent += time.process_time() - began
        took.append(spent / plan["events"] * 1e6)
    tell({"load_s": load_s, "rss_mb": rss_mb, "lookup_us": took, "passed": passed / (plan["rounds"] * plan["events"])})


def _pass(view: View, doubts: DoubtView, people: frozenset[str], about: list[str], appended: list[int], now: int) -> int:
    """How many events of a block pass, asked as `gateway.streams.views` asks."""
    doubtful, since = doubts(people, now)
    passed = 0
    for who, at in zip(about, appended, strict=True):
        if (who not in doubtful and at >= since) or view(who, at, now):
            passed += 1
    return passed


def _somebody(choose: random.Random, people: int) -> str:
    return sref(choose.randrange(people // REGULARS if choose.randrange(REGULARLY) else people))


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
