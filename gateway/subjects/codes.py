"""From a provider's one-time code to a session of the person: both are secrets that the exchange keeps as keyed hashes alone."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from gateway.database import now
from gateway.errors import ExchangeError
from gateway.keys import SecretKey
from gateway.subjects.models import SubjectCode, SubjectSession

CODE_LIVES = timedelta(minutes=10)
SESSION_LIVES = timedelta(minutes=15)
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O or U."""
MISREAD = str.maketrans("OIL", "011")


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks in a session: a subject of the provider of `dataset`; without `sref`, one of whom nothing is known."""

    sref: bytes | None
    dataset: str


def give_code(session: Session, key: SecretKey, *, sref: bytes | None, dataset: str) -> tuple[str, datetime]:
    """A new code, `XXXX-XXXX-XXXX-XXXX` with 80 random bits, and when its ten minutes are over."""
    signs = "".join(secrets.choice(ALPHABET) for _ in range(16))
    expires_at = now() + CODE_LIVES
    session.add(SubjectCode(hash=_code_hash(key, signs), sref=sref, dataset=dataset, expires_at=expires_at))
    return "-".join(signs[place : place + 4] for place in range(0, 16, 4)), expires_at


def open_session(session: Session, key: SecretKey, code: str) -> tuple[str, datetime, Person]:
    """Use up a code: the token of a session, when its fifteen minutes are over, and whose it is.

    Raises `code_invalid`, which does not tell whether the code was wrong, used before, or too old.
    """
    signs = re.sub(r"[\s-]", "", code).upper().translate(MISREAD)
    used = delete(SubjectCode).where(SubjectCode.hash == _code_hash(key, signs))
    # Deleting decides who of two that come at once has used it.
    row = session.execute(used.returning(SubjectCode.sref, SubjectCode.dataset, SubjectCode.expires_at)).one_or_none()
    if row is None or row.expires_at <= now():
        raise ExchangeError("code_invalid")
    token = f"exp_{secrets.token_urlsafe(32)}"
    expires_at = now() + SESSION_LIVES
    session.add(SubjectSession(hash=_token_hash(key, token), sref=row.sref, dataset=row.dataset, expires_at=expires_at))
    return token, expires_at, Person(row.sref, row.dataset)


def person_of(session: Session, key: SecretKey, token: str) -> Person:
    """Who asks with this token. Raises `token_invalid`, `token_expired`."""
    found = session.get(SubjectSession, _token_hash(key, token))
    if found is None:
        raise ExchangeError("token_invalid", "This is no session's token.", hint="Ask the provider for a new code.")
    if found.expires_at <= now():
        raise ExchangeError("token_expired", "The fifteen minutes are over.", hint="Ask the provider for a new code.")
    return Person(found.sref, found.dataset)


def close_session(session: Session, key: SecretKey, token: str) -> None:
    """The token is good no longer. Nothing happens for one that is none."""
    session.execute(delete(SubjectSession).where(SubjectSession.hash == _token_hash(key, token)))


def forget_expired(session: Session, at: datetime) -> None:
    """Delete the codes and sessions whose time is over."""
    for table in (SubjectCode, SubjectSession):
        session.execute(delete(table).where(table.expires_at <= at))


def _code_hash(key: SecretKey, signs: str) -> bytes:
    return key.mac(b"subject code", signs.encode())


def _token_hash(key: SecretKey, token: str) -> bytes:
    return key.mac(b"subject session", token.encode())
