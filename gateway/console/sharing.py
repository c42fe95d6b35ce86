"""Who shares what with whom: what anybody may know of contracts. Organizations, dataset, purpose, ground and time; nothing of clients."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from gateway.access.grounds import Grounds
from gateway.catalog.directory import Directory as Catalog
from gateway.catalog.purposes import purpose
from gateway.console.words import words
from gateway.contracts.directory import Directory as Contracts
from gateway.contracts.models import Contract
from gateway.database import now
from gateway.identity.directory import Directory as People


def in_force(catalog: Catalog, at: datetime, slug: str | None = None) -> Select[Contract]:
    """The contracts in force over datasets that anybody may know of; over one of them, if it is named."""
    hidden = [dataset.slug for dataset in catalog.all() if dataset.classification == "sensitive"]
    statement = select(Contract).where(
        Contract.state == "active", Contract.valid_from <= at, Contract.valid_until > at, Contract.dataset_slug.not_in(hidden)
    )
    return statement.where(Contract.dataset_slug == slug) if slug is not None else statement


def count_in_force(session: Session, catalog: Catalog, slug: str | None = None) -> int:
    """How many there are."""
    return session.scalar(select(func.count()).select_from(in_force(catalog, now(), slug).subquery())) or 0


def shown(session: Session, state: Any, contract_ids: list[str]) -> list[dict[str, Any]]:
    """These contracts in their order, each with its ground under the policy of now; `ground` is None where policy refuses it now."""
    contracts: Contracts = state.contracts
    people: People = state.identity
    catalog: Catalog = state.catalog
    grounds: Grounds = state.grounds
    known = [contract for contract in map(contracts.get, contract_ids) if contract is not None]
    standings = grounds.of(session, known)
    found = []
    for contract in known:
        dataset, for_what = catalog.get(contract.dataset_slug), purpose(contract.purpose)
        stands = standings.get(contract.id)
        found.append(
            {
                "id": contract.id,
                "provider": name_of(people, contract.provider_id),
                "consumer": name_of(people, contract.consumer_id),
                "dataset": contract.dataset_slug,
                "title": dataset.title if dataset else {"en": contract.dataset_slug, "fr": contract.dataset_slug},
                "purpose": for_what.title if for_what else {"en": contract.purpose, "fr": contract.purpose},
                "grounds": grounds_of(stands.ground) if stands else [],
                "consent": "consent_filter" in stands.kinds if stands else False,
                "opt_out": "opt_out_filter" in stands.kinds if stands else False,
                "valid_from": contract.valid_from,
                "valid_until": contract.valid_until,
            }
        )
    return found


def name_of(people: People, organization_id: str) -> str:
    """The organization's name, which anybody may know; its identifier where there is none any more."""
    organization = people.organization(organization_id)
    return organization.name if organization else organization_id


def grounds_of(told: str) -> list[dict[str, str]]:
    """A decision's legal grounds, `code: where it is written`, each with the two apart; a reference may have a semicolon too."""
    found: list[dict[str, str]] = []
    for part in told.split("; "):
        code, _, reference = part.partition(": ")
        if found and f"ground.{code}" not in words():
            found[-1]["reference"] += f"; {part}"
        else:
            found.append({"code": code, "reference": reference})
    return found
