"""Proofs of possession at the endpoints: one header, a good proof, and each proof once.

At the token endpoint and on calls that change something a proof is good once across all replicas, which costs a row in the
database; on reads once at each replica, which costs nothing (`docs/security.md` says why that is enough).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.database import Database
from gateway.identity.dpop import AHEAD_S, BEHIND_S, Nonces, Proof, ProofReader, ProofRefused
from gateway.identity.once import Once
from gateway.keys import SecretKey

MOST_REMEMBERED = 250_000
"""Proofs of reads that are remembered in each of two spans, about 100 bytes each: more than one process can answer in that time."""
REPLAYED = "The proof was used before: each request needs one of its own."


class Seen:
    """What came lately, in memory: an entry lives for `span_s` seconds at least, if no more than `most` come in that time. Thread-safe."""

    def __init__(self, span_s: float, most: int) -> None:
        self._span_s = span_s
        self._most = most
        self._began = 0.0
        self._now: set[bytes] = set()
        self._before: set[bytes] = set()
        self._lock = threading.Lock()

    def add(self, digest: bytes, second: float) -> bool:
        """False if it is there already. `second` is the time now, of a clock that only moves forward."""
        with self._lock:
            if second - self._began >= self._span_s or len(self._now) >= self._most:
                self._before = self._now if second - self._began < 2 * self._span_s else set()
                self._now, self._began = set(), second
            if digest in self._now or digest in self._before:
                return False
            self._now.add(digest)
            return True


class Proofs:
    """What the endpoints ask of proofs. Thread-safe."""

    def __init__(self, issuer: str, nonce_key: SecretKey, database: Database) -> None:
        self._nonces = Nonces(nonce_key)
        self._reader = ProofReader(issuer, self._nonces)
        self.once = Once(database)
        self._seen = Seen(AHEAD_S + BEHIND_S, MOST_REMEMBERED)

    @property
    def nonce(self) -> str:
        """What goes into the `DPoP-Nonce` header of answers now."""
        return self._nonces.current()

    def read(self, sent: Sequence[str], *, method: str, path: str, token: str | None = None) -> Proof:
        """The proof of a request from the values of its `DPoP` header, of which there must be one. Raises `ProofRefused`."""
        if len(sent) != 1:
            raise ProofRefused("The DPoP header must be there exactly once.")
        return self._reader.read(sent[0], method=method, path=path, token=token)

    def use_here(self, proof: Proof, second: float) -> None:
        """Use up the proof of a read, at this replica; `second` is of the monotonic clock. Raises `ProofRefused`."""
        if not self._seen.add(proof.digest, second):
            raise ProofRefused(REPLAYED)

    def use_everywhere(self, proof: Proof) -> None:
        """Use up a proof at all replicas, durably. Blocks. Raises `ProofRefused`, `database_unavailable`."""
        if not self.once.use(proof.digest, datetime.fromtimestamp(proof.expires_at, UTC)):
            raise ProofRefused(REPLAYED)
