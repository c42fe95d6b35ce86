"""Contracts and their signatures, as stored."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column, relationship

from gateway.database import Base


class Signature(Base):
    """One side's act on the text: `side` is provider or consumer. `jws` is detached (RFC 7515 appendix F), over the text's digest."""

    __tablename__ = "contract_signatures"
    contract_id: Mapped[str] = mapped_column(ForeignKey("contracts.id"), primary_key=True)
    side: Mapped[str] = mapped_column(primary_key=True)
    by: Mapped[str]
    """The client that acted, or the offer that was taken up."""
    at: Mapped[datetime]
    key_id: Mapped[str | None]
    jws: Mapped[str | None]


class Contract(Base):
    """A contract. `state`: proposed, active, suspended, ended. `text` is what both sides signed, byte for byte, never rendered again."""

    __tablename__ = "contracts"
    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(index=True)
    provider_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"), index=True)
    consumer_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"), index=True)
    dataset_slug: Mapped[str] = mapped_column(ForeignKey("datasets.slug"), index=True)
    purpose: Mapped[str]
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime]
    history: Mapped[str]
    """none, an ISO 8601 duration, or all: how far before `valid_from` it may read."""
    note: Mapped[str | None]
    offer_id: Mapped[str | None]
    text: Mapped[bytes] = mapped_column(LargeBinary)
    text_digest: Mapped[str]
    """`sha-256=:<base64>:` (RFC 9530)."""
    decision_id: Mapped[str]
    suspended_by: Mapped[str | None]
    """While it is suspended, the side that did it: provider, officer."""
    ended_reason: Mapped[str | None]
    """by_consumer, by_provider, by_officer, expired, licence_revoked."""
    reason: Mapped[str | None]
    """In a few words, why it was last suspended, resumed or ended; `reason_note` says more."""
    reason_note: Mapped[str | None]
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()
    signatures: Mapped[list[Signature]] = relationship(order_by=Signature.at, lazy="selectin")
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as it stands
