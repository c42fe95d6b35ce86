"""The digest of disclosures: whose events really left, counted as they leave and written down every two seconds.

Delivery appends one reference for each run of events that left, whatever its length; a thread counts them and adds the counts to the
daily rows. What a crash loses is what left in the seconds since the last writing: a person then finds fewer events than were
delivered, or a contract missing that received them only then. The audit log does not lose it: the release was durable before the
events left, and says that the contract was granted their positions.

Only subjects that still exist get a row: after an erasure nothing is written about the person any more.
"""

from __future__ import annotations

import collections
import functools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

import structlog
from prometheus_client import Counter
from sqlalchemy import Date, LargeBinary, TextClause, bindparam, delete, text
from sqlalchemy.orm import Session

from consent.subjects import as_bytes
from gateway.database import Database
from gateway.streams.disclosed import Under
from gateway.subjects.models import Disclosure

log = structlog.get_logger(__name__)

EVERY_S = 2.0
DAY_S = 86_400
ROWS = 256
"""Rows of one statement. SQLite's limit is on parameters, two a row."""
STATEMENTS = 8
"""Statements of one transaction: a few milliseconds, so that on SQLite nobody waits long for it."""
MOST_WAITING = 1_000_000
"""Pairs of person and contract that may wait to be written, about 200 MB."""

dropped = Counter("exchange_disclosures_dropped_total", "Events that left and are in no person's digest: it was too far behind.")


Counted = tuple[int, Under]
"""A day, in days since 1970, and what was delivered under on it."""
_Chunk = tuple[Counted, list[tuple[bytes, int]]]


class Disclosures:
    """`count` from the event loop; `start` and `stop` around it. `stop` writes what waits."""

    def __init__(self, database: Database, most_waiting: int = MOST_WAITING) -> None:
        self._database = database
        self._most_waiting = most_waiting
        self._left: collections.deque[tuple[int, Under, Sequence[str | None], int, int]] = collections.deque()
        self._counts: dict[Counted, collections.Counter[bytes]] = {}
        self._writing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disclosures", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def count(self, under: Under, srefs: Sequence[str | None], first: int, last: int) -> None:
        """Events have left: of these subjects those from place `first` up to, and without, `last`. The list must not change later."""
        self._left.append((int(time.time()) // DAY_S, under, srefs, first, last))

    def flush(self) -> None:
        """Write what has left until now. What cannot be written is kept. Raises `database_unavailable`."""
        with self._writing:
            self._gather()
            chunks = _chunks(self._counts)
            while group := list(islice(chunks, STATEMENTS)):
                with self._database.transaction() as session:
                    for chunk in group:
                        _add(session, chunk)
                # Written: not to be counted again, whatever happens to the rest.
                for counted, rows in group:
                    for sref, _ in rows:
                        del self._counts[counted][sref]
            self._counts = {}

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self._try()
        self._try()
        if waiting := sum(counts.total() for counts in self._counts.values()):
            log.warning("disclosures_lost", events=waiting)

    def _try(self) -> None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again, and delivery goes on
            log.warning("disclosures_wait", error=type(error).__name__)

    def _gather(self) -> None:
        """Count what has left. One judgement that went to many streams of a contract is gone through once."""
        lists: dict[int, Sequence[str | None]] = {}
        runs: collections.Counter[tuple[int, Under, int, int, int]] = collections.Counter()
        with suppress(IndexError):
            while True:
                day, under, srefs, first, last = self._left.popleft()
                lists[id(srefs)] = srefs
                runs[day, under, id(srefs), first, last] += 1
        # By name first: a name is decoded once, not once a run.
        named: dict[Counted, collections.Counter[str | None]] = {}
        waiting = sum(map(len, self._counts.values()))
        for (day, under, which, first, last), times in runs.items():
            if waiting >= self._most_waiting:
                dropped.inc((last - first) * times)
                continue
            names = named.setdefault((day, under), collections.Counter())
            before = len(names)
            for sref, events in collections.Counter(lists[which][first:last]).items():
                names[sref] += events * times
            waiting += len(names) - before
        for counted, names in named.items():
            counts = self._counts.setdefault(counted, collections.Counter())
            for sref, events in names.items():
                if sref is not None:
                    with suppress(ValueError):  # no subject of ours: something else writes to the topic
                        counts[as_bytes(sref)] += events


def forget_old(session: Session, before: date) -> None:
    """Delete the rows of the days before this one."""
    session.execute(delete(Disclosure).where(Disclosure.day < before))


def _chunks(counts: dict[Counted, collections.Counter[bytes]]) -> Iterator[_Chunk]:
    # In the order of their keys, so that two processes that write at once wait for each other in one order only.
    for counted in sorted(counts):
        rows = sorted(counts[counted].items())
        for place in range(0, len(rows), ROWS):
            yield counted, rows[place : place + ROWS]


def _add(session: Session, chunk: _Chunk) -> None:
    (day, under), rows = chunk
    values: dict[str, Any] = {**under._asdict(), "day": datetime.fromtimestamp(day * DAY_S, UTC).date()}
    dialect = session.get_bind().dialect.name
    if dialect == "postgresql":
        values |= {"srefs": [sref for sref, _ in rows], "counts": [events for _, events in rows]}
    else:
        for place in range(ROWS):
            sref, events = rows[place] if place < len(rows) else (None, 0)
            values |= {f"s{place}": sref, f"n{place}": events}
    session.execute(_statement(dialect), values)


@functools.cache
def _statement(dialect: str) -> TextClause:
    """Add to the rows of up to `ROWS` subjects, as one statement: row by row, each would wait for Python's lock under load.

    PostgreSQL takes them as two arrays, because what a statement of many parameters costs to prepare is paid by every thread of the
    process; there the subject is held first, as by an erasure. On SQLite places that are not needed have no subject, and join nothing.
    """
    if dialect == "postgresql":
        return _addition("unnest(CAST(:srefs AS bytea[]), CAST(:counts AS bigint[])) AS v (sref, events)", "FOR KEY SHARE OF s")
    pairs = ", ".join(f"(:s{place}, :n{place})" for place in range(ROWS))
    srefs = [bindparam(f"s{place}", type_=LargeBinary) for place in range(ROWS)]
    return _addition(f"(SELECT column1 AS sref, column2 AS events FROM (VALUES {pairs})) AS v", "").bindparams(*srefs)  # noqa: S608 - placeholders, of which the values come apart


def _addition(source: str, hold: str) -> TextClause:
    statement = text(
        f"""
        INSERT INTO disclosures (sref, day, contract, decision, dataset, purpose, events)
        SELECT s.sref, :day, :contract, :decision, :dataset, :purpose, v.events
        FROM {source} JOIN subjects s ON s.sref = v.sref WHERE true {hold}
        ON CONFLICT (sref, day, contract, decision) DO UPDATE SET events = disclosures.events + excluded.events
        """,  # noqa: S608 - nothing of others stands in it
    )
    return statement.bindparams(bindparam("day", type_=Date))
