"""Storing many entries at once. On PostgreSQL that is one statement: one round trip, and a transaction by itself.

While the event loop computes, every answer of the database that the audit writer waits for costs it a turn of the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson
import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import BigInteger, Column, Connection, Engine, Integer, LargeBinary, Select, String, Table, insert
from sqlalchemy.dialects import postgresql

from gateway.audit.models import AuditEntry, AuditPending, PublishedRange
from gateway.database import Moment

Row = dict[str, Any]


def connect(engine: Engine) -> Connection:
    """A connection for `store`."""
    if engine.dialect.name == "postgresql":
        return engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    return engine.connect()


class Refused(Exception):
    """The guard found no row, and nothing was written."""


def store(connection: Connection, entries: Sequence[Row], spans: Sequence[Row], guard: Select[Any] | None = None) -> None:
    """Insert rows of `AuditEntry`, numbered in their order, and of `PublishedRange`: all of them, durably, or none.

    With a `guard` none, unless that query finds a row in the same transaction. Raises `Refused`.
    """
    with connection.begin():
        if connection.dialect.name == "postgresql":
            if not _execute(connection, _one_statement(guard), [_json(entries), _json(spans)]):
                raise Refused
            return
        if guard is not None and connection.execute(guard).first() is None:
            raise Refused
        if entries:
            numbers = connection.scalars(insert(AuditEntry).returning(AuditEntry.number), entries)
            connection.execute(insert(AuditPending), [{"number": number} for number in numbers])
        if spans:
            connection.execute(insert(PublishedRange), spans)


def _execute(connection: Connection, statement: bytes, documents: list[bytes]) -> bool:
    """Run the one statement by a single call of libpq, which lets go of the interpreter until the answer is there.

    Raises psycopg's `Error`.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    prepared = connection.info.setdefault("audit", [])  # what is kept with the driver's connection
    if statement not in prepared:  # another guard is another statement: few in the life of a process
        prepared.append(statement)
        _require(driver.pgconn.prepare(b"audit_%d" % len(prepared), statement))
    result = _require(driver.pgconn.exec_prepared(b"audit_%d" % (1 + prepared.index(statement)), [*documents]))
    return result.get_value(0, 0) == b"t"


def _require(result: PGresult) -> PGresult:
    if result.status not in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
        raise psycopg.errors.error_from_result(result)
    return result


def _json(rows: Sequence[Row]) -> bytes:
    return orjson.dumps(rows, default=bytes.hex)


def _insert_from_json(model: type[AuditEntry | PublishedRange], parameter: str) -> str:
    """`INSERT ... SELECT` of a JSON array of rows, in its order, into every column but the number."""
    table = model.__table__
    assert isinstance(table, Table)
    columns = [column for column in table.columns if column.name != "number"]
    names = ", ".join(f'"{column.name}"' for column in columns)
    values = ", ".join(f"decode(\"{column.name}\", 'hex')" if _is_binary(column) else f'"{column.name}"' for column in columns)
    definitions = ", ".join(f'"{column.name}" {_json_type(column)}' for column in columns)
    rows = f"json_to_recordset({parameter}::json) AS rows({definitions})"
    return f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {rows} WHERE EXISTS (SELECT FROM guard)"  # noqa: S608 - our own names


def _is_binary(column: Column[Any]) -> bool:
    return isinstance(column.type, LargeBinary)


def _json_type(column: Column[Any]) -> str:
    """The type as which PostgreSQL reads the column's JSON. Raises `KeyError` for a column that is new here."""
    types = {Moment: "timestamptz", LargeBinary: "text", String: "text", BigInteger: "bigint", Integer: "integer"}
    return types[type(column.type)]


@lru_cache(maxsize=4)
def _one_statement(guard: Select[Any] | None) -> bytes:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    query = "SELECT 1" if guard is None else str(guard.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    entries, spans = _insert_from_json(AuditEntry, "$1"), _insert_from_json(PublishedRange, "$2")
    pending = f"INSERT INTO {AuditPending.__table__} (number) SELECT number FROM entries"  # noqa: S608 - our own names
    # Materialised, so that it is asked once and its lock is held to the end.
    parts = f"guard AS MATERIALIZED ({query}), entries AS ({entries} RETURNING number), pending AS ({pending}), spans AS ({spans})"
    return f"WITH {parts} SELECT EXISTS (SELECT FROM guard)".encode()  # noqa: S608 - our own names
