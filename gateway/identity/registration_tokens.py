"""Registration tokens (RFC 7591 initial access tokens): made, used, revoked. A token is shown once and kept as a keyed hash."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from gateway import changes
from gateway.audit.record import Entry, record
from gateway.database import new_id, now
from gateway.identity.models import Organization, RegistrationToken
from gateway.identity.principal import Principal
from gateway.keys import SecretKey

PURPOSE = b"registration_token"
FOR_OPERATORS = frozenset({"organizations:write", "policies:approve", "policies:read", "policies:write"})
"""Scopes of the city's own work: no token that anybody makes for a partner has them. An operator gives them by name, at `/v1/clients`."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a registration token lets a program register."""

    token_id: str
    organization_id: str
    scopes: frozenset[str]
    approved: bool


def make(
    session: Session,
    key: SecretKey,
    by: Principal | None,
    organization: Organization,
    *,
    scopes: Sequence[str],
    uses: int,
    until: datetime,
    approved: bool,
) -> tuple[RegistrationToken, str]:
    """A new token and its value, which is kept nowhere."""
    value = f"exr_{secrets.token_urlsafe(32)}"
    token = RegistrationToken(
        id=new_id("rgt"),
        organization_id=organization.id,
        hash=_hash(key, value),
        scopes=list(scopes),
        uses=uses,
        used=0,
        approved=approved,
        created_at=now(),
        created_by=by.actor if by else None,
        expires_at=until,
    )
    session.add(token)
    session.flush()
    _tell(session, "registration_token_created", "make_token", token, by)
    return token, value


def look_up(session: Session, key: SecretKey, value: str) -> Grant | None:
    """What this token is good for now; None if it is good for nothing. Uses nothing up."""
    return _grant(session.scalar(select(RegistrationToken).where(RegistrationToken.hash == _hash(key, value), _good())))


def use(session: Session, key: SecretKey, value: str) -> Grant | None:
    """Count one use, however many processes count at once; None if none is left, or the token is good for nothing."""
    counted = update(RegistrationToken).where(RegistrationToken.hash == _hash(key, value), _good())
    return _grant(session.scalar(counted.values(used=RegistrationToken.used + 1).returning(RegistrationToken)))


def revoke(session: Session, by: Principal, token: RegistrationToken) -> None:
    """It registers nobody from now on; clients that it registered stay. Nothing is done to one that is revoked."""
    if token.revoked_at is not None:
        return
    token.revoked_at = now()
    session.flush()
    _tell(session, "registration_token_revoked", "revoke_token", token, by)


def forget_old(session: Session, before: datetime) -> None:
    """Delete tokens whose time was over before this instant."""
    session.execute(delete(RegistrationToken).where(RegistrationToken.expires_at < before))


def _good() -> ColumnElement[bool]:
    """The condition of a token that may be used: it is looked at in the statement that counts."""
    return (
        (RegistrationToken.used < RegistrationToken.uses)
        & RegistrationToken.revoked_at.is_(None)
        & (RegistrationToken.expires_at > now())
        & RegistrationToken.organization_id.in_(select(Organization.id).where(Organization.standing == "approved"))
    )


def _grant(token: RegistrationToken | None) -> Grant | None:
    return Grant(token.id, token.organization_id, frozenset(token.scopes), token.approved) if token is not None else None


def _hash(key: SecretKey, value: str) -> bytes:
    return key.mac(PURPOSE, value.encode())


def _tell(session: Session, change_kind: str, action: str, token: RegistrationToken, by: Principal | None) -> None:
    number = changes.note(session, change_kind, token.id)
    entry = Entry(
        kind="client",
        action=action,
        actor=by.actor if by else None,
        organization=by.organization_id if by else token.organization_id,
        change=number,
        detail={"registration_token": token.id, "organization": token.organization_id, "uses": str(token.uses)},
        consumer=token.organization_id,
    )
    record(session, entry)
