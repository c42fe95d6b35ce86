"""Subjects, notices and consent records, as stored, in a MetaData of their own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Index, LargeBinary, MetaData, TypeDecorator, UniqueConstraint, false
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
    """A consent record (ISO/IEC TS 27560 field names where it has them). `consent.states` has its states and their moves."""

    __tablename__ = "consents"
    id: Mapped[str] = mapped_column(primary_key=True)
    sref: Mapped[bytes] = mapped_column(LargeBinary, index=True)
    dataset: Mapped[str] = mapped_column(index=True)
    purposes: Mapped[list[str]] = mapped_column(JSON)
    recipients: Mapped[list[str]] = mapped_column(JSON)
    """Identifiers of organizations, or `any_recipient`."""
    notice: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """{id, version, language} of what the person was shown."""
    legal_ground: Mapped[str] = mapped_column(server_default="consent")
    """That of its notice: consent, or notice_with_opt_out."""
    covers_earlier: Mapped[bool] = mapped_column(server_default=false())
    """True if its notice covers events that were appended before the consent was given."""
    given_by: Mapped[str | None]
    """Who gave it, or refused it; None while it is only requested."""
    evidence: Mapped[dict[str, str] | None] = mapped_column(JSON)
    state: Mapped[str]
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime | None]
    given_at: Mapped[datetime | None]
    resumed_at: Mapped[datetime | None]
    """When it was last given again after a pause."""
    ended_at: Mapped[datetime | None]
    change: Mapped[int] = mapped_column(BigInteger, index=True)
    """The number of the last change of this record: per subject, records apply in change order. Those of an import share one."""
    code_key_id: Mapped[str | None]
    code_hash: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    """Keyed hash of the withdrawal code, whose holder can withdraw this record."""
    __table_args__ = (Index("ix_consents_due", "state", "valid_until"),)


class StateChange(Base):
    """The history of a record: one row a state that it came to. Rows are added and never changed; they name nobody."""

    __tablename__ = "consent_history"
    consent_id: Mapped[str] = mapped_column(ForeignKey("consents.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """1 for the record's first state, and so on."""
    state: Mapped[str]
    at: Mapped[datetime]
    by: Mapped[str]
    """Whose act it was: `consent.states.BY`."""
    client: Mapped[str | None]
    """The client that brought it; None for time and for a withdrawal code."""
    reason: Mapped[str | None]
    evidence: Mapped[dict[str, str] | None] = mapped_column(JSON)
    change: Mapped[int] = mapped_column(BigInteger)


class Notice(Base):
    """A notice of consent: `current` is the number of its newest version."""

    __tablename__ = "consent_notices"
    id: Mapped[str] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(index=True)
    current: Mapped[int]


class NoticeVersion(Base):
    """What people were shown, word for word. Never changed: a change is a new version."""

    __tablename__ = "consent_notice_versions"
    notice_id: Mapped[str] = mapped_column(ForeignKey("consent_notices.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    title: Mapped[dict[str, str]] = mapped_column(JSON)
    """By language, en and fr; so is `text`."""
    text: Mapped[dict[str, str]] = mapped_column(JSON)
    text_digest: Mapped[dict[str, str]] = mapped_column(JSON)
    """By language, `sha-256=:<base64>:` of the text in UTF-8."""
    purposes: Mapped[list[str]] = mapped_column(JSON)
    recipients: Mapped[list[str]] = mapped_column(JSON)
    legal_ground: Mapped[str]
    covers_earlier: Mapped[bool]
    created_at: Mapped[datetime]


class ImportedChunk(Base):
    """A part of a mass import that is done, so that sending it again does nothing twice."""

    __tablename__ = "consent_imports"
    owner: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    chunk: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """Keyed hash of what was sent."""
    change: Mapped[int] = mapped_column(BigInteger)
    first: Mapped[str]
    last: Mapped[str]
    """The least and the greatest identifier of its records."""
    records: Mapped[int]
    at: Mapped[datetime]
