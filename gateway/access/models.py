"""Policy revisions and decisions, as stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base


class PolicyRevision(Base):
    """A set of Rego modules, rule sheets and tests. `state`: draft, proposed, approved, activating, active, retired.

    `installed`: by setup, which made it active at once; it is the only kind that no two persons have agreed on.
    """

    __tablename__ = "policy_revisions"
    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(index=True)
    files: Mapped[dict[str, str]] = mapped_column(JSON)
    """Path below `policies/` to text."""
    digest: Mapped[str]
    """SHA-256 of the bundle's bytes, in hex."""
    created_at: Mapped[datetime]
    activated_at: Mapped[datetime | None]
    """When it was last made active."""
    title: Mapped[str | None]
    installed: Mapped[bool] = mapped_column(default=False)
    based_on: Mapped[str | None]
    """The revision that it began as a copy of."""
    created_by: Mapped[str | None]
    proposed_by: Mapped[str | None]
    proposed_at: Mapped[datetime | None]
    vetting: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """What it passed when it was proposed: {engines, tests, inputs, not_done}."""
    approved_by: Mapped[str | None]
    approved_at: Mapped[datetime | None]
    approved_preview: Mapped[int | None]
    """The number of the preview that who approved had seen."""
    activated_by: Mapped[str | None]
    change: Mapped[int | None] = mapped_column(BigInteger)
    """The change by which replicas last turned to it."""
    replaces: Mapped[str | None]
    """While it is activating, the revision that is active until then."""
    affected: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)
    """While it is activating: the contracts for which it changes something."""
    problem: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """Why it last did not become active: {at, instances: [{instance, says}]}."""
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it as it stands


class PolicyPreview(Base):
    """What a revision would change, replayed once. `state`: running, done, failed. `beat_at` tells that somebody is at work on it."""

    __tablename__ = "policy_previews"
    revision_id: Mapped[str] = mapped_column(ForeignKey("policy_revisions.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str]
    days: Mapped[int]
    done: Mapped[int]
    total: Mapped[int]
    asked_by: Mapped[str]
    asked_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    digest: Mapped[str]
    """Of the revision as it was replayed."""
    against: Mapped[str]
    """The revision that was active."""
    contracts_digest: Mapped[str]
    """Of the contracts in force, as they were replayed."""
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    problem: Mapped[str | None]


class EngineReport(Base):
    """What the policy engine of a replica last made of a revision. `state`: has, refused, silent. `instance` is the replica's place."""

    __tablename__ = "policy_engine_reports"
    instance: Mapped[str] = mapped_column(primary_key=True)
    revision_id: Mapped[str]
    change: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str]
    says: Mapped[str]
    at: Mapped[datetime]


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
