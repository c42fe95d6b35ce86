"""What may come once across all replicas: a row with a unique key, written for all who wait in one transaction."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from gateway.database import Database, now
from gateway.identity.models import UsedProof

PRUNE_EVERY_S = 60.0
MOST_AT_ONCE = 500


@dataclass(slots=True, eq=False)
class _Waiting:
    digest: bytes
    expires_at: datetime
    first: bool = False
    done: bool = False
    error: Exception | None = None


class Once:
    """Uses up digests, each once, durably. Thread-safe: whoever finds the database free writes what all others wait for too."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: deque[_Waiting] = deque()
        self._writing = threading.Lock()
        self._pruned = -math.inf

    def use(self, digest: bytes, expires_at: datetime) -> bool:
        """True if this digest was not used before, at any replica. It is kept until `expires_at`. Raises `database_unavailable`."""
        waiting = _Waiting(digest, expires_at)
        self._queue.append(waiting)
        while not waiting.done:
            with self._writing:
                if not waiting.done:
                    self._write([self._queue.popleft() for _ in range(min(len(self._queue), MOST_AT_ONCE))])
        if waiting.error is not None:
            raise waiting.error
        return waiting.first

    def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            with self._database.transaction() as session:
                if time.monotonic() - self._pruned > PRUNE_EVERY_S:
                    session.execute(delete(UsedProof).where(UsedProof.expires_at < now()))
                    self._pruned = time.monotonic()
                fresh = _insert(session, batch)
            for waiting in batch:
                waiting.first = waiting.digest in fresh
                fresh.discard(waiting.digest)
        except Exception as error:  # noqa: BLE001 - each who waits raises it
            for waiting in batch:
                waiting.error = error
        finally:
            for waiting in batch:
                waiting.done = True


def _insert(session: Session, batch: Sequence[_Waiting]) -> set[bytes]:
    """Those digests that were not there. In order, so that two replicas with the same ones do not wait for each other in a circle."""
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    rows = {waiting.digest: {"digest": waiting.digest, "expires_at": waiting.expires_at} for waiting in batch}
    adding = insert(UsedProof).values([rows[digest] for digest in sorted(rows)]).on_conflict_do_nothing().returning(UsedProof.digest)
    return {bytes(digest) for digest in session.scalars(adding)}
