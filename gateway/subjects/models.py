"""What lets a person ask, and what they are told of who received something about them. All of it dies with the subject's row."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import BigInteger, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from consent.models import Subject
from gateway.database import Base


class SubjectCode(Base):
    """A one-time code that a provider gave to a person, as keyed hash. `sref` is null for one of whom nothing is known."""

    __tablename__ = "subject_codes"
    hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    sref: Mapped[bytes | None] = mapped_column(LargeBinary, ForeignKey(Subject.__table__.c.sref, ondelete="CASCADE"), index=True)
    dataset: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class SubjectSession(Base):
    """A person's session, its token as keyed hash: for the dataset's provider, and what it knows of this person."""

    __tablename__ = "subject_sessions"
    hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    sref: Mapped[bytes | None] = mapped_column(LargeBinary, ForeignKey(Subject.__table__.c.sref, ondelete="CASCADE"), index=True)
    dataset: Mapped[str]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Disclosure(Base):
    """How many events about a person were delivered on one day (UTC) under one contract and decision; each delivery counts.

    `contract` and `purpose` are empty for open data, which anybody may have read.
    """

    __tablename__ = "disclosures"
    sref: Mapped[bytes] = mapped_column(LargeBinary, ForeignKey(Subject.__table__.c.sref, ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True, index=True)
    contract: Mapped[str] = mapped_column(primary_key=True)
    decision: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str]
    purpose: Mapped[str]
    events: Mapped[int] = mapped_column(BigInteger)
