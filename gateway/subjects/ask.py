"""What the exchange knows about the person who asks: consents, disclosures, and the datasets that they are in."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any

from sqlalchemy import Date, Row, Select, String, literal, select, tuple_
from sqlalchemy.orm import Session

from consent.models import ConsentRecord
from gateway.catalog.models import Dataset
from gateway.consents.show import show_all
from gateway.contracts.models import Contract
from gateway.identity.models import Organization
from gateway.subjects.codes import Person
from gateway.subjects.models import Disclosure

Place = tuple[date, str, str]
"""Where a page of disclosures ended: day, contract, decision."""


def consents_of(session: Session, person: Person) -> list[dict[str, Any]]:
    """Their consent records at this provider, oldest first."""
    mine = select(ConsentRecord).where(ConsentRecord.sref == person.sref).order_by(ConsentRecord.id)
    return show_all(session, session.scalars(mine).all())


def disclosures_of(session: Session, person: Person, *, after: Place | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """Who received something about them, by day, from behind the place `after`."""
    mine = _disclosures().where(Disclosure.sref == person.sref)
    order = (Disclosure.day, Disclosure.contract, Disclosure.decision)
    if after is not None:
        day, contract, decision = after
        mine = mine.where(tuple_(*order) > tuple_(literal(day, Date), literal(contract, String), literal(decision, String)))
    return [_show(row) for row in session.execute(mine.order_by(*order).limit(limit))]


def datasets_of(session: Session, slugs: Collection[str]) -> list[dict[str, Any]]:
    """These datasets, as far as they concern who is in them."""
    rows = select(Dataset, Organization).join(Organization, Organization.id == Dataset.owner_id).where(Dataset.slug.in_(slugs))
    return [
        {
            "slug": dataset.slug,
            "title": dataset.title,
            "description": dataset.description,
            "classification": dataset.classification,
            "owner": {"id": owner.id, "name": owner.name},
            "contact": dataset.contact,
        }
        for dataset, owner in session.execute(rows.order_by(Dataset.slug))
    ]


def export(session: Session, person: Person) -> dict[str, Any]:
    """All of it."""
    consents, disclosures = consents_of(session, person), disclosures_of(session, person)
    slugs = {person.dataset, *(found["dataset"] for found in (*consents, *disclosures))}
    return {"datasets": datasets_of(session, slugs), "consents": consents, "disclosures": disclosures}


def _disclosures() -> Select[Disclosure, str, str]:
    with_recipient = select(Disclosure, Organization.id, Organization.name).outerjoin(Contract, Contract.id == Disclosure.contract)
    return with_recipient.outerjoin(Organization, Organization.id == Contract.consumer_id)


def _show(row: Row[Disclosure, str, str]) -> dict[str, Any]:
    found, recipient, name = row
    return {
        "day": found.day,
        "dataset": found.dataset,
        "contract": found.contract or None,
        "recipient": {"id": recipient, "name": name} if recipient else None,
        "purpose": found.purpose or None,
        "decision": found.decision,
        "events": found.events,
    }
