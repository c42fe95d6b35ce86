"""What was delivered under a contract, by day: added up from the log's releases, so that a bill and the log cannot differ."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Integer, String, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from gateway.audit.models import AuditEntry


class Day(NamedTuple):
    """A day in UTC, the events that left on it and their bytes."""

    day: str
    events: int
    bytes: int


def usage(session: Session, contract_id: str, since: datetime | None = None) -> list[Day]:
    """The days with deliveries under this contract, in order. A grant that never was closed has no count; retention takes days away."""
    day, events, size = _of_postgresql() if session.get_bind().dialect.name == "postgresql" else _of_sqlite()
    recent = [AuditEntry.at >= since] if since is not None else []
    statement = (
        select(day.label("day"), func.sum(events), func.sum(size))
        .where(AuditEntry.contract == contract_id, AuditEntry.kind == "release", events.is_not(None), *recent)
        .group_by("day")
        .having(func.sum(events) > 0)
        .order_by("day")
    )
    return [Day(found, int(count), int(total)) for found, count, total in session.execute(statement)]


def _of_postgresql() -> tuple[ColumnElement[str], ColumnElement[Any], ColumnElement[Any]]:
    said = cast(func.convert_from(AuditEntry.entry, "UTF8"), JSONB)
    return (
        func.to_char(func.timezone("UTC", AuditEntry.at), "YYYY-MM-DD"),
        cast(said["closed"]["events"].astext, BigInteger),
        cast(said["closed"]["bytes"].astext, BigInteger),
    )


def _of_sqlite() -> tuple[ColumnElement[str], ColumnElement[Any], ColumnElement[Any]]:
    said = cast(AuditEntry.entry, String)
    return (
        func.substr(cast(AuditEntry.at, String), 1, 10),
        cast(func.json_extract(said, "$.closed.events"), Integer),
        cast(func.json_extract(said, "$.closed.bytes"), Integer),
    )
