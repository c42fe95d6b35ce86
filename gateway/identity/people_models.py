"""Persons, their sessions and their local accounts, as stored. A person stands in the audit log by `per_...` and by nothing else."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base


class Person(Base):
    """A human whom an OpenID provider, or a local account, vouches for. `standing`: active, suspended.

    `subject_hash` and `employee_hash` are HMACs by the key `person`: enough to know somebody again, and to tell two persons apart.
    """

    __tablename__ = "persons"
    __table_args__ = (UniqueConstraint("issuer", "subject_hash"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    issuer: Mapped[str]
    """The provider's issuer; of local accounts the exchange's own."""
    subject_hash: Mapped[bytes] = mapped_column(LargeBinary)
    employee_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    name: Mapped[str | None]
    organization_id: Mapped[str | None] = mapped_column(ForeignKey("organizations.id"), index=True)
    claimed_roles: Mapped[list[str]] = mapped_column(JSON)
    """What the provider said at the last sign-in."""
    granted_roles: Mapped[list[str]] = mapped_column(JSON)
    """What was given here, by an operator or with an approved organization."""
    standing: Mapped[str]
    created_at: Mapped[datetime]
    roles_changed_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as it stands


class PersonSession(Base):
    """A sign-in: the family of refresh tokens of a command line, or the cookie of a browser. `kind`: token, cookie."""

    __tablename__ = "person_sessions"
    id: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("persons.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    client_id: Mapped[str]
    scope: Mapped[str]
    auth_time: Mapped[datetime]
    """When the person proved who they are, as the provider said it."""
    acr: Mapped[str | None]
    created_at: Mapped[datetime]
    used_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]


class SessionSecret(Base):
    """A refresh token, or the value of a cookie, as its HMAC. A refresh token that was used stays, so that its reuse is seen."""

    __tablename__ = "person_session_secrets"
    hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("person_sessions.id", ondelete="CASCADE"), index=True)
    used_at: Mapped[datetime | None]


class LocalAccount(Base):
    """A name and password (argon2id) of this exchange's own, where no OpenID provider is."""

    __tablename__ = "local_accounts"
    username: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("persons.id", ondelete="CASCADE"), unique=True)
    password_hash: Mapped[str]
    created_at: Mapped[datetime]
