"""Storing many entries at once. On PostgreSQL that is one statement: one round trip, and a transaction by itself.

While the event loop computes, every answer of the database that the audit writer waits for costs it a turn of the interpreter. And
while PostgreSQL works on what was sent, the writer makes the next ready.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

import psycopg
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy import BigInteger, Engine, Integer, LargeBinary, Select, String, insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.models import AuditEntry, AuditPending, PublishedRange
from gateway.audit.record import LOOKED_BACK_AT
from gateway.audit.verify import BACK
from gateway.database import Moment

Row = dict[str, Any]
FEW = 32
"""Entries that are written in one call. It lets go of the interpreter once; to wait beside making the next ready does so six times, and
each time the event loop loses its turn.
"""


class Refused(Exception):
    """The guard found no row, or the log is further by now than its time may go back; nothing was written."""


class Store(Protocol):
    """A connection of its own, kept: a pool would ask before each use whether it lives, and tidy up after.

    `send`, then `finish`, one after the other.
    """

    def send(self, entries: Sequence[Row], spans: Sequence[Row], guard: Select[Any] | None = None) -> None:
        """Insert rows of `AuditEntry`, numbered in their order, and of `PublishedRange`: all of them, durably, or none; `finish` says
        which. With a `guard` none, unless that query finds a row in the same transaction.

        All entries are of one instant. None is written if the log's newest ones are more than `BACK` later: what a network has held back
        comes when others have gone on, and its sender may be gone. SQLite has no network.

        PostgreSQL works on it when this returns; SQLite has done it, and raises `Refused` here. Raises psycopg's or SQLAlchemy's errors.
        """

    def is_answered(self, within_s: float) -> bool:
        """True if `finish` need not wait any more; False after so long."""

    def finish(self) -> None:
        """Return when what was sent is durable. Raises `Refused`, psycopg's `Error`."""

    def close(self) -> None: ...


def connect(engine: Engine) -> Store:
    return _Postgres(engine) if engine.dialect.name == "postgresql" else _Sqlite(engine)


class _Sqlite:
    def __init__(self, engine: Engine) -> None:
        self._connection = engine.connect()

    def send(self, entries: Sequence[Row], spans: Sequence[Row], guard: Select[Any] | None = None) -> None:
        with self._connection.begin():
            if guard is not None and self._connection.execute(guard).first() is None:
                raise Refused
            if entries:
                numbers = self._connection.scalars(insert(AuditEntry).returning(AuditEntry.number), entries)
                self._connection.execute(insert(AuditPending), [{"number": number} for number in numbers])
            if spans:
                self._connection.execute(insert(PublishedRange), spans)

    def is_answered(self, within_s: float) -> bool:  # noqa: ARG002 - `send` has written all, so there is nothing to wait for
        return True

    def finish(self) -> None:
        """It is."""

    def close(self) -> None:
        with suppress(SQLAlchemyError):
            self._connection.invalidate()
            self._connection.close()


class _Postgres:
    """By libpq's own calls: a statement outside a transaction is one by itself."""

    def __init__(self, engine: Engine) -> None:
        self._pooled = engine.raw_connection()
        driver = self._pooled.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self._driver: PGconn = driver.pgconn
        self._prepared: list[bytes] = []
        self._done: PGresult | None = None
        self._answer = select.poll()
        self._answer.register(self._driver.socket, select.POLLIN)

    def send(self, entries: Sequence[Row], spans: Sequence[Row], guard: Select[Any] | None = None) -> None:
        statement = _one_statement(guard)
        if statement not in self._prepared:  # another guard is another statement: few in the life of a process
            self._prepared.append(statement)
            _require(self._driver.prepare(b"audit_%d" % len(self._prepared), statement))
        name = b"audit_%d" % (1 + self._prepared.index(statement))
        arrays = [*_arrays(AuditEntry, entries), *_arrays(PublishedRange, spans)]
        formats = [Format.BINARY] * len(arrays)
        if len(entries) <= FEW:
            self._done = self._driver.exec_prepared(name, arrays, formats)
        else:
            self._driver.send_query_prepared(name, arrays, formats)

    def is_answered(self, within_s: float) -> bool:
        return self._done is not None or bool(self._answer.poll(within_s * 1000))

    def finish(self) -> None:
        result, self._done = self._done or self._answered(), None
        if _require(result).get_value(0, 0) != b"t":
            raise Refused

    def _answered(self) -> PGresult:
        while self._driver.is_busy():
            self._answer.poll()  # who waits lets go of the interpreter
            self._driver.consume_input()
        result = self._driver.get_result()
        assert result is not None
        while self._driver.get_result() is not None:  # none is its end
            pass
        return result

    def close(self) -> None:
        with suppress(SQLAlchemyError, psycopg.Error):
            self._pooled.invalidate()
            self._pooled.close()


