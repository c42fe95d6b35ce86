"""Approve: a second person agrees on what they have seen in a preview."""

from __future__ import annotations

from sqlalchemy.orm import Session

from gateway.access.activate import entry, is_officer
from gateway.access.desk import Desk, contracts_in_force, digest_of_contracts
from gateway.access.draft import locked
from gateway.access.models import PolicyPreview, PolicyRevision
from gateway.access.revisions import active
from gateway.audit.record import record
from gateway.database import now
from gateway.errors import ExchangeError
from gateway.identity.four_eyes import four_eyes
from gateway.identity.principal import Principal


def approve(session: Session, desk: Desk, revision_id: str, number: int, caller: Principal) -> PolicyRevision:
    """Raises `not_found`, `illegal_state`, `second_person_needed`, and `stale` if the preview no longer holds."""
    revision = locked(session, revision_id, "approve")
    preview = session.get(PolicyPreview, (revision_id, number))
    if preview is None:
        raise ExchangeError("not_found", f"There is no preview {number} of this revision.")
    if preview.state != "done":
        raise ExchangeError("illegal_state", f"Preview {number} is {preview.state}.", legal=["preview"])
    _check_it_still_holds(session, revision, preview)
    assert revision.proposed_by is not None
    if not is_officer(session, revision.proposed_by):
        raise ExchangeError("second_person_needed", "Who proposed it is no privacy officer any more: somebody else must propose it.")
    four_eyes(session, revision.proposed_by, caller.actor, wait=desk.wait)
    revision.state, revision.approved_by, revision.approved_at = "approved", caller.actor, now()
    revision.approved_preview = number
    session.flush()
    record(session, entry(revision, "approve", caller))
    return revision


def _check_it_still_holds(session: Session, revision: PolicyRevision, preview: PolicyPreview) -> None:
    in_force = active(session)
    changed = []
    if preview.digest != revision.digest:
        changed.append("the revision was edited")
    if in_force is None or preview.against != in_force.id:
        changed.append("another revision became active")
    if preview.contracts_digest != digest_of_contracts(contracts_in_force(session)):
        changed.append("contracts came into force or ended")
    if changed:
        hint = "Ask for another preview (POST .../previews), look at it, and approve by its number."
        raise ExchangeError("stale", f"Since preview {preview.number}, {' and '.join(changed)}.", hint=hint)
