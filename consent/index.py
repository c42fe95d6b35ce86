"""The consent index: who consented to what, in memory, one lookup an event.

It holds the records that are `given`, by dataset and subject. It is written by one thread, as changes are applied, and
read by others without a lock: what is held of a subject is replaced whole.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from heapq import heappop, heappush
from itertools import islice
from typing import Any, Protocol

from sqlalchemy import Row, Select, Text, cast, select
from sqlalchemy.orm import Session

from consent.models import ConsentRecord
from consent.records import ANY_RECIPIENT
from consent.subjects import as_bytes, as_text

IN_FORCE = "given"
KINDS = frozenset({"consent_given", "consent_withdrawn"})
FOREVER = 1 << 62
"""Milliseconds since 1970 that do not come."""
AT_ONCE = 500
"""Rows of one statement; SQLite's limit is on parameters."""

View = Callable[[str, int, int], bool]
"""(sref, appended_ms, now_ms) -> may this event pass."""


class Named(Protocol):
    """A change, as far as the index reads it. `object` is what `consent.records.name_of` wrote."""

    @property
    def kind(self) -> str: ...
    @property
    def object(self) -> str: ...


class Scope:
    """Purposes and recipients of a record. Equal ones are one object, so that a view decides on each once."""

    __slots__ = ("purposes", "recipients")

    def __init__(self, purposes: Iterable[str], recipients: Iterable[str]) -> None:
        self.purposes = frozenset(purposes)
        self.recipients = frozenset(recipients)

    def covers(self, purposes: frozenset[str], recipient: str) -> bool:
        return not self.purposes.isdisjoint(purposes) and not self.recipients.isdisjoint((recipient, ANY_RECIPIENT))


# The records of a subject: (since, until, scope, the next record or None), in force from `since` until before `until`, in
# milliseconds since 1970. Nested tuples, because nearly everybody has one, and each object less is a cache miss less.
Held = tuple[int, int, Scope, Any]


class ConsentIndex:
    """All consent that is in force or will be. `load` once, then `on_changes`."""

    def __init__(self) -> None:
        self._datasets: dict[str, dict[str, Held]] = {}
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._views: dict[tuple[str, frozenset[str], str], View] = {}
        self._instants: list[int] = []
        self._awaited: set[int] = set()
        self._lock = threading.Lock()

    def load(self, session: Session) -> None:
        """Read every record in force."""
        for row in session.execute(_in_force().execution_options(yield_per=10_000)):
            subjects, sref = self._subjects(row.dataset), as_text(row.sref)
            subjects[sref] = self._held(row, subjects.get(sref))

    def on_changes(self, session: Session, changes: Sequence[Named]) -> None:
        """Apply what concerns consent."""
        self.apply(session, [change.object for change in changes if change.kind in KINDS])

    def apply(self, session: Session, names: Iterable[str]) -> None:
        """Bring the subjects of these records, as `consent.records.name_of` names them, to what the database says now.

        The records are read, not the change: so one that arrives late finds what came after it, and undoes nothing.
        """
        remaining = iter({(dataset, sref) for dataset, sref, _ in (name.split(" ") for name in names)})
        while group := list(islice(remaining, AT_ONCE)):
            fresh: dict[tuple[str, str], Held] = {}
            for row in session.execute(_in_force().where(ConsentRecord.sref.in_({as_bytes(sref) for _, sref in group}))):
                key = (row.dataset, as_text(row.sref))
                fresh[key] = self._held(row, fresh.get(key))
            for key in group:
                self._put(*key, fresh.get(key))

    def view(self, dataset: str, purposes: frozenset[str], recipient: str) -> View:
        """The question of one contract, for a hot loop: `view(sref, appended_ms, now_ms)`.

        `purposes` are the contract's purpose and all its broader ones. An event passes if a record of its subject covers
        one of them and the recipient, is valid now, and was in force when the event was appended.
        """
        key = (dataset, purposes, recipient)
        if key not in self._views:
            self._views[key] = _view(self._subjects(dataset), purposes, recipient)
        return self._views[key]

    def covers(self, dataset: str, purposes: frozenset[str], recipient: str, sref: str, appended_ms: int, now_ms: int) -> bool:
        """`view` for one event."""
        return self.view(dataset, purposes, recipient)(sref, appended_ms, now_ms)

    def next_instant(self, now_ms: int) -> int:
        """The next instant, in milliseconds since 1970, at which a record begins or ends by time alone; `FOREVER` if none does."""
        with self._lock:
            while self._instants and self._instants[0] <= now_ms:
                self._awaited.discard(heappop(self._instants))
            return self._instants[0] if self._instants else FOREVER

    def _subjects(self, dataset: str) -> dict[str, Held]:
        # One dict for each dataset, for good: views hold on to it.
        return self._datasets.setdefault(dataset, {})

    def _put(self, dataset: str, sref: str, held: Held | None) -> None:
        if held is None:
            self._subjects(dataset).pop(sref, None)
        else:
            self._subjects(dataset)[sref] = held

    def _held(self, row: Row[str, bytes, str, str, datetime, datetime, datetime | None], others: Held | None) -> Held:
        _, _, purposes, recipients, given_at, valid_from, valid_until = row
        scope = self._scopes.get((purposes, recipients))
        if scope is None:
            scope = self._scopes[purposes, recipients] = Scope(json.loads(purposes), json.loads(recipients))
        since, until = _floor_ms(max(given_at, valid_from)), FOREVER if valid_until is None else _floor_ms(valid_until)
        self._await(until)
        if valid_from > given_at:
            self._await(since)
        return (since, until, scope, others)

    def _await(self, instant: int) -> None:
        with self._lock:
            if instant != FOREVER and instant not in self._awaited:
                self._awaited.add(instant)
                heappush(self._instants, instant)


def _view(subjects: dict[str, Held], purposes: frozenset[str], recipient: str) -> View:
    held_of = subjects.get
    decided: dict[Scope, bool] = {}

    def passes(sref: str, appended_ms: int, now_ms: int) -> bool:
        held = held_of(sref)
        while held is not None:
            since, until, scope, held = held
            if since <= appended_ms and since <= now_ms < until:
                covered = decided.get(scope)
                if covered is None:
                    covered = decided[scope] = scope.covers(purposes, recipient)
                if covered:
                    return True
        return False

    return passes


def _in_force() -> Select[str, bytes, str, str, datetime, datetime, datetime | None]:
    row = ConsentRecord
    # As text: equal purposes and recipients are parsed once.
    return select(
        row.dataset, row.sref, cast(row.purposes, Text), cast(row.recipients, Text), row.given_at, row.valid_from, row.valid_until
    ).where(row.state == IN_FORCE)


def _floor_ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000
