"""Sign-ins of persons: begun, gone on with, ended. A command line's is a family of refresh tokens, a browser's a cookie.

A refresh token is good once (RFC 9700 section 4.14.2): whoever shows one again, the thief or the robbed, ends the whole family.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import CursorResult, delete, update
from sqlalchemy.orm import Session

from gateway import changes
from gateway.audit.record import Entry, record
from gateway.database import new_id, now
from gateway.identity.people_models import Person, PersonSession, SessionSecret
from gateway.keys import SecretKey

LONGEST_SECRET = 200


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in that goes on, and what its holder shows next time, which is kept nowhere."""

    row: PersonSession
    secret: str = field(repr=False)


def begin(
    session: Session,
    key: SecretKey,
    person: Person,
    *,
    kind: Literal["token", "cookie"],
    client_id: str,
    scope: str,
    auth_time: int,
    acr: str | None,
    lifetime: timedelta,
) -> SignIn:
    """A new one, recorded. `auth_time` in seconds since 1970."""
    at = now()
    row = PersonSession(
        id=new_id("ses"),
        person_id=person.id,
        kind=kind,
        client_id=client_id,
        scope=scope,
        auth_time=datetime.fromtimestamp(auth_time, UTC),
        acr=acr,
        created_at=at,
        used_at=at,
        expires_at=at + lifetime,
        ended_at=None,
    )
    session.add(row)
    session.flush()
    secret = _add_secret(session, key, row)
    entry = Entry(
        kind="person", action="signed_in", actor=person.id, organization=person.organization_id, detail={"sign_in": row.id, "by": kind}
    )
    record(session, entry)
    return SignIn(row, secret)


def go_on(session: Session, key: SecretKey, secret: str) -> SignIn | None:
    """Use up a refresh token and make the next one. None: it is unknown or over, or was used before, which ends the sign-in.

    To be committed whatever it returns. One statement uses it up, so that of two who bring it at once one is the second.
    """
    digest = hash_of(key, "token", secret)
    used = update(SessionSecret).where(SessionSecret.hash == digest, SessionSecret.used_at.is_(None)).values(used_at=now())
    first = cast("CursorResult[Any]", session.execute(used)).rowcount == 1
    found = session.get(SessionSecret, digest, populate_existing=True)
    row = session.get(PersonSession, found.session_id) if found is not None else None
    if row is None or not goes_on(row):
        return None
    if not first:
        end(session, row, "reused")
        return None
    row.used_at = now()
    return SignIn(row, _add_secret(session, key, row))


def find(session: Session, key: SecretKey, kind: Literal["token", "cookie"], secret: str) -> PersonSession | None:
    """The sign-in that goes on by this secret, which stays as it is."""
    found = session.get(SessionSecret, hash_of(key, kind, secret))
    row = session.get(PersonSession, found.session_id) if found is not None else None
    return row if row is not None and goes_on(row) else None


def goes_on(row: PersonSession) -> bool:
    """True until it has ended or its time is over."""
    return row.ended_at is None and row.expires_at > now()


def end(session: Session, row: PersonSession, why: Literal["signed_out", "reused", "replaced", "idle"]) -> None:
    """Its tokens are refused from now on, at every replica when the transaction's call returns."""
    if row.ended_at is not None:
        return
    row.ended_at = now()
    session.flush()
    number = changes.note(session, "person_signed_out", row.id)
    entry = Entry(kind="person", action="signed_out", actor=row.person_id, change=number, detail={"sign_in": row.id, "why": why})
    record(session, entry)


def forget_old(session: Session) -> None:
    """Delete the sign-ins, and with them their secrets, that have been over for a day."""
    session.execute(delete(PersonSession).where(PersonSession.expires_at < now() - timedelta(days=1)))


def hash_of(key: SecretKey, kind: str, secret: str) -> bytes:
    """What is kept of a secret, which has 256 random bits."""
    return key.mac(b"session", kind.encode(), secret[:LONGEST_SECRET].encode("utf-8", "replace"))


def _add_secret(session: Session, key: SecretKey, row: PersonSession) -> str:
    secret = f"{'exr' if row.kind == 'token' else 'exc'}_{secrets.token_urlsafe(32)}"
    session.add(SessionSecret(hash=hash_of(key, row.kind, secret), session_id=row.id, used_at=None))
    session.flush()
    return secret
