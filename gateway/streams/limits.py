"""How much at once: token buckets for events and requests, and the count of open streams."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from gateway.errors import ExchangeError


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
    """A bucket for each caller; those that are full again are forgotten."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: dict[Hashable, Bucket] = {}

    def count(self, caller: Hashable) -> dict[str, str]:
        """Take one request of this caller and return the `RateLimit` headers of its answer. Raises `rate_limited`."""
        if len(self._buckets) > 10_000:
            self._buckets = {who: bucket for who, bucket in self._buckets.items() if bucket.available() < self._per_minute}
        bucket = self._buckets.setdefault(caller, Bucket(self._per_minute, 60.0))
        policy = f'"anonymous";q={self._per_minute};w=60'
        if bucket.available() < 1:
            wait = max(1, round(bucket.seconds_to_one))
            headers = {"Retry-After": str(wait), "RateLimit-Policy": policy, "RateLimit": f'"anonymous";r=0;t={wait}'}
            raise ExchangeError("rate_limited", "Too many requests from this address.", headers=headers)
        bucket.take(1)
        return {"RateLimit-Policy": policy, "RateLimit": f'"anonymous";r={bucket.available()};t=60'}


class OpenStreams:
    """The streams that are open now, by what is counted: a contract, or an address."""

    def __init__(self) -> None:
        self._open: Counter[Hashable] = Counter()
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def one_more(self, of: Hashable, most: int) -> Iterator[None]:
        """Hold a place for a stream. Raises `rate_limited` if `most` are open."""
        if self._open[of] >= most:
            raise ExchangeError("rate_limited", f"{most} streams are open already.", headers={"Retry-After": "5"})
        self._open[of] += 1
        self._none.clear()
        try:
            yield
        finally:
            self._open[of] -= 1
            if not self._open[of]:
                del self._open[of]
            if not self._open:
                self._none.set()

    async def none_left(self) -> None:
        """Return when no stream is open."""
        await self._none.wait()
