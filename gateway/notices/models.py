"""Notices to organizations, as stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base


class Notice(Base):
    """Something that an organization is told. `data` holds identifiers and the reasons that parties gave each other.

    `n` is the number of the change that came with it: it orders the feed, and unlike a sequence shows no gap that is filled later.
    """

    __tablename__ = "notices"
    n: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(unique=True)
    organization_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"))
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    at: Mapped[datetime] = mapped_column(index=True)
    must_acknowledge_by: Mapped[datetime | None] = mapped_column(index=True)
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    """The client that acknowledged it."""
    lapsed_at: Mapped[datetime | None]
    """When it was seen that its time was over without an acknowledgement; what follows from that is done once."""
    __table_args__ = (Index("ix_notices_feed", "organization_id", "n"),)
