"""The officer's desk: what work on policy needs of the rest of this process, in one place. The composition root makes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from fastapi import Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.access.candidate.opa_binary import find_opa
from gateway.access.candidate.sheets import DatasetFacts
from gateway.access.models import DecisionRow
from gateway.barrier.wait import Barrier
from gateway.catalog.directory import DatasetView
from gateway.catalog.directory import Directory as Catalog
from gateway.catalog.models import Dataset
from gateway.catalog.schemas import fields_of
from gateway.contracts.directory import ContractView
from gateway.contracts.directory import Directory as Contracts
from gateway.contracts.directory import view as contract_view
from gateway.contracts.models import Contract
from gateway.database import Database
from gateway.errors import ExchangeError
from gateway.identity.directory import Directory as People
from gateway.settings import Settings

Obligations = tuple[dict[str, Any], ...]
CountEvents = Callable[
    [DatasetView, Sequence[tuple[ContractView, Obligations | None, Obligations | None]], Callable[[float], None]],
    Sequence[Mapping[str, Any]],
]
"""For contracts over one dataset, how many retained events pass each of two decisions, None being a refusal; who waits is told the share
that is done.
"""
MOST_RECORDED = 200


@dataclass(frozen=True, slots=True)
class Desk:
    """Made once by `create_app`."""

    settings: Settings
    database: Database
    barrier: Barrier
    people: People
    catalog: Catalog
    contracts: Contracts
    count_events: CountEvents
    affected: dict[tuple[str, str, str], list[dict[str, Any]]] = field(default_factory=dict)
    """What was worked out of pairs of revisions (`affected.py`)."""

    @property
    def wait(self) -> timedelta:
        """How long who approves must have held the role."""
        return timedelta(hours=self.settings.approval_wait_h)

    @property
    def opa(self) -> Path | None:
        """The OPA program beside this gateway. Raises `vetting_unavailable` where production lacks it."""
        found = find_opa(self.settings.opa_binary)
        if found is None and not self.settings.development:
            raise ExchangeError("vetting_unavailable", f"There is no program {self.settings.opa_binary!r} beside this gateway.")
        return found


def desk_of(request: Request) -> Desk:
    """The desk of this process."""
    desk: Desk = request.app.state.desk
    return desk


def contracts_in_force(session: Session) -> list[ContractView]:
    """Every active contract, in the order of their identifiers."""
    return [contract_view(row) for row in session.scalars(select(Contract).where(Contract.state == "active").order_by(Contract.id))]


def digest_of_contracts(contracts: Sequence[ContractView]) -> str:
    """SHA-256, in hex, over what a decision on these contracts depends on."""
    told = [[each.id, each.dataset_slug, each.purpose, each.valid_from.isoformat(), each.valid_until.isoformat()] for each in contracts]
    return hashlib.sha256(orjson.dumps(told)).hexdigest()


def recorded_facts(session: Session) -> list[dict[str, Any]]:
    """The facts of the newest decisions, each as it was kept."""
    rows = session.scalars(select(DecisionRow.facts).order_by(DecisionRow.at.desc()).limit(MOST_RECORDED))
    return [orjson.loads(facts) for facts in rows]


def dataset_facts(session: Session, catalog: Catalog) -> dict[str, DatasetFacts]:
    """What rule sheets are held against, by slug."""
    found = {}
    for row in session.scalars(select(Dataset)):
        known = catalog.get(row.slug)
        found[row.slug] = DatasetFacts(
            slug=row.slug,
            classification=row.classification,
            fields=fields_of(known.schema) if known else (),
            subject_pointer=row.subject_pointer,
            lacks=[name for name in ("legal_authority", "contact", "assessment") if not getattr(row, name)],
        )
    return found
