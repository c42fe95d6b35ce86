"""Rows about the consent index of a city of a million, in a process of its own."""

from __future__ import annotations

from statistics import median

from gateway.catalog.purposes import purpose
from gateway.migrations import upgrade
from tests.benchmarks import crowd
from tests.benchmarks.generator import run
from tests.benchmarks.material import PURPOSE
from tests.benchmarks.measured import Measured
from tests.benchmarks.stage import LIVE, Stage

PEOPLE = 1_000_000
EVENTS = 100_000
ROUNDS = 9


def lookup_and_load(stage: Stage) -> Measured:
    """One lookup an event, in processor time, half of the events about one person in twenty; loading, and what it adds to memory."""
    database = stage.engines.database_url()
    upgrade(database)
    stage.say(f"{PEOPLE:,} people consent")
    crowd.people(database, LIVE, PEOPLE)
    meant = purpose(PURPOSE)
    assert meant is not None
    plan = {"database": database, "dataset": LIVE, "purposes": sorted(meant.with_broader), "recipient": "org_consumer"}
    result = run("consents", plan | {"people": PEOPLE, "events": EVENTS, "rounds": ROUNDS})
    # The first round finds nothing in the processor's caches.
    lookups = result["lookup_us"][1:]
    note = f"{min(lookups):.3f} to {max(lookups):.3f} µs, {result['passed']:.0%} pass"
    results = {"consent_lookup_us": median(lookups), "consent_load_s": result["load_s"], "consent_mb": result["rss_mb"]}
    return Measured(results, note)
