"""Onboarding: somebody asks for an organization without a token, an operator approves, and the claim gets the first registration token.

Nothing is mailed and nobody is called back: the asker is shown a *claim* once, and it is worth nothing before the approval. What was asked
for is no organization yet: it takes no name, stands in no list but the operator's, and writes no audit entry, so that a stranger can
neither learn which names are taken nor fill a log that is kept for good (`docs/decisions/`).
"""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.orm import Session

from gateway import changes
from gateway.audit.record import Entry, record
from gateway.database import new_id, now
from gateway.errors import ExchangeError
from gateway.identity import organizations
from gateway.identity.models import Organization, OrganizationRequest
from gateway.identity.people_models import Person
from gateway.identity.principal import Principal
from gateway.keys import SecretKey
from gateway.limits import Requests

ASKED_LIVES = timedelta(days=30)
"""A request that nobody has approved by then is forgotten."""
CLAIM_LIVES = timedelta(days=7)
"""How long after the approval the claim is good."""
MOST_ASKED = 1000
ASKED_A_DAY = 50
"""By one address: a single one cannot keep everybody else from asking, for what it asks for waits until an operator has seen it."""
DAY_S = 24 * 60 * 60
PURPOSE = b"organization_claim"
ADMIN = "partner_admin"


def asks_limit() -> Requests:
    return Requests(ASKED_A_DAY, "organizations", seconds=DAY_S)


def ask(
    session: Session, key: SecretKey, *, name: str, contact: str, intent: str, domain: str, asked_by: str | None = None
) -> tuple[OrganizationRequest, str]:
    """What is asked for, and the claim, which is kept nowhere. `asked_by` is a person who is signed in.

    Raises `rate_limited` if too much waits for approval already.
    """
    at = now()
    if (session.scalar(select(func.count()).select_from(OrganizationRequest).where(_open(at))) or 0) >= MOST_ASKED:
        raise ExchangeError("rate_limited", "Too many requests wait for the operator.", headers={"Retry-After": "3600"})
    claim = f"exo_{secrets.token_urlsafe(32)}"
    identifier = new_id("org")
    request = OrganizationRequest(
        id=identifier,
        name=name,
        contact=contact,
        intent=intent,
        domain=domain,
        asked_by=asked_by,
        claim_hash=_hash(key, identifier, claim),
        asked_at=at,
        expires_at=at + ASKED_LIVES,
    )
    session.add(request)
    session.flush()
    return request, claim


def open_requests() -> Select[OrganizationRequest]:
    """What waits for approval."""
    return select(OrganizationRequest).where(_open(now()))


def waiting(session: Session, organization_id: str) -> OrganizationRequest | None:
    """The request for this organization if it waits for approval; held, so that it is decided once."""
    found = select(OrganizationRequest).where(OrganizationRequest.id == organization_id, _open(now()))
    return session.scalar(found.with_for_update())


def approve(session: Session, by: Principal, request: OrganizationRequest) -> Organization:
    """Make the organization that was asked for, approved. Raises `already_exists` if another has its name."""
    organization = organizations.make(
        session,
        by,
        name=request.name,
        kind="partner",
        contact=request.contact,
        identifier=request.id,
        intent=request.intent,
        domain=request.domain,
    )
    organizations.move(session, by, organization, "approve")
    request.approved_at, request.expires_at = now(), now() + CLAIM_LIVES
    session.flush()
    if request.asked_by is not None:
        _make_admin(session, by, request.asked_by, organization)
    return organization


def refuse(session: Session, request: OrganizationRequest) -> None:
    """Forget what was asked for; its claim is worth nothing."""
    session.delete(request)
    session.flush()


def use_claim(session: Session, key: SecretKey, organization_id: str, claim: str) -> Organization:
    """The organization that this claim is for; the claim is used up.

    Raises `claim_invalid`, which does not tell an organization that nobody asked for from a wrong or used claim, and `illegal_state`
    with `state: pending` while it waits for approval, to whoever has the claim.
    """
    row = session.get(OrganizationRequest, organization_id)
    right = hmac.compare_digest(_hash(key, organization_id, claim), row.claim_hash if row is not None else bytes(32))
    if row is None or not right or row.expires_at <= now() or row.claimed_at is not None:
        raise ExchangeError("claim_invalid")
    if row.approved_at is None:
        hint = "Ask again when the operator has approved it; `exchange organization token --wait 600` does that by itself."
        raise ExchangeError("illegal_state", "The organization waits for the operator's approval.", hint=hint, state="pending", legal=[])
    mine = update(OrganizationRequest).where(OrganizationRequest.id == organization_id, OrganizationRequest.claimed_at.is_(None))
    if session.execute(mine.values(claimed_at=now())).rowcount != 1:  # type: ignore[attr-defined] # an UPDATE has a count
        raise ExchangeError("claim_invalid")
    return session.get_one(Organization, organization_id)


def forget_old(session: Session, at: datetime) -> None:
    """Delete what nobody approved, and claims whose time is over."""
    session.execute(delete(OrganizationRequest).where(OrganizationRequest.expires_at < at))


def _make_admin(session: Session, by: Principal, person_id: str, organization: Organization) -> None:
    """Who asked while signed in administers what was asked for, unless they belong to another organization by now."""
    person = session.get(Person, person_id, with_for_update=True)
    if person is None or person.organization_id is not None:
        return
    person.organization_id, person.roles_changed_at = organization.id, now()
    person.granted_roles = sorted({*person.granted_roles, ADMIN})
    session.flush()
    entry = Entry(
        kind="person",
        action="roles_given",
        actor=by.actor,
        organization=by.organization_id,
        change=changes.note(session, "person_changed", person.id),
        detail={"person": person.id, "roles": " ".join(person.granted_roles)},
        consumer=organization.id,
    )
    record(session, entry)


def _open(at: datetime) -> ColumnElement[bool]:
    return (OrganizationRequest.approved_at.is_(None)) & (OrganizationRequest.expires_at > at)


def _hash(key: SecretKey, organization_id: str, claim: str) -> bytes:
    return key.mac(PURPOSE, organization_id.encode(), claim.encode())