def _require(result: PGresult) -> PGresult:
    if result.status not in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
        raise psycopg.errors.error_from_result(result)
    return result


@dataclass(frozen=True, slots=True)
class _Type:
    """A type of PostgreSQL: its name, its number in `pg_type`, and how it writes a value in binary."""

    name: str
    oid: int
    write: Callable[[Any], bytes]


_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=16)
def _microseconds(at: datetime) -> bytes:
    return ((at - _EPOCH) // timedelta(microseconds=1)).to_bytes(8, signed=True)


_TYPES = {
    Moment: _Type("timestamptz", 1184, _microseconds),
    LargeBinary: _Type("bytea", 17, bytes),
    String: _Type("text", 25, str.encode),
    BigInteger: _Type("bigint", 20, lambda number: number.to_bytes(8, signed=True)),
    Integer: _Type("integer", 23, lambda number: number.to_bytes(4, signed=True)),
}
_ABSENT = (-1).to_bytes(4, signed=True)


@lru_cache
def _columns(model: type[AuditEntry | PublishedRange]) -> list[tuple[str, _Type]]:
    """Every column but the number, and its type. Raises `KeyError` for a type that is new here."""
    return [(column.name, _TYPES[type(column.type)]) for column in model.__table__.columns if column.name != "number"]


def _arrays(model: type[AuditEntry | PublishedRange], rows: Sequence[Row]) -> list[bytes]:
    """An array a column, in PostgreSQL's binary form (`array_recv`): parsing JSON costs it more than storing what it says."""
    return [_array(kind, [row[name] for row in rows]) for name, kind in _columns(model)]


def _array(kind: _Type, values: Sequence[Any]) -> bytes:
    """One dimension from 1 on, which may hold NULL; each value after its length in bytes."""
    parts = [b"".join(number.to_bytes(4) for number in (1, 1, kind.oid, len(values), 1))]
    write = kind.write
    for value in values:
        if value is None:
            parts.append(_ABSENT)
        else:
            data = write(value)
            parts += (len(data).to_bytes(4), data)
    return b"".join(parts)


def _insert(model: type[AuditEntry | PublishedRange], first: int) -> str:
    """`INSERT ... SELECT` of arrays, of which `first` is the first parameter's number, in their order."""
    columns = _columns(model)
    names = ", ".join(f'"{name}"' for name, _ in columns)
    arrays = ", ".join(f"${number}::{kind.name}[]" for number, (_, kind) in enumerate(columns, first))
    rows = f"unnest({arrays}) AS rows({names})"
    return f"INSERT INTO {model.__table__} ({names}) SELECT {names} FROM {rows} WHERE EXISTS (SELECT FROM may)"  # noqa: S608 - our own names


@lru_cache(maxsize=4)
def _one_statement(guard: Select[Any] | None) -> bytes:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    query = "SELECT 1" if guard is None else str(guard.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    entries, spans = _insert(AuditEntry, 1), _insert(PublishedRange, 1 + len(_columns(AuditEntry)))
    pending = f"INSERT INTO {AuditPending.__table__} (number) SELECT number FROM entries"  # noqa: S608 - our own names
    instant = 1 + [name for name, _ in _columns(AuditEntry)].index("at")
    newest = f"SELECT max(at) FROM (SELECT at FROM {AuditEntry.__table__} ORDER BY number DESC LIMIT {LOOKED_BACK_AT}) AS newest"  # noqa: S608 - our own names
    is_late = f"({newest}) > (${instant}::timestamptz[])[1] + interval '{BACK}'"
    # Materialised, so that it is asked once and its lock is held to the end.
    may = f"guard AS MATERIALIZED ({query}), may AS MATERIALIZED (SELECT FROM guard WHERE ({is_late}) IS NOT TRUE)"
    added = f"entries AS ({entries} RETURNING number), pending AS ({pending}), spans AS ({spans})"
    return f"WITH {may}, {added} SELECT EXISTS (SELECT FROM may)".encode()  # noqa: S608 - our own names
