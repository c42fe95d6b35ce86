"""What the consent index reads of the records, as narrow rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Text, cast, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from consent.models import ConsentRecord, StateChange
from consent.records import AT_ONCE
from consent.subjects import as_bytes, as_text

FOREVER = 1 << 62
"""Milliseconds since 1970 that do not come."""

Interval = tuple[int, int]
"""(the first millisecond, the one after the last)."""


AT_ONCE_LOADED = 10_000
"""Rows that the database hands over at once."""


class _Milliseconds(GenericFunction[int]):
    """Of a moment, since 1970, cut off. The database works it out: to make a `datetime` of each of a million moments takes longer."""

    type = BigInteger()
    inherit_cache = True
    name = "milliseconds"


@compiles(_Milliseconds)
def _in_postgresql(made: _Milliseconds, compiler: SQLCompiler, **how: Any) -> str:
    return f"floor(extract(epoch FROM {compiler.process(made.clauses, **how)}) * 1000)::bigint"


@compiles(_Milliseconds, "sqlite")
def _in_sqlite(made: _Milliseconds, compiler: SQLCompiler, **how: Any) -> str:
    # Which keeps `2026-11-23 12:00:00.250900`.
    moment = compiler.process(made.clauses, **how)
    return f"(CAST(strftime('%s', {moment}) AS INTEGER) * 1000 + CAST(substr({moment}, 21, 3) AS INTEGER))"


class IndexRow(NamedTuple):
    """A record, as far as the index needs it: times in milliseconds since 1970.

    `purposes` and `recipients` are JSON text: equal ones are parsed once.
    """

    id: str
    dataset: str
    sref: bytes
    state: str
    purposes: str
    recipients: str
    valid_from: int
    valid_until: int | None
    given_at: int | None
    resumed_at: int | None
    covers_earlier: bool
    change: int

    @property
    def plain(self) -> bool:
        """True if one interval tells all: it was never paused, and reaches back to what is earlier only if it is in force already."""
        return self.resumed_at is None and not (self.covers_earlier and self.begins_later)

    @property
    def begins_later(self) -> bool:
        """True if it was given before the time from which it is valid."""
        return self.given_at is not None and self.valid_from > self.given_at

    @property
    def validity(self) -> Interval:
        """From when, since it was last given, and until when it is in force."""
        given_at = self.resumed_at or self.given_at or self.valid_from
        return max(given_at, self.valid_from), FOREVER if self.valid_until is None else self.valid_until


def rows(session: Session, *, states: Sequence[str], srefs: Iterable[str] | None = None) -> Iterator[IndexRow]:
    """The records in these states, of everybody or of these people; those of one person in the order in which they were made."""
    row = ConsentRecord
    statement = select(
        *(row.id, row.dataset, row.sref, row.state, cast(row.purposes, Text), cast(row.recipients, Text)),
        *(_Milliseconds(moment) for moment in (row.valid_from, row.valid_until, row.given_at, row.resumed_at)),
        *(row.covers_earlier, row.change),
    ).where(row.state.in_(states))
    if srefs is not None:
        statement = statement.where(row.sref.in_({as_bytes(sref) for sref in srefs}))
    # Not by the session, which would look through each row for objects that are its own.
    found = session.connection().execute(statement, execution_options={"yield_per": AT_ONCE_LOADED})
    return map(IndexRow._make, found)


def subjects_of(
    session: Session, *, states: Sequence[str] = (), or_not_plain: bool = False, changes: Iterable[int] = ()
) -> Iterator[tuple[str, str]]:
    """(dataset, sref) of those who have a record in one of these states, or one that is not plain, or one under one of these changes."""
    row = ConsentRecord
    wanted: list[ColumnElement[bool]] = [row.state.in_(states)] if states else []
    if or_not_plain:
        wanted.append((row.state == "given") & (row.resumed_at.is_not(None) | row.covers_earlier & (row.valid_from > row.given_at)))
    remaining = iter(changes)
    while numbers := list(islice(remaining, AT_ONCE)):
        wanted.append(row.change.in_(numbers))
    found = session.execute(select(row.dataset, row.sref).where(or_(*wanted)).distinct()).all()
    return ((dataset, as_text(sref)) for dataset, sref in found)


def earlier_intervals(session: Session, resumed: Sequence[IndexRow]) -> dict[str, list[Interval]]:
    """For each of these records, when it was in force before its last pause, from its history."""
    made: dict[str, list[Interval]] = {}
    if not resumed:
        return made
    began: dict[str, int] = {}
    step = StateChange
    statement = select(step.consent_id, step.state, step.at).where(step.consent_id.in_([row.id for row in resumed]))
    for consent_id, state, at in session.execute(statement.order_by(step.consent_id, step.number)):
        if state == "given":
            began[consent_id] = floor_ms(at)
        elif state == "paused":
            made.setdefault(consent_id, []).append((began[consent_id], floor_ms(at)))
    return made


def floor_ms(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000
