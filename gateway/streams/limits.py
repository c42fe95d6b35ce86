"""How much at once: the count of open streams, beside the buckets of `gateway.limits`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from gateway.errors import ExchangeError
from gateway.limits import Bucket, InFlight, Requests

__all__ = ["Bucket", "InFlight", "OpenStreams", "Requests"]


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
