"""Storing many entries at once. On PostgreSQL that is one statement: one round trip, and a transaction by itself.

While the event loop computes, every answer of the database that the audit writer waits for costs it a turn of the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
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
            connection.exec_driver_sql(_ONE_STATEMENT, (_json(entries), _json(spans)))
            return
        if entries:
            connection.execute(insert(AuditEntry), entries)
        if spans:
            connection.execute(insert(PublishedRange), spans)


def _json(rows: Sequence[Row]) -> str:
    return orjson.dumps(rows, default=bytes.hex).decode()


def _insert_from_json(model: type[AuditEntry | PublishedRange]) -> str:
    """`INSERT ... SELECT` of a JSON array of rows, in its order, into every column but the number."""
    table = model.__table__
    assert isinstance(table, Table)
    columns = [column for column in table.columns if column.name != "number"]
    names = ", ".join(f'"{column.name}"' for column in columns)
    values = ", ".join(f"decode(\"{column.name}\", 'hex')" if _is_binary(column) else f'"{column.name}"' for column in columns)
    definitions = ", ".join(f'"{column.name}" {_json_type(column)}' for column in columns)
    return f"INSERT INTO {table.name} ({names}) SELECT {values} FROM json_to_recordset(%s::json) AS rows({definitions})"  # noqa: S608 - our own names


def _is_binary(column: Column[Any]) -> bool:
    return isinstance(column.type, LargeBinary)


def _json_type(column: Column[Any]) -> str:
    """The type as which PostgreSQL reads the column's JSON. Raises `KeyError` for a column that is new here."""
    types = {Moment: "timestamptz", LargeBinary: "text", String: "text", BigInteger: "bigint", Integer: "integer"}
    return types[type(column.type)]


_ONE_STATEMENT = f"WITH entries AS ({_insert_from_json(AuditEntry)}) {_insert_from_json(PublishedRange)}"
