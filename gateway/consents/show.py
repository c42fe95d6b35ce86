"""Records as they are shown: without their subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy.orm import Session

from consent.models import ConsentRecord, StateChange
from consent.notices import outdated
from consent.records import histories
from consent.states import STATUS, State
from gateway.database import rfc3339


def show_all(session: Session, records: Sequence[ConsentRecord]) -> list[dict[str, Any]]:
    """Each record with its history, and whether its notice has since changed so that the person must be asked anew."""
    steps, stale = histories(session, [found.id for found in records]), outdated(session, records)
    return [_show(found, steps.get(found.id, []), renewal_needed=found.id in stale) for found in records]


def show(session: Session, found: ConsentRecord) -> dict[str, Any]:
    """`show_all` of one."""
    return show_all(session, [found])[0]


def _show(found: ConsentRecord, steps: Sequence[StateChange], *, renewal_needed: bool) -> dict[str, Any]:
    return {
        "id": found.id,
        "state": found.state,
        "status": STATUS[cast("State", found.state)],
        "dataset": found.dataset,
        "purposes": found.purposes,
        "recipients": found.recipients,
        "notice": found.notice,
        "legal_ground": found.legal_ground,
        "covers_earlier": found.covers_earlier,
        "renewal_needed": renewal_needed,
        "given_by": found.given_by,
        "evidence": found.evidence,
        "given_at": rfc3339(found.given_at) if found.given_at else None,
        "valid_from": rfc3339(found.valid_from),
        "valid_until": rfc3339(found.valid_until) if found.valid_until else None,
        "ended_at": rfc3339(found.ended_at) if found.ended_at else None,
        "history": [{"state": step.state, "at": rfc3339(step.at), "by": step.by, "reason": step.reason} for step in steps],
    }
