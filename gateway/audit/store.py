"""Storing many entries at once. On PostgreSQL that is one statement: one round trip, and a transaction by itself.

While the event loop computes, every answer of the database that the audit writer waits for costs it a turn of the interpreter. And
while PostgreSQL works on what was sent, the writer makes the next ready.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy import BigInteger, Connection, Engine, Integer, LargeBinary, Select, String, insert
from sqlalchemy.dialects import postgresql

from gateway.audit.models import AuditEntry, AuditPending, PublishedRange
from gateway.database import Moment

Row = dict[str, Any]


def connect(engine: Engine) -> Connection:
    """A connection for `send` and `finish`, one after the other."""
    if engine.dialect.name == "postgresql":
        return engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    return engine.connect()


class Refused(Exception):
    """The guard found no row, and nothing was written."""


def send(connection: Connection, entries: Sequence[Row], spans: Sequence[Row], guard: Select[Any] | None = None) -> None:
    """Insert rows of `AuditEntry`, numbered in their order, and of `PublishedRange`: all of them, durably, or none; `finish` says which.

    With a `guard` none, unless that query finds a row in the same transaction. PostgreSQL works on it when this returns; SQLite has
    done it, and raises `Refused` here.
    """
    transaction = connection.begin()
    if connection.dialect.name == "postgresql":
        _send(_driver(connection), connection.info, _one_statement(guard), [*_arrays(AuditEntry, entries), *_arrays(PublishedRange, spans)])
        return
    with transaction:
        if guard is not None and connection.execute(guard).first() is None:
            raise Refused
        if entries:
            numbers = connection.scalars(insert(AuditEntry).returning(AuditEntry.number), entries)
            connection.execute(insert(AuditPending), [{"number": number} for number in numbers])
        if spans:
            connection.execute(insert(PublishedRange), spans)


def is_answered(connection: Connection, within_s: float) -> bool:
    """True if `finish` need not wait any more; False after so long. Raises psycopg's `Error`."""
    return connection.get_transaction() is None or bool(_answer_of(_driver(connection)).poll(within_s * 1000))


def finish(connection: Connection) -> None:
    """Return when what was sent is durable. Raises `Refused`, psycopg's `Error`."""
    transaction = connection.get_transaction()
    if transaction is None:  # SQLite
        return
    with transaction:
        if _result(_driver(connection)).get_value(0, 0) != b"t":
            raise Refused


def _driver(connection: Connection) -> PGconn:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver.pgconn


def _send(driver: PGconn, kept: dict[Any, Any], statement: bytes, arrays: list[bytes]) -> None:
    """Start the one statement; `kept` is what is kept with the driver's connection. Raises psycopg's `Error`."""
    prepared = kept.setdefault("audit", [])
    if statement not in prepared:  # another guard is another statement: few in the life of a process
        prepared.append(statement)
        _require(driver.prepare(b"audit_%d" % len(prepared), statement))
    name = b"audit_%d" % (1 + prepared.index(statement))
    driver.send_query_prepared(name, [*arrays], [Format.BINARY] * len(arrays))


def _answer_of(driver: PGconn) -> select.poll:
    answer = select.poll()
    answer.register(driver.socket, select.POLLIN)
    return answer


def _result(driver: PGconn) -> PGresult:
    """The answer, when it is there; who waits for it lets go of the interpreter."""
    while driver.is_busy():
        _answer_of(driver).poll()
        driver.consume_input()
    result = driver.get_result()
    assert result is not None
    while driver.get_result() is not None:  # none is its end
        pass
    return _require(result)


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
    return f"INSERT INTO {model.__table__} ({names}) SELECT {names} FROM {rows} WHERE EXISTS (SELECT FROM guard)"  # noqa: S608 - our own names


@lru_cache(maxsize=4)
def _one_statement(guard: Select[Any] | None) -> bytes:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    query = "SELECT 1" if guard is None else str(guard.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    entries, spans = _insert(AuditEntry, 1), _insert(PublishedRange, 1 + len(_columns(AuditEntry)))
    pending = f"INSERT INTO {AuditPending.__table__} (number) SELECT number FROM entries"  # noqa: S608 - our own names
    # Materialised, so that it is asked once and its lock is held to the end.
    parts = f"guard AS MATERIALIZED ({query}), entries AS ({entries} RETURNING number), pending AS ({pending}), spans AS ({spans})"
    return f"WITH {parts} SELECT EXISTS (SELECT FROM guard)".encode()  # noqa: S608 - our own names
