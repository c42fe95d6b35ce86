"""The consent index: whose events may pass, in memory, one lookup an event.

It holds the records that are `given`, by dataset and subject, and beside them the few of which more must be known: intervals before a
pause, and objections under a notice with opt-out. It is written by one thread, as changes are applied, and read by others without a
lock: what is held of a subject is replaced whole.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import chain, islice
from typing import Any, Protocol

from sqlalchemy.orm import Session

from consent.erasure import erased_by
from consent.index_rows import FOREVER, IndexRow, Interval, earlier_intervals, rows, subjects_of
from consent.records import ANY_RECIPIENT, AT_ONCE
from consent.states import OBJECTIONS
from consent.subjects import as_text

__all__ = ["FOREVER", "ConsentIndex", "View"]

BY_RECORD = frozenset(
    {"consent_given", "consent_refused", "consent_paused", "consent_resumed", "consent_withdrawn", "consent_revoked", "consent_invalidated"}
)
"""The kinds of change whose object names a record."""
BY_NUMBER = frozenset({"consents_imported", "refusals_imported", "consents_expired"})
"""The kinds that are about all records that bear the change's number."""

View = Callable[[str, int, int], bool]
"""(sref, appended_ms, now_ms) -> may this event pass."""
Doubts = tuple[frozenset[str], int]
"""Subjects who must be asked of one by one, and an instant: what was appended since then about the others passes."""
DoubtView = Callable[[frozenset[str], int], Doubts]
"""(srefs, now_ms) -> those of them who are in doubt."""


