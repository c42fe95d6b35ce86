"""Footfall in Port Credit: invented visitors at real businesses, from a seed. The same seed gives the same bytes.

Nobody was counted: `synthetic` stands in every event. The shape is what a real counter would send, so that it shows what
policy and consent do to data about people.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from connectors.cloudevent import Event, event, rfc3339
from connectors.sources import business_directory

SOURCE = "https://footfall.example/port-credit"
START = datetime(2026, 6, 1, 9, 0, tzinfo=UTC)
AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
SHORTEST_SECONDS = 60
TYPICAL_SECONDS = 900


def visitor(number: int) -> str:
    """The identifier of the invented visitor `number`."""
    return f"invented-visitor-{number:04}"


def events(seed: int, *, visitors: int = 40, start: datetime = START, every: timedelta = timedelta(seconds=20)) -> Iterator[Event]:
    """Visits without end, one each `every`, by `visitors` people who keep their age band, of type `ca.portcredit.visit.counted`."""
    chance = random.Random(seed)  # noqa: S311 - a demonstration must repeat, not be unguessable
    places = [place for place in business_directory.rows(2022) if place["district"] == "port-credit"]
    ages = [chance.choice(AGE_BANDS) for _ in range(visitors)]
    at = start
    while True:
        place, who = chance.choice(places), chance.randrange(visitors)
        data = {
            "at": rfc3339(at),
            "zone": re.sub(r"[^a-z]+", "-", place["area"].lower()).strip("-"),
            "business": place["name"],
            "visitor": visitor(who),
            "dwell_seconds": SHORTEST_SECONDS + int(chance.expovariate(1 / TYPICAL_SECONDS)),
            "age_band": ages[who],
            "synthetic": True,
        }
        # A running number would tell a consumer how many events between two were withheld.
        identifier = str(UUID(int=chance.getrandbits(128), version=4))
        yield event("ca.portcredit.visit.counted", SOURCE, identifier, data, time=at)
        at += every
