"""Persons, remembered and applied again by `per_...`: who was suspended or lost a role, and which sign-ins had ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from gateway.audit.record import Entry, record
from gateway.changes import Change, note
from gateway.database import now
from gateway.identity.people_models import Person, PersonSession
from gateway.remembered.place import Remembered
from gateway.remembered.redoing import AS_IT_WAS, Outcome, Redoing, last_redo, restored


def describe_person(session: Session, change: Change) -> Sequence[Mapping[str, Any]]:
    """Standing, organization and roles; neither name nor provider."""
    found = session.get(Person, change.object)
    if found is None:
        return ()
    members = ("standing", "organization_id", "claimed_roles", "granted_roles")
    return ({name: getattr(found, name) for name in members},)


def describe_sign_in(_session: Session, _change: Change) -> Sequence[Mapping[str, Any]]:
    """Nothing but its name, which the change has."""
    return ({"ended": True},)


def reapply_person(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """Suspend them again, and take again what was taken from them; whoever changed organization keeps no role of the one before."""
    told = last_redo(entries)
    found = redoing.session.get(Person, entries[-1].object, with_for_update=True)
    if told is None or found is None:
        return AS_IT_WAS
    stays = told["organization_id"] == found.organization_id
    narrowed: dict[str, Any] = {
        name: [role for role in getattr(found, name) if stays and role in told[name]] for name in ("claimed_roles", "granted_roles")
    }
    if told["standing"] == "suspended":
        narrowed["standing"] = "suspended"
    differing = {name: value for name, value in narrowed.items() if getattr(found, name) != value}
    if not differing:
        return AS_IT_WAS
    for name, value in differing.items():
        setattr(found, name, value)
    redoing.session.flush()
    change = note(redoing.session, "person_changed", found.id)
    detail = {"person": found.id, "changed": " ".join(sorted(differing))} | restored(entries)
    record(redoing.session, Entry(kind="person", action="change", change=change, detail=detail, consumer=found.organization_id))
    return Outcome(change)


def reapply_sign_in(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """End it again, if the database still has it as one that goes on."""
    found = redoing.session.get(PersonSession, entries[-1].object, with_for_update=True)
    if found is None or found.ended_at is not None:
        return AS_IT_WAS
    found.ended_at = now()
    redoing.session.flush()
    change = note(redoing.session, "person_signed_out", found.id)
    detail = {"person": found.person_id, "sign_in": found.id} | restored(entries)
    record(redoing.session, Entry(kind="person", action="signed_out", change=change, detail=detail))
    return Outcome(change)
