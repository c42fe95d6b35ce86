"""What is done to persons: known at sign-in, given roles, suspended and restored. Each in the caller's transaction, noted and recorded.

The audit log has `per_...` and nothing else of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gateway import changes
from gateway.audit.record import Entry, record
from gateway.database import new_id, now
from gateway.errors import ExchangeError, Invalid
from gateway.identity.documents import check_line
from gateway.identity.models import Organization
from gateway.identity.people_models import Person
from gateway.identity.principal import Principal
from gateway.identity.provider import Identity
from gateway.identity.roles import ROLES, holdable
from gateway.keys import Keys
from gateway.settings import Settings

MOVES = {"suspend": ("active", "suspended"), "restore": ("suspended", "active")}


def sign_in(session: Session, keys: Keys, settings: Settings, identity: Identity) -> Person:
    """The person whom the provider vouches for, with the roles that it gives them now; a new one if they were never here."""
    claimed = _claimed_roles(settings, identity)
    found = know(session, keys, identity.issuer, identity.subject, claimed)
    if identity.issuer == settings.oidc_issuer and settings.oidc_employee_claim:
        number = identity.claims.get(settings.oidc_employee_claim)
        # A provider that stops to say it takes nothing back: who was one employee stays that one.
        if isinstance(number, str | int) and not isinstance(number, bool) and number != "":
            found.employee_hash = keys.secret("person").mac(b"employee", identity.issuer.encode(), str(number).encode())
    name = _name(identity.claims.get("name"))
    if name is not None:
        found.name = name
    if claimed and found.organization_id is None:
        found.organization_id = session.scalar(select(Organization.id).where(Organization.operates))
    if sorted(found.claimed_roles) != claimed:
        found.claimed_roles, found.roles_changed_at = claimed, now()
        session.flush()
        _tell(session, "person_changed", "roles_claimed", found, None, roles=" ".join(claimed))
    session.flush()
    return found


def know(session: Session, keys: Keys, issuer: str, subject: str, claimed: Sequence[str] = ()) -> Person:
    """The person of this name at this provider; a new one if there is none. The name is kept as a keyed hash."""
    digest = keys.secret("person").mac(b"subject", issuer.encode(), subject.encode())
    wanted = select(Person).where(Person.issuer == issuer, Person.subject_hash == digest)
    found = session.scalar(wanted.with_for_update())
    if found is not None:
        return found
    at = now()
    organization = session.scalar(select(Organization.id).where(Organization.operates)) if claimed else None
    found = Person(
        id=new_id("per"),
        issuer=issuer,
        subject_hash=digest,
        organization_id=organization,
        claimed_roles=list(claimed),
        granted_roles=[],
        standing="active",
        created_at=at,
        roles_changed_at=at,
    )
    try:
        with session.begin_nested():
            session.add(found)
    except IntegrityError:  # their first sign-in, twice at the same moment
        return session.scalars(wanted).one()
    _tell(session, "person_created", "known", found, None, roles=" ".join(claimed))
    return found


def give_roles(session: Session, by: Principal | None, person: Person, organization: Organization | None, roles: Sequence[str]) -> None:
    """The roles that a person has here, all of them, for an organization or for none. `by` None: setup, or an approval of another room.

    Raises `Invalid`, `second_person_needed` for one's own.
    """
    if by is not None and by.person is not None and by.person.id == person.id:
        raise ExchangeError("second_person_needed", "Nobody changes their own roles.")
    kind, operates = (organization.kind, organization.operates) if organization else (None, False)
    if holdable(roles, kind=kind, operates=operates) != set(roles):
        where = f"that {'operates the exchange' if operates else f'is a {kind}'}" if kind else "or none"
        raise Invalid([{"pointer": "/roles", "detail": f"has a role that a person of an organization {where} cannot hold"}])
    wanted, belongs = sorted(roles), organization.id if organization else None
    if (sorted(person.granted_roles), person.organization_id) == (wanted, belongs):
        return
    person.granted_roles, person.organization_id, person.roles_changed_at = wanted, belongs, now()
    session.flush()
    _tell(session, "person_changed", "roles_given", person, by, roles=" ".join(wanted))


def move(session: Session, by: Principal, person: Person, verb: str) -> None:
    """`suspend`: their tokens and sessions are refused from now on; `restore`. Raises `illegal_state`, `second_person_needed`."""
    start, end = MOVES[verb]
    if by.person is not None and by.person.id == person.id:
        raise ExchangeError("second_person_needed", "Nobody changes their own standing.")
    if person.standing != start:
        legal = [name for name, (begins, _) in MOVES.items() if begins == person.standing]
        raise ExchangeError("illegal_state", f"The person is {person.standing}.", state=person.standing, legal=legal)
    person.standing = end
    session.flush()
    _tell(session, "person_changed", verb, person, by)


def roles_of(person: Person) -> list[str]:
    """All roles of a person, claimed and given, whether their organization lets them count or not."""
    return sorted({*person.claimed_roles, *person.granted_roles} & set(ROLES))


def _claimed_roles(settings: Settings, identity: Identity) -> list[str]:
    """By the groups of the city's provider alone: a further one says who somebody is, and not what they may."""
    if identity.issuer != settings.oidc_issuer:
        return []
    said = identity.claims.get(settings.oidc_roles_claim)
    groups = said if isinstance(said, list) else [said]
    return sorted({settings.oidc_roles[group] for group in groups if isinstance(group, str) and group in settings.oidc_roles})


def _name(value: Any) -> str | None:
    try:
        return check_line(value)[:200] or None if isinstance(value, str) else None
    except ValueError:
        return None


def _tell(session: Session, change_kind: str, action: str, person: Person, by: Principal | None, **more: str) -> None:
    number = changes.note(session, change_kind, person.id)
    entry = Entry(
        kind="person",
        action=action,
        actor=by.actor if by else person.id,
        organization=by.organization_id or None if by else person.organization_id,
        change=number,
        detail={"person": person.id, "standing": person.standing} | {name: value for name, value in more.items() if value},
        consumer=person.organization_id,
    )
    record(session, entry)
