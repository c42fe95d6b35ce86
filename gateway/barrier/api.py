"""The replicas: who is live, what each has confirmed, and how long barriers took."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.audit.models import AuditEntry
from gateway.barrier.models import Lease
from gateway.barrier.wait import KIND
from gateway.changes import last
from gateway.database import Reading, now, rfc3339
from gateway.errors import ExchangeError
from gateway.identity.principal import Allow, Principal, challenge

router = APIRouter(prefix="/v1/replicas", tags=["operations"])

RECENT = 100
"""Barriers of which the answer tells."""
SHOWN: dict[str, Any] = {
    "id": "exchange-1:8080",
    "incarnation": "run_01kaqv8f7e9n3p5r7t9w1y3a5c",
    "address": "10.0.0.1:8080",
    "state": "live",
    "joined_at": "2026-11-23T12:00:00.250Z",
    "renewed_at": "2026-11-23T12:30:00.125Z",
    "beat": 3600,
    "confirmed": 4711,
    "behind": 0,
    "fenced_at": None,
    "fenced_by": None,
}


class ReplicaDocument(BaseModel):
    """One start of one replica. `silent`: it has not renewed for longer than it may, by this machine's clock, which decides nothing."""

    model_config = ConfigDict(json_schema_extra={"examples": [SHOWN]})

    id: str
    incarnation: str
    address: str
    state: Literal["live", "silent", "fenced"]
    joined_at: str
    renewed_at: str
    beat: int
    confirmed: int
    behind: int
    fenced_at: str | None
    fenced_by: str | None


class BarriersDocument(BaseModel):
    """The last barriers that passed: how many are told of, and how long the middle one, the slowest and the last one took."""

    count: int
    median_ms: int | None
    slowest_ms: int | None
    last_ms: int | None


class ReplicasDocument(BaseModel):
    """`change` is the number of the last change that is committed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [SHOWN], "change": 4711, "barriers": {"count": 100, "median_ms": 14, "slowest_ms": 212, "last_ms": 12}}],
        },
    )

    items: list[ReplicaDocument]
    change: int
    barriers: BarriersDocument


def _overseer(request: Request, caller: Annotated[Principal, Allow()]) -> Principal:
    if "audit:read" not in caller.scopes and "operator" not in caller.roles:
        header = challenge(request, error="insufficient_scope", scope="audit:read")
        raise ExchangeError("scope_missing", "This needs audit:read, or the role operator.", headers={"WWW-Authenticate": header})
    return caller


@router.get("", summary="The replicas of this exchange")
def list_replicas(session: Reading, _caller: Annotated[Principal, Depends(_overseer)]) -> ReplicasDocument:
    """Who is live, what each has confirmed, and how long barriers took. Fenced replicas are shown for a day."""
    change = last(session)
    rows = session.scalars(select(Lease).order_by(Lease.fenced, Lease.id, Lease.incarnation)).all()
    return ReplicasDocument(items=[_shown(row, change) for row in rows], change=change, barriers=_barriers(session))


def _shown(row: Lease, change: int) -> ReplicaDocument:
    return ReplicaDocument(
        id=row.id,
        incarnation=row.incarnation,
        address=row.address,
        state=row.state(now()),
        joined_at=rfc3339(row.joined_at),
        renewed_at=rfc3339(row.renewed_at),
        beat=row.beat,
        confirmed=row.confirmed,
        behind=max(0, change - row.confirmed),
        fenced_at=rfc3339(row.fenced_at) if row.fenced_at else None,
        fenced_by=row.fenced_by,
    )


def _barriers(session: Session) -> BarriersDocument:
    recent = select(AuditEntry.entry).where(AuditEntry.kind == KIND).order_by(AuditEntry.number.desc()).limit(RECENT)
    took = [int(orjson.loads(entry)["detail"]["waited_ms"]) for entry in session.scalars(recent)]
    if not took:
        return BarriersDocument(count=0, median_ms=None, slowest_ms=None, last_ms=None)
    return BarriersDocument(count=len(took), median_ms=sorted(took)[len(took) // 2], slowest_ms=max(took), last_ms=took[0])
