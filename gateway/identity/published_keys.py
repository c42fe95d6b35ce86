"""The keys that a client publishes itself, at its `jwks_uri` (RFC 7591 section 2), fetched through `gateway/outward.py`.

A set is believed for five minutes. A key id that it lacks makes it be fetched anew, so that a key which was added is good at once, but
no more than twice a minute: an assertion with a made-up key id must not make us call a partner. A set that cannot be fetched
authenticates nobody; that it could be had before is no ground, for the key may be gone because it was stolen.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import Counter

from gateway.errors import Invalid
from gateway.identity.client_keys import DESCRIBING, MOST_KEYS, PRIVATE, PUBLIC, check_jwks
from gateway.outward import Outward, OutwardFailed, OutwardRefused

log = structlog.get_logger(__name__)

BELIEVED_S = 300.0
AGAIN_S = 30.0
"""A set is not fetched again sooner, whatever the reason."""
MOST_WAITING = 4
"""Requests that wait for one set; further ones are refused, so that a slow partner holds few threads."""
MOST_SETS = 1000
MEDIA_TYPES = ("application/json", "application/jwk-set+json")

fetched = Counter("exchange_client_key_fetches_total", "Fetches of clients' published keys, by outcome: ok, failed.", ["outcome"])


@dataclass(slots=True)
class _Published:
    """What is known of one address, on the monotonic clock."""

    lock: threading.Lock
    jwks: dict[str, Any] | None = None
    at: float = float("-inf")
    waiting: int = 0


class PublishedKeys:
    """The sets of all clients that publish theirs. Thread-safe; it waits, so call it in a worker thread."""

    def __init__(self, outward: Outward, clock: Callable[[], float] = time.monotonic) -> None:
        self._outward = outward
        self._clock = clock
        self._known: dict[str, _Published] = {}
        self._lock = threading.Lock()

    def jwks(self, url: str, key_id: object = None) -> dict[str, Any] | None:
        """The set at this address, in which `key_id` is looked for; None if there is none to be had."""
        known = self._entry(url)
        if self._serves(known, key_id):
            return known.jwks
        with self._lock:
            if known.waiting >= MOST_WAITING:
                return None
            known.waiting += 1
        try:
            with known.lock:
                if not self._serves(known, key_id):
                    known.jwks, known.at = self._fetched(url), self._clock()
                return known.jwks
        finally:
            with self._lock:
                known.waiting -= 1

    def fetch(self, url: str) -> dict[str, Any]:
        """The set at this address, now. Raises `OutwardRefused`, `OutwardFailed`."""
        content = self._outward.fetch(url, media_types=MEDIA_TYPES)
        try:
            return usable_keys(json.loads(content))
        except (ValueError, RecursionError) as error:
            raise OutwardFailed("is not a JWK Set of JSON in UTF-8") from error

    def _serves(self, known: _Published, key_id: object) -> bool:
        """True if what is known is the answer: it is young, and has the key or may not be fetched again yet."""
        age = self._clock() - known.at
        has_it = known.jwks is not None and (key_id is None or any(jwk["kid"] == key_id for jwk in known.jwks["keys"]))
        return age < AGAIN_S or (age < BELIEVED_S and has_it)

    def _entry(self, url: str) -> _Published:
        with self._lock:
            if len(self._known) >= MOST_SETS and url not in self._known:
                self._known = {name: entry for name, entry in self._known.items() if entry.waiting}
            return self._known.setdefault(url, _Published(threading.Lock()))

    def _fetched(self, url: str) -> dict[str, Any] | None:
        try:
            found = self.fetch(url)
        except (OutwardRefused, OutwardFailed) as error:
            # The reason is ours and short; the address is the client's own and stands in its registration.
            log.warning("client_keys_not_fetched", reason=str(error))
            fetched.labels("failed").inc()
            return None
        fetched.labels("ok").inc()
        return found


def usable_keys(document: object) -> dict[str, Any]:
    """Of a published set, the keys that can verify what a client signs here; others are passed over (RFC 7517 section 5).

    Raises `OutwardFailed` for what is no set, has a private key, or no usable one.
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise OutwardFailed("is not a JWK Set (RFC 7517)")
    if any(isinstance(jwk, dict) and PRIVATE & jwk.keys() for jwk in keys):
        raise OutwardFailed("publishes a private key: make new ones, for these have been told")
    usable: dict[str, dict[str, Any]] = {}
    for jwk in keys:
        try:
            kept = check_jwks({"keys": [_bare(jwk)]})["keys"][0]
        except Invalid:
            continue
        usable.setdefault(kept["kid"], kept)
    if not 1 <= len(usable) <= MOST_KEYS:
        raise OutwardFailed(f"must publish 1 to {MOST_KEYS} public keys that can verify ES256, EdDSA or PS256")
    return {"keys": list(usable.values())}


def _bare(jwk: object) -> object:
    """The key without what is no matter here, such as certificates."""
    kty = jwk.get("kty") if isinstance(jwk, dict) else None
    if not isinstance(jwk, dict) or not isinstance(kty, str):
        return jwk
    return {name: value for name, value in jwk.items() if name in PUBLIC.get(kty, set()) | DESCRIBING}
