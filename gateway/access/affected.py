"""Affected: the contracts for which an activation changes something, so that their parties are told."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from gateway.access.decision import PolicyUnavailable
from gateway.access.desk import Desk, contracts_in_force, digest_of_contracts
from gateway.access.models import PolicyPreview, PolicyRevision
from gateway.access.replay import affected_contracts
from gateway.errors import ExchangeError

MOST_KEPT = 8
"""Of pairs of revisions whose contracts are remembered: going back and forth asks for the same again."""


def affected_by(session: Session, desk: Desk, revision: PolicyRevision, former: PolicyRevision) -> list[dict[str, Any]]:
    """As the preview that was approved has shown them, if nothing has changed since; else worked out. Raises `vetting_unavailable`."""
    contracts = contracts_in_force(session)
    digest = digest_of_contracts(contracts)
    if revision.state == "approved" and revision.approved_preview is not None:
        seen = session.get(PolicyPreview, (revision.id, revision.approved_preview))
        if seen is not None and seen.result is not None and (seen.against, seen.contracts_digest) == (former.id, digest):
            return [_told(each) for each in seen.result["contracts"]["changed"]]
    key = (former.digest, revision.digest, digest)
    if key not in desk.affected:
        try:
            found = affected_contracts(former.files, revision.files, contracts, desk.catalog, desk.people)
        except PolicyUnavailable as error:
            raise ExchangeError("vetting_unavailable", f"Whom it concerns could not be worked out: {error}") from error
        if len(desk.affected) >= MOST_KEPT:
            desk.affected.clear()
        desk.affected[key] = found
    return desk.affected[key]


def _told(changed: dict[str, Any]) -> dict[str, Any]:
    same = {name: changed[name] for name in ("contract", "dataset", "purpose", "change")}
    return same | {side: changed[side]["id"] for side in ("provider", "consumer")}
