"""Local accounts: a name and a password, kept by argon2id (RFC 9106), for the demo and for small installations without a provider.

An unknown name takes as long as a wrong password. Guessing is damped by name and in all, for each process.
"""

from __future__ import annotations

import re
import threading
import time

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.orm import Session

from gateway.database import Database, now
from gateway.errors import ExchangeError, Invalid
from gateway.identity import people
from gateway.identity.people_models import LocalAccount, Person
from gateway.identity.provider import Identity
from gateway.keys import Keys
from gateway.limits import Requests
from gateway.settings import Settings

TRIES_PER_MINUTE = 10
"""Of one name. The right password waits too: who guesses must not learn when to stop."""
AT_ONCE = 2
"""Passwords that a process checks at a time: each takes 64 MiB and some tens of milliseconds."""
WAIT_S = 5.0
SHORTEST, LONGEST = 12, 256
USERNAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,99}", re.ASCII)


class LocalAccounts:
    """The accounts of this exchange. Thread-safe; `identify` blocks."""

    def __init__(self, settings: Settings, keys: Keys, database: Database) -> None:
        self._issuer = settings.issuer
        self._keys = keys
        self._database = database
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash("nobody has this password")
        self._tries = Requests(TRIES_PER_MINUTE, "passwords")
        self._checking = threading.BoundedSemaphore(AT_ONCE)

    def make(self, session: Session, username: str, password: str, name: str | None = None) -> Person:
        """A new account and its person, who has no role yet. Raises `Invalid`, `already_exists`."""
        if not USERNAME.fullmatch(username):
            raise Invalid(
                [{"pointer": "/username", "detail": "must be 1 to 100 of a-z, 0-9 and . _ @ -, and begin with a letter or digit"}]
            )
        if not SHORTEST <= len(password) <= LONGEST or len(set(password)) < SHORTEST // 2:
            raise Invalid([{"pointer": "/password", "detail": f"must have {SHORTEST} to {LONGEST} characters, and not few ones repeated"}])
        if session.get(LocalAccount, username) is not None:
            raise ExchangeError("already_exists", "There is an account of this name.")
        person = people.know(session, self._keys, self._issuer, f"local:{username}")
        person.name = name or username
        session.add(LocalAccount(username=username, person_id=person.id, password_hash=self._hasher.hash(password), created_at=now()))
        session.flush()
        return person

    def identify(self, username: str, password: str) -> Identity | None:
        """Who has this name and password, None if nobody. Raises `rate_limited`, `database_unavailable`."""
        self._tries.count(username[:LONGEST].lower())
        with self._database.reading() as session:
            # What no account is named is not looked for: PostgreSQL takes no NUL.
            account = session.get(LocalAccount, username) if USERNAME.fullmatch(username) else None
        right = self._verify(account.password_hash if account else self._nobody, password)
        if account is None or not right:
            return None
        second = int(time.time())
        return Identity(
            issuer=self._issuer,
            subject=f"local:{account.username}",
            auth_time=second,
            acr=None,
            expires_at=second,
            digest=b"",
            claims={},
        )

    def _verify(self, kept: str, password: str) -> bool:
        if not self._checking.acquire(timeout=WAIT_S):
            raise ExchangeError("rate_limited", "Too many sign-ins at once.", headers={"Retry-After": "5"})
        try:
            return self._hasher.verify(kept, password[:LONGEST].encode("utf-8", "replace"))
        except (VerificationError, InvalidHashError):
            return False
        finally:
            self._checking.release()
