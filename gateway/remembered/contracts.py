"""Contracts, remembered and applied again: what was ended or suspended. What was resumed since is left as it is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from gateway.changes import Change, last
from gateway.contracts.models import Contract
from gateway.contracts.propose import note_act
from gateway.remembered.place import Remembered
from gateway.remembered.redoing import AS_IT_WAS, Outcome, Redoing, last_redo, restored

REASON = "The database was restored; this was decided before."


def describe(session: Session, change: Change) -> Sequence[Mapping[str, Any]]:
    """How the contract is left; its text and what people wrote as a reason are not remembered."""
    found = session.get(Contract, change.object)
    if found is None:
        return ()
    return ({"state": found.state, "suspended_by": found.suspended_by, "ended_reason": found.ended_reason},)


def reapply(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """End or suspend it again, and tell both sides. A contract that the database has lost is in force for nobody."""
    told = last_redo(entries)
    found = redoing.session.get(Contract, entries[-1].object, with_for_update=True)
    if told is None or found is None or found.state == "ended":
        return AS_IT_WAS
    detail = restored(entries)
    change = last(redoing.session) + 1
    if told["state"] == "ended":
        found.state, found.ended_reason, found.suspended_by = "ended", told["ended_reason"], None
        found.reason = REASON
        note_act(redoing.session, found, "ended", None, {"reason": told["ended_reason"]} | detail)
        return Outcome(change)
    # A suspension that the provider could lift becomes the officer's if it was the officer's when it was left.
    stricter = found.state == "active" or (found.state == "suspended" and told["suspended_by"] == "officer" != found.suspended_by)
    if told["state"] == "suspended" and stricter:
        found.state, found.suspended_by = "suspended", told["suspended_by"]
        found.reason = REASON
        note_act(redoing.session, found, "suspended", None, {"by": str(told["suspended_by"])} | detail)
        return Outcome(change)
    return AS_IT_WAS
