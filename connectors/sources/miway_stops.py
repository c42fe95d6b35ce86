"""MiWay's stops, from its static GTFS feed of autumn 2025 (https://gtfs.org/documentation/schedule/reference/#stopstxt).

The latitudes and longitudes carry leading spaces, and most columns are empty: what is blank is not there.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from typing import Any

from connectors.cloudevent import Event, event
from connectors.samples import SAMPLES

SOURCE = "https://www.miway.ca/gtfs/stops"
FEED = "2025-10-01"
WHEELCHAIR = {"0": "unknown", "1": "possible", "2": "not_possible"}


def events() -> Iterator[Event]:
    """One event a stop or station, of type `ca.miway.stop.listed`."""
    with (SAMPLES / "miway-stops" / "stops.txt").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            stop = _stop({column: value.strip() for column, value in row.items()})
            yield event("ca.miway.stop.listed", SOURCE, f"{FEED}-{stop['id']}", stop)


def _stop(row: Mapping[str, str]) -> dict[str, Any]:
    stop: dict[str, Any] = {
        "id": row["stop_id"],
        "name": row["stop_name"],
        "kind": "station" if row["location_type"] == "1" else "stop",
        "latitude": float(row["stop_lat"]),
        "longitude": float(row["stop_lon"]),
        "wheelchair_boarding": WHEELCHAIR[row["wheelchair_boarding"] or "0"],
    }
    optional = {"code": row["stop_code"], "platform": row["platform_code"], "parent": row["parent_station"]}
    return stop | {member: value for member, value in optional.items() if value}
