"""Subjects and consent records, as stored, in a MetaData of their own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, LargeBinary, MetaData, TypeDecorator, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Moment(TypeDecorator[datetime]):
    """A time in UTC. SQLite forgets the zone; this puts it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without zone")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """The tables of the consent package."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        },
    )
    type_annotation_map = {datetime: Moment}  # noqa: RUF012 - SQLAlchemy reads it as it stands


class Subject(Base):
    """The person that events are about, known by `sref` (16 random bytes) and never by an identifier.

    `lookup` is HMAC-SHA-256(index key, provider, scheme, normalised identifier): it finds the row and tells nobody whose it is.
    `secret` (32 random bytes) makes the pseudonyms; it dies with the row.
    """

    __tablename__ = "subjects"
    sref: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    provider: Mapped[str]
    lookup: Mapped[bytes] = mapped_column(LargeBinary)
    lookup_key_id: Mapped[str]
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (UniqueConstraint("lookup", "lookup_key_id"),)


class ConsentRecord(Base):
    """A consent record (ISO/IEC TS 27560 field names where it has them). `state`: given, withdrawn; the others come with notices."""

    __tablename__ = "consents"
    id: Mapped[str] = mapped_column(primary_key=True)
    sref: Mapped[bytes] = mapped_column(LargeBinary, index=True)
    dataset: Mapped[str] = mapped_column(index=True)
    purposes: Mapped[list[str]] = mapped_column(JSON)
    recipients: Mapped[list[str]] = mapped_column(JSON)
    """Identifiers of organizations, or `any_recipient`."""
    notice: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    given_by: Mapped[str]
    evidence: Mapped[dict[str, str] | None] = mapped_column(JSON)
    state: Mapped[str]
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime | None]
    given_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    change: Mapped[int] = mapped_column(BigInteger)
    """The number of the last change of this record: per subject, records apply in change order."""
