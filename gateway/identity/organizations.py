"""What is done to organizations: make, change, approve, suspend. Each in the caller's transaction, noted and recorded."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gateway import changes
from gateway.audit.record import Entry, record
from gateway.database import new_id, now
from gateway.errors import ExchangeError
from gateway.identity.models import Organization
from gateway.identity.principal import Principal

MOVES = {"approve": {"pending", "suspended"}, "suspend": {"pending", "approved"}}
"""The standings that each verb may start from."""


def make(
    session: Session,
    by: Principal | None,
    *,
    name: str,
    kind: str,
    contact: str | None,
    operates: bool = False,
    identifier: str | None = None,
    intent: str | None = None,
    domain: str | None = None,
) -> Organization:
    """A new organization; `pending`, save the one that operates. Raises `already_exists`."""
    standing = "approved" if operates else "pending"
    organization = Organization(
        id=identifier or new_id("org"),
        name=name,
        kind=kind,
        standing=standing,
        contact=contact,
        intent=intent,
        domain=domain,
        operates=operates,
        created_at=now(),
    )
    session.add(organization)
    _flush(session)
    _tell(session, "organization_created", "make", organization, by)
    return organization


def change(session: Session, by: Principal, organization: Organization, members: dict[str, Any]) -> None:
    """Apply a merge patch. Raises `already_exists`."""
    differing = {name: value for name, value in members.items() if getattr(organization, name) != value}
    if not differing:
        return
    for name, value in differing.items():
        setattr(organization, name, value)
    _flush(session)
    _tell(session, "organization_changed", "change", organization, by)


def move(session: Session, by: Principal, organization: Organization, verb: str) -> None:
    """`approve` or `suspend`. Raises `illegal_state`."""
    legal = [
        name for name, starts in MOVES.items() if organization.standing in starts and not (name == "suspend" and organization.operates)
    ]
    if verb not in legal:
        detail = "The organization that operates the exchange is never suspended." if organization.operates else ""
        raise ExchangeError(
            "illegal_state", detail or f"The organization is {organization.standing}.", state=organization.standing, legal=legal
        )
    organization.standing = "approved" if verb == "approve" else "suspended"
    session.flush()
    _tell(session, "organization_changed", verb, organization, by)


def _flush(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        raise ExchangeError("already_exists", "There is an organization of this name.") from error


def _tell(session: Session, change_kind: str, action: str, organization: Organization, by: Principal | None) -> None:
    number = changes.note(session, change_kind, organization.id)
    entry = Entry(
        kind="organization",
        action=action,
        actor=by.actor if by else None,
        organization=by.organization_id or None if by else None,
        change=number,
        detail={"organization": organization.id, "standing": organization.standing},
        consumer=organization.id,
    )
    record(session, entry)
