"""Datasets, their schema versions, and offers, as stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base


class Dataset(Base):
    """A dataset. `title`, `description`: {en, fr}. `classification`: open, internal, personal, sensitive."""

    __tablename__ = "datasets"
    slug: Mapped[str] = mapped_column(primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("organizations.id"), index=True)
    title: Mapped[dict[str, str]] = mapped_column(JSON)
    description: Mapped[dict[str, str]] = mapped_column(JSON)
    classification: Mapped[str]
    licence: Mapped[dict[str, str]] = mapped_column(JSON)
    """{id, url, attribution}."""
    licence_revoked: Mapped[bool] = mapped_column(default=False)
    key_pointer: Mapped[str | None]
    subject_pointer: Mapped[str | None]
    subject_scheme: Mapped[str | None]
    """How an identifier at `subject_pointer` is normalised: opaque, email, e164."""
    personal_pointers: Mapped[list[str]] = mapped_column(JSON)
    sealed_pointers: Mapped[list[str]] = mapped_column(JSON, default=list)
    """The personal fields that are stored sealed, under a key of the event's subject."""
    partitions: Mapped[int]
    retention: Mapped[str | None]
    """ISO 8601 duration; none: kept for good."""
    compatibility: Mapped[str]
    """backward, forward, full, none: what a new schema version owes the last one."""
    contact: Mapped[str | None]
    legal_authority: Mapped[str | None]
    assessment: Mapped[str | None]
    supersedes: Mapped[str | None]
    topic: Mapped[str]
    topic_id: Mapped[str | None]
    current: Mapped[int]
    """The number of the current schema version."""
    created_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as it stands


class SchemaVersion(Base):
    """A version of a dataset's JSON Schema 2020-12 for the event's `data`; `number` counts from 1."""

    __tablename__ = "schema_versions"
    dataset_slug: Mapped[str] = mapped_column(ForeignKey("datasets.slug"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime]


class Offer(Base):
    """Terms to which a provider has signed in advance, for an open or internal dataset."""

    __tablename__ = "offers"
    id: Mapped[str] = mapped_column(primary_key=True)
    dataset_slug: Mapped[str] = mapped_column(ForeignKey("datasets.slug"), index=True)
    purpose: Mapped[str]
    terms: Mapped[dict[str, str]] = mapped_column(JSON)
    max_validity: Mapped[str]
    """ISO 8601 duration."""
    max_history: Mapped[str]
    """none, an ISO 8601 duration, or all."""
    to: Mapped[list[str]] = mapped_column(JSON)
    """`anyone`, `approved_organizations`, or identifiers of organizations."""
    signed_by: Mapped[str]
    created_at: Mapped[datetime]
