"""The bundle of a policy revision over HTTP: what the engines are given, for who must be able to decide again what was decided."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from gateway.access.api import OVERSEERS
from gateway.access.bundle import MEDIA_TYPE
from gateway.access.models import PolicyRevision
from gateway.access.revisions import bundle_of
from gateway.database import Reading
from gateway.errors import ExchangeError
from gateway.identity.principal import Allow, Principal

router = APIRouter(prefix="/v1/policies/revisions", tags=["access"])

RevisionId = Annotated[str, Path(pattern=r"^pol_[0-9a-z]{26}$", examples=["pol_01kaqv8f7e9n3p5r7t9w1y3a5c"])]
ARCHIVE: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}}


@router.get("/{revision_id}/bundle", summary="The bundle of a revision", response_class=Response, responses=ARCHIVE)
def read_bundle(revision_id: RevisionId, caller: Annotated[Principal, Allow()], session: Reading, request: Request) -> Response:
    """OPA's signed archive of modules and rule sheets, to the auditor and the privacy officer.

    Its content digest stands in the audit entry that made the revision active. Raises `not_found`.
    """
    row = session.get(PolicyRevision, revision_id)
    if row is None or not caller.roles & OVERSEERS:
        raise ExchangeError("not_found")
    archive = bundle_of(row, request.app.state.keys.signing["policy_bundle"])
    return Response(archive, media_type=MEDIA_TYPE, headers={"ETag": f'"{row.digest}"'})
