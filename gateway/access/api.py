"""Decisions over HTTP: one that was made, with what it was made from, and the policy that made it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict

from gateway.access.bundle import MEDIA_TYPE
from gateway.access.models import DecisionRow, PolicyRevision
from gateway.access.revisions import bundle_of
from gateway.database import Reading, rfc3339
from gateway.errors import ExchangeError
from gateway.identity.principal import Allow, Principal

router = APIRouter(prefix="/v1/decisions", tags=["access"])
revisions = APIRouter(prefix="/v1/policies/revisions", tags=["access"])

OVERSEERS = frozenset({"privacy_officer", "auditor"})
"""The roles that see every decision."""
DecisionId = Annotated[str, Path(pattern=r"^dec_[0-9a-z]{26}$", examples=["dec_01kaqv8f7e9n3p5r7t9w1y3a5c"])]
RevisionId = Annotated[str, Path(pattern=r"^pol_[0-9a-z]{26}$", examples=["pol_01kaqv8f7e9n3p5r7t9w1y3a5c"])]
ARCHIVE: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}, "example": "(a gzipped tar, in bytes)"}}}
}
EXAMPLE: dict[str, Any] = {
    "id": "dec_01kaqv8f7e9n3p5r7t9w1y3a5c",
    "at": "2026-11-23T12:00:00.250Z",
    "action": "propose",
    "allow": False,
    "reasons": [
        {
            "code": "purpose_not_covered",
            "title": {
                "en": "The rules of this dataset do not allow this purpose.",
                "fr": "Les règles de ce jeu de données ne permettent pas cette fin.",
            },
        },
    ],
    "obligations": [],
    "revision": "pol_01kaqv8f7e9n3p5r7t9w1y3a5c",
    "until": "2026-11-23T13:00:00.250Z",
    "facts": {"action": "propose", "at": "2026-11-23T12:00:00Z"},
}


class Made(BaseModel):
    """A decision: what was asked (`facts`, as the engine was given them), the answer, and the revision that it was computed by."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str
    at: str
    action: str
    allow: bool
    reasons: list[dict[str, Any]]
    obligations: list[dict[str, Any]]
    revision: str
    until: str
    facts: dict[str, Any]


@router.get(
    "/{decision_id}",
    summary="Read a decision",
    response_model=Made,
    responses={200: {"content": {"application/json": {"example": EXAMPLE}}}},
)
def read_decision(decision_id: DecisionId, caller: Annotated[Principal, Allow()], session: Reading) -> Made:
    """The decision, to the organization that asked, to the auditor and to the privacy officer: a problem's `decision_id` leads here."""
    row = session.get(DecisionRow, decision_id)
    if row is None or (row.organization_id != caller.organization_id and not caller.roles & OVERSEERS):
        raise ExchangeError("not_found")
    return Made(
        id=row.id,
        at=rfc3339(row.at),
        action=row.action,
        allow=row.allow,
        reasons=row.reasons,
        obligations=row.obligations,
        revision=row.revision,
        until=rfc3339(row.until),
        facts=json.loads(row.facts),
    )


@revisions.get("/{revision_id}/bundle", summary="The bundle of a revision", response_class=Response, responses=ARCHIVE)
def read_bundle(revision_id: RevisionId, caller: Annotated[Principal, Allow()], session: Reading, request: Request) -> Response:
    """OPA's signed archive of modules and rule sheets, to the auditor and the privacy officer.

    Its content digest stands in the audit entry that made the revision active. Raises `not_found`.
    """
    row = session.get(PolicyRevision, revision_id)
    if row is None or not caller.roles & OVERSEERS:
        raise ExchangeError("not_found")
    archive = bundle_of(row, request.app.state.keys.signing["policy_bundle"])
    return Response(archive, media_type=MEDIA_TYPE, headers={"ETag": f'"{row.digest}"'})
