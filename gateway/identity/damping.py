"""Damping of guesses at the endpoints that authenticate clients: counted before a secret is hashed or a signature verified.

Failures are counted, in this process. Guesses at secrets: by address, and by the client that they name, known or not, so that many
addresses guess no faster than one. A client that has proved itself from an address in the last hour stands on its own count there: who
guesses at it from elsewhere does not keep it out. Signatures are not guessed, they only cost: they are counted by address alone, far
more of them, and apart from guesses at secrets, so that no stranger elsewhere keeps out a client that authenticates by key.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers

from gateway.identity.client_authentication import claimed_client
from gateway.limits import Requests

REMEMBERED_S = 3600.0
MOST_REMEMBERED = 10_000
SIGNATURES_TO_A_GUESS = 30


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who says to be whom, from where. `network` as in `limits.network_of`."""

    network: str
    client_id: str
    by_key: bool

    @classmethod
    def of(cls, network: str, headers: Headers, form: Mapping[str, str]) -> Attempt:
        return cls(network, claimed_client(headers, form), "client_assertion" in form)


class Damping:
    """The failures a minute that are let through. Thread-safe."""

    def __init__(self, failures_per_minute: int) -> None:
        self._by_address = Requests(failures_per_minute, "failures")
        self._by_client = Requests(failures_per_minute, "failures", "whoever names this client")
        self._by_signature = Requests(failures_per_minute * SIGNATURES_TO_A_GUESS, "failures")
        self._proved: dict[Attempt, float] = {}

    def admit(self, attempt: Attempt) -> None:
        """Raises `rate_limited` while there were too many failures."""
        for counted, who in self._counts(attempt):
            counted.require(who)

    def failed(self, attempt: Attempt) -> None:
        """Count an authentication that failed."""
        for counted, who in self._counts(attempt):
            counted.take(who)

    def proved(self, attempt: Attempt) -> None:
        """Remember an authentication that was right."""
        if len(self._proved) >= MOST_REMEMBERED:
            self._proved = {who: at for who, at in self._proved.copy().items() if time.monotonic() - at < REMEMBERED_S / 2}
        self._proved[attempt] = time.monotonic()

    def _counts(self, attempt: Attempt) -> list[tuple[Requests, object]]:
        if time.monotonic() - self._proved.get(attempt, -REMEMBERED_S) < REMEMBERED_S:
            return [(self._by_signature if attempt.by_key else self._by_client, attempt)]
        if attempt.by_key:
            return [(self._by_signature, attempt.network)]
        return [(self._by_address, attempt.network), (self._by_client, attempt.client_id)]
