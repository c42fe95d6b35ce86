"""Policy revisions and decisions, as stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base


class PolicyRevision(Base):
    """A set of Rego modules, rule sheets and tests. `state`: installed, draft, proposed, approved, activating, active, retired."""

    __tablename__ = "policy_revisions"
    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(index=True)
    files: Mapped[dict[str, str]] = mapped_column(JSON)
    """Path below `policies/` to text."""
    digest: Mapped[str]
    """SHA-256 of the bundle's content, in hex."""
    created_at: Mapped[datetime]
    activated_at: Mapped[datetime | None]


class DecisionRow(Base):
    """A decision, with its facts byte for byte as the engine was given them."""

    __tablename__ = "decisions"
    id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    action: Mapped[str]
    client_id: Mapped[str | None] = mapped_column(index=True)
    organization_id: Mapped[str | None] = mapped_column(index=True)
    dataset_slug: Mapped[str] = mapped_column(index=True)
    contract_id: Mapped[str | None] = mapped_column(index=True)
    purpose: Mapped[str | None]
    facts: Mapped[bytes] = mapped_column(LargeBinary)
    allow: Mapped[bool]
    reasons: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    obligations: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    revision: Mapped[str]
    until: Mapped[datetime]
