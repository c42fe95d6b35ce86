"""Storing many entries at once. On PostgreSQL that is one statement: one round trip, and a transaction by itself.

While the event loop computes, every answer of the database that the audit writer waits for costs it a turn of the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import BigInteger, Column, Connection, Engine, Integer, LargeBinary, String, Table, insert

from gateway.audit.models import AuditEntry, PublishedRange
from gateway.database import Moment

Row = dict[str, Any]


def connect(engine: Engine) -> Connection:
    """A connection for `store`."""
    if engine.dialect.name == "postgresql":
        return engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    return engine.connect()


def store(connection: Connection, entries: Sequence[Row], spans: Sequence[Row]) -> None:
    """Insert rows of `AuditEntry`, numbered in their order, and of `PublishedRange`: all of them, durably, or none."""
    with connection.begin():
        if connection.dialect.name == "postgresql":
            _execute(connection, [_json(entries), _json(spans)])
            return
        if entries:
            connection.execute(insert(AuditEntry), entries)
        if spans:
            connection.execute(insert(PublishedRange), spans)


def _execute(connection: Connection, documents: list[bytes]) -> None:
    """Run the one statement by a single call of libpq, which lets go of the interpreter until the answer is there.

    Raises psycopg's `Error`.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    if "audit" not in connection.info:  # what is kept with the driver's connection
        _require(driver.pgconn.prepare(b"audit", _ONE_STATEMENT.encode()))
        connection.info["audit"] = True
    _require(driver.pgconn.exec_prepared(b"audit", [*documents]))


def _require(result: PGresult) -> None:
    if result.status != ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result)


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
    return f"INSERT INTO {table.name} ({names}) SELECT {values} FROM json_to_recordset({parameter}::json) AS rows({definitions})"  # noqa: S608 - our own names


def _is_binary(column: Column[Any]) -> bool:
    return isinstance(column.type, LargeBinary)


def _json_type(column: Column[Any]) -> str:
    """The type as which PostgreSQL reads the column's JSON. Raises `KeyError` for a column that is new here."""
    types = {Moment: "timestamptz", LargeBinary: "text", String: "text", BigInteger: "bigint", Integer: "integer"}
    return types[type(column.type)]


_ONE_STATEMENT = f"WITH entries AS ({_insert_from_json(AuditEntry, '$1')}) {_insert_from_json(PublishedRange, '$2')}"
