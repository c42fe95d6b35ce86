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
    intent: Mapped[str | None]
    """What it wants data for, in its own words."""
    domain: Mapped[str | None]
    """The domain that it says is its own; nobody has proved it."""
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
    secret_id: Mapped[str | None]
    """Names the secret where its use is told of: in logs, never with its value."""
    jwks: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    jwks_uri: Mapped[str | None]
    """Where it publishes its keys, instead of `jwks`."""
    assertion_alg: Mapped[str | None]
    """The one algorithm that it said its assertions are signed by (RFC 7591 section 2); None: any that its keys fit."""
    dpop_bound: Mapped[bool] = mapped_column(default=False)
    """It takes tokens bound to a key only (RFC 9449 section 5.2)."""
    previous_secret_key_id: Mapped[str | None]
    previous_secret_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_secret_id: Mapped[str | None]
    previous_jwks: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    previous_until: Mapped[datetime | None]
    """Until when the credential before this one is good too."""
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as it stands


class UsedProof(Base):
    """What proved somebody and is good once, by its hash, until it has expired: a DPoP proof by its key and `jti` (RFC 9449 section 11.1),
    a client's assertion (RFC 7523 section 3), an ID token.
    """

    __tablename__ = "used_proofs"
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class RevokedToken(Base):
    """An access token that was revoked (RFC 7009), until it would have expired; `change` is the number of the change that did it."""

    __tablename__ = "revoked_tokens"
    id: Mapped[str] = mapped_column(primary_key=True)
    change: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class OrganizationRequest(Base):
    """What somebody asked for without a token: an organization that is to be. Its name takes no other's place before it is approved.

    `id` is the organization's. Whoever has the claim, which is kept as a keyed hash, gets the first registration token, once.
    """

    __tablename__ = "organization_requests"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    contact: Mapped[str]
    intent: Mapped[str]
    domain: Mapped[str]
    asked_by: Mapped[str | None]
    """The person who asked, if they were signed in: they become its admin."""
    claim_hash: Mapped[bytes] = mapped_column(LargeBinary)
    asked_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    approved_at: Mapped[datetime | None]
    claimed_at: Mapped[datetime | None]


class RegistrationToken(Base):
    """An initial access token (RFC 7591 section 1.2), kept as a keyed hash. `uses` is how many clients it may register, `used` how many
    it has; `approved`: they are active at once.
    """

    __tablename__ = "registration_tokens"
    id: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"), index=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    uses: Mapped[int]
    used: Mapped[int]
    approved: Mapped[bool]
    created_at: Mapped[datetime]
    created_by: Mapped[str | None]
    """Who made it; None if it was got for a claim."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None]


class ClientRegistration(Base):
    """How a client that registered itself manages itself (RFC 7592). Tokens are kept as keyed hashes: the last one given out, and the one
    that it was given out for, which is good until its successor has been used.
    """

    __tablename__ = "client_registrations"
    client_id: Mapped[str] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True)
    registration_token_id: Mapped[str]
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The client metadata, verbatim."""
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    previous_token_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