class Named(Protocol):
    """A change, as far as the index reads it. `object` is what `consent.records.name_of` wrote, or nothing that matters here."""

    @property
    def n(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def object(self) -> str: ...


class Scope:
    """Purposes and recipients of a record. Equal ones are one object, with a number, so that a view decides on each once."""

    __slots__ = ("number", "purposes", "recipients")

    def __init__(self, number: int, purposes: Iterable[str], recipients: Iterable[str]) -> None:
        self.number = number
        self.purposes = frozenset(purposes)
        self.recipients = frozenset(recipients)

    def covers(self, purposes: frozenset[str], recipient: str) -> bool:
        return not self.purposes.isdisjoint(purposes) and not self.recipients.isdisjoint((recipient, ANY_RECIPIENT))


# The records of a subject: (since, until, its scope's number, the next record or None), in force from `since` until before `until`, in
# milliseconds since 1970. Nested tuples, because nearly everybody has one, and each object less is a cache miss less. Of numbers,
# because Python's collector goes through a million tuples again and again if they hold what could be part of a cycle.
Held = tuple[int, int, int, Any]
# (the first and the one after the last instant at which an event may have been appended, the same for now, scope)
Window = tuple[int, int, int, int, Scope]
# A word of a person under whose scope somebody has said no: (scope, since, until; None where the word is no), the last word first.
Word = tuple[Scope, tuple[int, int] | None]


class Settled:
    """The subjects with a record of one scope that has begun and goes on, for many to be looked up at once.

    It says of nobody what `Held` does not: a look into the memory of a million takes longer than all else, and a set's own loop over
    many has several under way at a time. Written under the index's lock, read without one: members first, then `newest`.
    """

    __slots__ = ("_ends", "_members", "_soonest", "newest")

    def __init__(self) -> None:
        self._members: set[str] = set()
        self._ends: list[tuple[int, str]] = []
        self._soonest = FOREVER
        self.newest = 0
        """Since when all of them are in force, in milliseconds since 1970."""

    def add(self, sref: str, since: int, until: int) -> None:
        # Before it is one of them: who finds it among them must find its time too.
        self.newest = max(self.newest, since)
        if until != FOREVER:
            heappush(self._ends, (until, sref))
            self._soonest = self._ends[0][0]
        self._members.add(sref)

    def discard(self, sref: str) -> None:
        self._members.discard(sref)

    def without(self, srefs: frozenset[str], now_ms: int) -> frozenset[str]:
        """`srefs` without those whose record is in force now for whatever was appended since `newest`; all while one has just ended."""
        soonest = self._soonest
        # The few who are missed, and not the many who are found: to collect those takes the time of the look into memory once more.
        others = srefs - self._members
        # Asked before and after: one that ends may have been left out meanwhile, and one that was added may end sooner.
        return others if self.newest <= now_ms < min(soonest, self._soonest) else srefs

    def size(self) -> int:
        """How many they are."""
        return len(self._members)

    def end(self, now_ms: int) -> None:
        """Leave out whoever's record has ended."""
        while self._ends and self._ends[0][0] <= now_ms:
            self._members.discard(heappop(self._ends)[1])
        self._soonest = self._ends[0][0] if self._ends else FOREVER


class Rare:
    """What a dataset holds of few people, by subject."""

    __slots__ = ("windows", "words")

    def __init__(self) -> None:
        self.windows: dict[str, tuple[Window, ...]] = {}
        self.words: dict[str, tuple[Word, ...]] = {}


class ConsentIndex:
    """All consent that is in force or will be. `load` once, then `on_changes`."""

    def __init__(self) -> None:
        self._datasets: dict[str, tuple[dict[str, Held], Rare]] = {}
        self._settled: dict[str, dict[Scope, Settled]] = {}
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._numbered: list[Scope] = []
        self._views: dict[tuple[str, frozenset[str], str, bool], View] = {}
        self._instants: list[int] = []
        self._awaited: set[int] = set()
        self._lock = threading.Lock()

    def load(self, session: Session) -> None:
        """Read every record that matters now."""
        for row in rows(session, states=("given",)):
            if row.plain:
                subjects, sref = self._of(row.dataset)[0], as_text(row.sref)
                held = subjects[sref] = self._held(row, subjects.get(sref))
                self._settle(sref, row, held)
        # Whoever has paused or said no is read again, with all of their records.
        self._refresh(session, subjects_of(session, states=OBJECTIONS, or_not_plain=True))

    def on_changes(self, session: Session, changes: Sequence[Named]) -> None:
        """Apply what concerns consent."""
        self.apply(session, [change.object for change in changes if change.kind in BY_RECORD])
        numbers = [change.n for change in changes if change.kind in BY_NUMBER]
        if numbers:
            self._refresh(session, subjects_of(session, changes=numbers))
        self._refresh(session, {(dataset, sref) for sref in erased_by(changes) for dataset in self._datasets})

    def apply(self, session: Session, names: Iterable[str]) -> None:
        """Bring the subjects of these records, as `consent.records.name_of` names them, to what the database says now.

        The records are read, not the change: so one that arrives late finds what came after it, and undoes nothing.
        """
        self._refresh(session, {(dataset, sref) for dataset, sref, _ in (name.split(" ") for name in names)})

    def view(self, dataset: str, purposes: frozenset[str], recipient: str, *, unless_opted_out: bool = False) -> View:
        """The question of one contract, for a hot loop: `view(sref, appended_ms, now_ms)`.

        `purposes` are the contract's purpose and all its broader ones. An event passes if a record of its subject covers one of them
        and the recipient, is valid now, and, unless its notice covers earlier events, was in force when the event was appended.
        `unless_opted_out`: it passes without consent too, if its subject has not objected to any of that.
        """
        key = (dataset, purposes, recipient, unless_opted_out)
        if key not in self._views:
            subjects, rare = self._of(dataset)
            made = (
                _opt_out_view(rare.words, purposes, recipient)
                if unless_opted_out
                else _view(subjects, rare, self._numbered, purposes, recipient)
            )
            self._views[key] = made
        return self._views[key]

    def doubt_view(self, dataset: str, purposes: frozenset[str], recipient: str) -> DoubtView:
        """What of `view` can be told of many subjects at once: the others than those in doubt pass, unasked."""
        settled = self._settled.setdefault(dataset, {})
        decided: set[Scope] = set()
        covering: list[Settled] = []

        def doubts(srefs: frozenset[str], now_ms: int) -> Doubts:
            for scope, members in tuple(settled.items()):
                if scope not in decided:
                    decided.add(scope)
                    if scope.covers(purposes, recipient):
                        covering.append(members)
            left, since_ms = srefs, 0
            # The largest first: whoever is found is not looked for again.
            for members in sorted(covering, key=Settled.size, reverse=True):
                before, left = left, members.without(left, now_ms)
                if len(left) < len(before):
                    since_ms = max(since_ms, members.newest)
            return left, since_ms

        return doubts

    def covers(self, dataset: str, purposes: frozenset[str], recipient: str, sref: str, appended_ms: int, now_ms: int) -> bool:
        """`view` for one event."""
        return self.view(dataset, purposes, recipient)(sref, appended_ms, now_ms)

    def next_instant(self, now_ms: int) -> int:
        """The next instant, in milliseconds since 1970, at which a record begins or ends by time alone; `FOREVER` if none does."""
        with self._lock:
            if self._instants and self._instants[0] <= now_ms:
                self._pass(now_ms)
            return self._instants[0] if self._instants else FOREVER

    def _pass(self, now_ms: int) -> None:
        while self._instants and self._instants[0] <= now_ms:
            self._awaited.discard(heappop(self._instants))
        for by_scope in tuple(self._settled.values()):
            for settled in tuple(by_scope.values()):
                settled.end(now_ms)

    def _of(self, dataset: str) -> tuple[dict[str, Held], Rare]:
        # The same objects for each dataset, for good: views hold on to them.
        found = self._datasets.get(dataset)
        return found if found is not None else self._datasets.setdefault(dataset, ({}, Rare()))

    def _refresh(self, session: Session, subjects: Iterable[tuple[str, str]]) -> None:
        """Read all records of these people, and replace what is held of each."""
        remaining = iter(subjects)
        while group := list(islice(remaining, AT_ONCE)):
            fresh: dict[tuple[str, str], list[IndexRow]] = {key: [] for key in group}
            for row in rows(session, states=("given", *OBJECTIONS), srefs={sref for _, sref in group}):
                if (row.dataset, as_text(row.sref)) in fresh:
                    fresh[row.dataset, as_text(row.sref)].append(row)
            gone_by = earlier_intervals(session, [row for row in chain(*fresh.values()) if row.state == "given" and row.resumed_at])
            for (dataset, sref), found in fresh.items():
                self._replace(dataset, sref, found, gone_by)

    def _replace(self, dataset: str, sref: str, found: Sequence[IndexRow], gone_by: dict[str, list[Interval]]) -> None:
        subjects, rare = self._of(dataset)
        held: Held | None = None
        windows: list[Window] = []
        self._unsettle(dataset, sref)
        for row in found:
            if row.state == "given" and row.plain:
                held = self._held(row, held)
                self._settle(sref, row, held)
            elif row.state == "given":
                windows += self._windows(row, gone_by.get(row.id, []))
        _put(rare.windows, sref, tuple(windows))
        _put(rare.words, sref, self._words(found))
        _put(subjects, sref, held)

    def _settle(self, sref: str, row: IndexRow, held: Held) -> None:
        if row.begins_later:
            return
        since, until, number, _ = held
        scope = self._numbered[number]
        with self._lock:
            by_scope = self._settled.setdefault(row.dataset, {})
            settled = by_scope.get(scope) or by_scope.setdefault(scope, Settled())
            settled.add(sref, since, until)

    def _unsettle(self, dataset: str, sref: str) -> None:
        with self._lock:
            for settled in self._settled.get(dataset, {}).values():
                settled.discard(sref)

    def _held(self, row: IndexRow, others: Held | None) -> Held:
        since, until = self._validity(row)
        return (0 if row.covers_earlier else since, until, self._scope(row).number, others)

    def _windows(self, row: IndexRow, gone_by: Iterable[Interval]) -> list[Window]:
        since, until = self._validity(row)
        scope = self._scope(row)
        if row.covers_earlier:
            return [(0, FOREVER, since, until, scope)]
        intervals = [*((max(began, row.valid_from), ended) for began, ended in gone_by), (since, FOREVER)]
        return [(began, ended, since, until, scope) for began, ended in intervals if began < ended]

    def _words(self, found: Sequence[IndexRow]) -> tuple[Word, ...]:
        if not any(row.state in OBJECTIONS for row in found):
            return ()
        words = sorted(found, key=lambda row: row.change, reverse=True)
        return tuple((self._scope(row), self._validity(row) if row.state == "given" else None) for row in words)

    def _validity(self, row: IndexRow) -> tuple[int, int]:
        since, until = row.validity
        self._await(until)
        if row.begins_later:
            self._await(since)
        return since, until

    def _scope(self, row: IndexRow) -> Scope:
        scope = self._scopes.get((row.purposes, row.recipients))
        if scope is None:
            scope = Scope(len(self._numbered), json.loads(row.purposes), json.loads(row.recipients))
            self._numbered.append(scope)
            self._scopes[row.purposes, row.recipients] = scope
        return scope

    def _await(self, instant: int) -> None:
        if instant == FOREVER:
            return
        with self._lock:
            if instant not in self._awaited:
                self._awaited.add(instant)
                heappush(self._instants, instant)


def _put(of: dict[str, Any], sref: str, value: object) -> None:
    if value:
        of[sref] = value
    else:
        of.pop(sref, None)


def _view(subjects: dict[str, Held], rare: Rare, scopes: Sequence[Scope], purposes: frozenset[str], recipient: str) -> View:
    held_of, windows = subjects.get, rare.windows
    decided: dict[int, bool] = {}

    def passes(sref: str, appended_ms: int, now_ms: int) -> bool:
        held = held_of(sref)
        while held is not None:
            since, until, number, held = held
            if since <= appended_ms and since <= now_ms < until:
                covered = decided.get(number)
                if covered is None:
                    covered = decided[number] = scopes[number].covers(purposes, recipient)
                if covered:
                    return True
        for began, ended, since, until, scope in windows.get(sref, ()):
            if began <= appended_ms < ended and since <= now_ms < until and scope.covers(purposes, recipient):
                return True
        return False

    return passes


def _opt_out_view(words: dict[str, tuple[Word, ...]], purposes: frozenset[str], recipient: str) -> View:
    def passes(sref: str, appended_ms: int, now_ms: int) -> bool:
        for scope, validity in words.get(sref, ()):
            if not scope.covers(purposes, recipient):
                continue
            if validity is None:
                return False
            since, until = validity
            if since <= appended_ms and since <= now_ms < until:
                return True
        return True

    return passes
