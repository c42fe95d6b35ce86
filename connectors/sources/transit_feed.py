"""A recorded GTFS-realtime feed: trip updates of Auckland on 19 May 2016, five snapshots about a minute apart.

A snapshot repeats every trip; what is yielded is what a subscriber wants to know, the trips that changed since the one before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from connectors.cloudevent import Event, event, rfc3339
from connectors.samples import SAMPLES

SOURCE = "https://at.govt.nz/gtfs-realtime/trip-updates"
Snapshot = tuple[datetime, dict[str, dict[str, Any]]]


def events() -> Iterator[Event]:
    """The changed trips of all snapshots in order, without waiting, of type `nz.govt.at.trip.updated`."""
    for _, changed in replay(speed=float("inf")):
        yield from changed


def replay(speed: float = 60.0) -> Iterator[tuple[float, list[Event]]]:
    """For each snapshot the seconds to wait before it, `speed` times shorter than they were, and the events of what changed."""
    snapshots = list(_snapshots())
    yield 0.0, _changed(({}, snapshots[0]))
    for (before, trips), after in pairwise(snapshots):
        yield (after[0] - before).total_seconds() / speed, _changed((trips, after))


def _snapshots() -> Iterator[Snapshot]:
    for line in (SAMPLES / "transit-feed" / "auckland.jsonl").read_text("utf-8").splitlines():
        recorded = json.loads(line)
        trips = (_trip(entity["trip_update"]) for entity in recorded["entity"])
        yield datetime.fromtimestamp(recorded["header"]["timestamp"], UTC), {trip["trip_id"]: trip for trip in trips}


def _changed(step: tuple[dict[str, dict[str, Any]], Snapshot]) -> list[Event]:
    before, (at, trips) = step
    stamp = int(at.timestamp())
    return [
        event("nz.govt.at.trip.updated", SOURCE, f"{stamp}-{name}", trip, time=at)
        for name, trip in sorted(trips.items())
        if before.get(name) != trip
    ]


def _trip(update: Mapping[str, Any]) -> dict[str, Any]:
    stop = update["stop_time_update"][0]
    passing = "departure" if "departure" in stop else "arrival"
    return {
        "city": "Auckland",
        "trip_id": update["trip"]["trip_id"],
        "route_id": update["trip"]["route_id"],
        "vehicle_id": update["vehicle"]["id"],
        "stop_id": stop["stop_id"],
        "stop_sequence": stop["stop_sequence"],
        "passing": passing,
        "delay_seconds": stop[passing]["delay"],
        "expected_at": rfc3339(datetime.fromtimestamp(stop[passing]["time"], UTC)),
        "reported_at": rfc3339(datetime.fromtimestamp(update["timestamp"], UTC)),
    }
