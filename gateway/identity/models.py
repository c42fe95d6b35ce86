"""Organizations and their API clients, as stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base


class Organization(Base):
    """A city department or a partner. `kind`: department, partner. `standing`: pending, approved, suspended."""

    __tablename__ = "organizations"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    standing: Mapped[str]
    contact: Mapped[str | None]
    operates: Mapped[bool] = mapped_column(default=False)
    """True for the organization that `exchange setup` made: only its clients may hold roles."""
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as it stands


class Client(Base):
    """An OAuth client (RFC 6749 section 2). `standing`: pending, active, revoked. A secret is kept as a keyed hash, or not at all."""

    __tablename__ = "clients"
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"), index=True)
    name: Mapped[str]
    standing: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(JSON)
    roles: Mapped[list[str]] = mapped_column(JSON)
    token_endpoint_auth_method: Mapped[str]
    secret_key_id: Mapped[str | None]
    secret_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    jwks: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as it stands


class UsedAssertion(Base):
    """The `jti` of a client assertion that was accepted, until it expires: each is good once (RFC 7523 section 3)."""

    __tablename__ = "used_assertions"
    client_id: Mapped[str] = mapped_column(primary_key=True)
    jti: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class UsedProof(Base):
    """A DPoP proof that was used, by the hash of its key and `jti`, until it has expired: each is good once (RFC 9449 section 11.1)."""

    __tablename__ = "used_proofs"
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class RevokedToken(Base):
    """An access token that was revoked (RFC 7009), until it would have expired; `change` is the number of the change that did it."""

    __tablename__ = "revoked_tokens"
    id: Mapped[str] = mapped_column(primary_key=True)
    change: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(index=True)
