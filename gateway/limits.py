"""How much at once: token buckets, and what one process carries."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from itertools import islice

from fastapi import Request
from prometheus_client import Counter

from gateway.errors import ExchangeError

MOST_CALLERS = 10_000

shed = Counter("exchange_shed_total", "Requests that were refused because this process carries too much, by what.", ["what"])


def network_of(request: Request) -> str:
    """Who calls, as far as the network tells: an IPv4 address, or the IPv6 /64 that one subscriber has, who may change the rest at will."""
    address = request.client.host if request.client else "unknown"
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


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
    """A bucket for each caller: `most` requests in so many `seconds`. `name` is the policy's in the `RateLimit` headers, `whose` tells a
    caller what was counted.

    Those that are full again are forgotten; if there are too many all the same, the oldest are, so that strangers fill no memory.
    """

    def __init__(self, most: int, name: str = "anonymous", whose: str = "this address", *, seconds: int = 60) -> None:
        self.most = most
        self._seconds = seconds
        self._name = name
        self._whose = whose
        self._buckets: dict[Hashable, Bucket] = {}
        self._lock = threading.Lock()

    def count(self, caller: Hashable) -> dict[str, str]:
        """Take one request of this caller and return the `RateLimit` headers of its answer. Raises `rate_limited`."""
        with self._lock:
            bucket = self._bucket(caller)
            self._require(bucket)
            bucket.take(1)
            return {"RateLimit-Policy": self._policy, "RateLimit": f'"{self._name}";r={bucket.available()};t={self._seconds}'}

    def require(self, caller: Hashable) -> None:
        """Raises `rate_limited` if this caller has no request left; takes none."""
        with self._lock:
            if caller in self._buckets:
                self._require(self._buckets[caller])

    def take(self, caller: Hashable) -> None:
        """Take one request of this caller, also where none is left."""
        with self._lock:
            bucket = self._bucket(caller)
            bucket.available()
            bucket.take(1)

    def left(self, caller: Hashable) -> int:
        """Requests that this caller has left now."""
        with self._lock:
            return max(0, self._buckets[caller].available()) if caller in self._buckets else self.most

    @property
    def _policy(self) -> str:
        return f'"{self._name}";q={self.most};w={self._seconds}'

    def _bucket(self, caller: Hashable) -> Bucket:
        found = self._buckets.get(caller)
        if found is None:
            if len(self._buckets) >= MOST_CALLERS:
                lacking = {who: bucket for who, bucket in self._buckets.items() if bucket.available() < self.most}
                self._buckets = dict(islice(lacking.items(), max(0, len(lacking) - MOST_CALLERS // 2), None))
            found = self._buckets[caller] = Bucket(self.most, self._seconds)
        return found

    def _require(self, bucket: Bucket) -> None:
        if bucket.available() < 1:
            wait = max(1, math.ceil(bucket.seconds_to_one))
            told = {"RateLimit-Policy": self._policy, "RateLimit": f'"{self._name}";r=0;t={wait}'}
            raise ExchangeError("rate_limited", f"Too many requests from {self._whose}.", headers={"Retry-After": str(wait)} | told)


class Callers:
    """The requests of clients and of their organizations, which share one limit however many clients they have; in this process."""

    def __init__(self, client_per_minute: int, organization_per_minute: int) -> None:
        self._clients = Requests(client_per_minute, "client", "this client")
        self._organizations = Requests(organization_per_minute, "organization", "this organization")

    def count(self, actor: str, organization_id: str) -> dict[str, str]:
        """Take one request of the client (or person) and one of its organization; returns the headers. Raises `rate_limited`."""
        own = self._clients.count(actor)
        if not organization_id:
            return own
        shared = self._organizations.count(organization_id)
        return {name: f"{value}, {shared[name]}" for name, value in own.items()}

    def require(self, actor: str, organization_id: str) -> None:
        """Raises `rate_limited` if either has none left; takes none."""
        self._clients.require(actor)
        self._organizations.require(organization_id)

    def left(self, actor: str, organization_id: str) -> dict[str, dict[str, int]]:
        """What is left of each limit, requests a minute."""
        limits = {"client": (self._clients, actor), "organization": (self._organizations, organization_id)}
        return {name: {"per_minute": of.most, "left": of.left(who)} for name, (of, who) in limits.items() if who}


class InFlight:
    """How much one process carries at once: open streams, and bytes of bodies that came or wait to leave. What is too much is shed.

    Thread-safe enough: all who count are on the event loop.
    """

    def __init__(self, most_streams: int, most_bytes: int) -> None:
        self._most_streams = most_streams
        self._most_bytes = most_bytes
        self._streams = 0
        self._bytes = 0

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Hold a place for a stream. Raises `overloaded`."""
        if self._streams >= self._most_streams:
            raise overloaded("streams")
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    def admit(self, more: int = 0) -> None:
        """Raises `overloaded` if `more` bytes would be too many. One request alone never is."""
        if self._bytes and self._bytes + more > self._most_bytes:
            raise overloaded("bytes")

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """`with in_flight.hold() as carry: carry(1024)`: count bytes until the block is left."""
        carried = 0

        def carry(more: int) -> None:
            nonlocal carried
            carried += more
            self._bytes += more

        try:
            yield carry
        finally:
            self._bytes -= carried


def overloaded(what: str) -> ExchangeError:
    """The refusal of a process that carries too much; counted."""
    shed.labels(what).inc()
    return ExchangeError("overloaded", headers={"Retry-After": "2"})
