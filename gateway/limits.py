"""How much at once: token buckets."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable

from gateway.errors import ExchangeError

MOST_CALLERS = 10_000


class Bucket:
    """A token bucket: `most` tokens, filled again evenly over `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self._rate = most / seconds
        self._level = float(most)
        self._at = time.monotonic()

    def available(self) -> int:
        """Whole tokens there are now."""
        at = time.monotonic()
        self._level = min(self.most, self._level + (at - self._at) * self._rate)
        self._at = at
        return int(self._level)

    def take(self, tokens: int) -> None:
        """Take tokens that `available` has shown."""
        self._level -= tokens

    @property
    def seconds_to_one(self) -> float:
        """Seconds until a whole token is there."""
        return max(0.0, (1 - self._level) / self._rate)


class Requests:
    """A bucket for each caller; those that are full again are forgotten. `name` is the policy's in the `RateLimit` headers."""

    def __init__(self, per_minute: int, name: str = "anonymous") -> None:
        self._per_minute = per_minute
        self._name = name
        self._buckets: dict[Hashable, Bucket] = {}
        self._lock = threading.Lock()

    def count(self, caller: Hashable) -> dict[str, str]:
        """Take one request of this caller and return the `RateLimit` headers of its answer. Raises `rate_limited`."""
        with self._lock:
            if len(self._buckets) > MOST_CALLERS:
                self._buckets = {who: bucket for who, bucket in self._buckets.items() if bucket.available() < self._per_minute}
            bucket = self._buckets.setdefault(caller, Bucket(self._per_minute, 60.0))
            policy = f'"{self._name}";q={self._per_minute};w=60'
            if bucket.available() < 1:
                wait = max(1, round(bucket.seconds_to_one))
                headers = {"Retry-After": str(wait), "RateLimit-Policy": policy, "RateLimit": f'"{self._name}";r=0;t={wait}'}
                raise ExchangeError("rate_limited", "Too many requests from this address.", headers=headers)
            bucket.take(1)
            return {"RateLimit-Policy": policy, "RateLimit": f'"{self._name}";r={bucket.available()};t=60'}
