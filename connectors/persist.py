"""Trying again: what may be sent again after a broken connection, or when a part of the exchange is away."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import httpx2

from connectors.problem import ProblemError

FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0
PASSING = frozenset({429, 502, 503, 504})
"""Statuses that say nothing against the request itself: too much at once, or a part (or a proxy before it) that is away."""


def persist(send: Callable[[], httpx2.Response], attempts: int) -> httpx2.Response:
    """The answer of `send`, which is called `attempts` times at most. Raises `ProblemError`, `httpx2.TransportError`: the last one."""
    for attempt in range(1, attempts):
        try:
            return send()
        except httpx2.TransportError:
            pause = pause_after(attempt)
        except ProblemError as problem:
            if not is_passing(problem):
                raise
            pause = pause_after(attempt, problem)
        time.sleep(pause)
    return send()


def is_passing(problem: ProblemError) -> bool:
    """True if the same request may be welcome in a while. `partly_appended` is the caller's: only the events that it names are missing."""
    return problem.status in PASSING and problem.code != "partly_appended"


def pause_after(attempt: int, problem: ProblemError | None = None) -> float:
    """Seconds to wait after so many failures: what the exchange asked for, else twice as long each time, never all clients at once."""
    told = problem.headers.get("retry-after", "") if problem is not None else ""
    if told.isdecimal():
        return min(float(told), MOST_SECONDS)
    longest: float = min(FIRST_SECONDS * 2 ** (attempt - 1), MOST_SECONDS)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads clients, and guards nothing
