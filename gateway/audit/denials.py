"""Denials that are answered from memory: counted, and one entry per client, contract, reason and minute.

The decision itself was recorded when it was computed; these entries say how often its "no" was asked for again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from gateway.audit.record import Entry
from gateway.audit.release import AuditWriter
from gateway.errors import ExchangeError

log = structlog.get_logger(__name__)

MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class _Denial:
    client: str
    dataset: str
    contract: str | None
    reason: str
    decision: str | None
    organization: str | None
    provider: str | None
    consumer: str | None


class Denials:
    """The counts of this minute. `start` after the writer, `stop` before it. Thread-safe."""

    def __init__(self, writer: AuditWriter) -> None:
        self._writer = writer
        self._counts: Counter[_Denial] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="denials", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what was counted since the last minute."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self.flush()

    def count(
        self,
        client: str,
        dataset: str,
        contract: str | None,
        codes: Sequence[str],
        *,
        decision: str | None = None,
        organization: str | None = None,
        provider: str | None = None,
        consumer: str | None = None,
    ) -> None:
        """One more use of a denial. `codes` are its reasons; the three organizations are those that may find the entry."""
        with self._lock:
            for reason in codes:
                self._counts[_Denial(client, dataset, contract, reason, decision, organization, provider, consumer)] += 1

    def flush(self) -> None:
        """Append what was counted. What the audit log does not take is kept for the next time."""
        with self._lock:
            counted, self._counts = self._counts, Counter()
        for denial, count in list(counted.items()):
            try:
                self._writer.append(_entry_of(denial, count))
            except ExchangeError as error:
                log.warning("denials_not_recorded", code=error.code, entries=len(counted))
                break
            del counted[denial]
        with self._lock:
            self._counts += counted

    def _run(self) -> None:
        while not self._stopping.wait(MINUTE_S):
            self.flush()


def _entry_of(denial: _Denial, count: int) -> Entry:
    return Entry(
        kind="decision",
        action="denied_again",
        actor=denial.client,
        organization=denial.organization,
        dataset=denial.dataset,
        contract=denial.contract,
        decision=denial.decision,
        detail={"reason": denial.reason, "count": str(count)},
        provider=denial.provider,
        consumer=denial.consumer,
    )
