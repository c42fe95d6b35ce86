"""Leases as they are stored."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import BigInteger, Float
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base

SILENT_LEASES = 1.2
"""A lease that shows no renewal for so many of itself is shown as silent."""


class Lease(Base):
    """One start of one replica. `id` is its place (host and port), `incarnation` this start of it.

    `beat` counts renewals; `confirmed` is the number of the last change before which nothing is under way any more. `lease_s` is null
    if the lease does not run out. Times are for people: nothing is decided by them.
    """

    __tablename__ = "leases"
    id: Mapped[str] = mapped_column(primary_key=True)
    incarnation: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str]
    lease_s: Mapped[float | None] = mapped_column(Float)
    joined_at: Mapped[datetime]
    renewed_at: Mapped[datetime]
    beat: Mapped[int] = mapped_column(BigInteger)
    confirmed: Mapped[int] = mapped_column(BigInteger)
    fenced: Mapped[bool]
    fenced_at: Mapped[datetime | None]
    fenced_by: Mapped[str | None]

    def state(self, at: datetime) -> Literal["live", "silent", "fenced"]:
        """What it looks like at this time, for people."""
        if self.fenced:
            return "fenced"
        quiet = (at - self.renewed_at).total_seconds()
        return "silent" if self.lease_s is not None and quiet > SILENT_LEASES * self.lease_s else "live"
