"""Counts by day as bars of a small SVG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

MOST_DAYS = 30
WIDTH, HEIGHT = 340, 90


@dataclass(frozen=True, slots=True)
class Bar:
    """A day's bar, in the picture's units."""

    x: float
    width: float
    height: int


@dataclass(frozen=True, slots=True)
class Days:
    """The picture: its bars, the first and last day that it shows, and the most on one day."""

    bars: tuple[Bar, ...]
    first: date
    last: date
    most: int


def by_day(counts: Mapping[date, int]) -> Days | None:
    """The last days up to the last one that has a count; None for fewer than two days with any, for that is no picture."""
    if len(counts) < 2:
        return None
    last = max(counts)
    first = max(min(counts), last - timedelta(days=MOST_DAYS - 1))
    days = [first + timedelta(days=at) for at in range((last - first).days + 1)]
    most = max(counts.get(day, 0) for day in days)
    step = WIDTH / len(days)
    bars = tuple(Bar(round(at * step + 1, 1), round(step - 2, 1), -(-counts.get(day, 0) * HEIGHT // most)) for at, day in enumerate(days))
    return Days(bars, first, last, most)
