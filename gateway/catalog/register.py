"""Register: what is added to the catalogue, datasets, schema versions and offers."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import timedelta

import isodate
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gateway.audit.record import Entry, record
from gateway.catalog.compatibility import breaks
from gateway.catalog.directory import DatasetView, Directory
from gateway.catalog.documents import NewDataset, NewOffer, NewSchema
from gateway.catalog.models import Dataset, Offer, SchemaVersion
from gateway.catalog.pointers import check_pointers
from gateway.catalog.schemas import vet
from gateway.changes import note
from gateway.contracts.models import Contract
from gateway.database import new_id, now
from gateway.errors import ExchangeError, Invalid
from gateway.identity.principal import Principal
from gateway.notices.feed import notify

MakeTopic = Callable[[str, int, int | None], str]
"""Makes the topic (name, partitions, retention in ms or None for good) and returns its id. Blocks. Raises `log_unavailable`."""


def register_dataset(
    session: Session, document: NewDataset, owner_id: str, caller: Principal, catalog: Directory, make_topic: MakeTopic
) -> Dataset:
    """The new dataset with its first schema version. The log is asked before the transaction begins, so that no lock waits for it.

    Raises `already_exists`, `Invalid`, `log_unavailable`.
    """
    if catalog.get(document.slug) is not None:
        raise ExchangeError("already_exists", f"There is a dataset {document.slug}.")
    if document.supersedes is not None and catalog.get(document.supersedes) is None:
        raise Invalid([{"pointer": "/supersedes", "detail": "names no dataset"}])
    if document.subject_scheme is not None and document.subject_pointer is None:
        raise Invalid([{"pointer": "/subject_scheme", "detail": "says how a subject is named, but there is no subject_pointer"}])
    vet(document.schema_)
    check_pointers(document.schema_, document)
    topic = f"exchange.{document.slug}.{secrets.token_hex(4)}"
    topic_id = make_topic(topic, document.partitions, _milliseconds(document.retention))
    row = _row(document, owner_id, topic, topic_id)
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise ExchangeError("already_exists", f"There is a dataset {document.slug}.") from error
    session.add(SchemaVersion(dataset_slug=row.slug, number=1, document=document.schema_, created_at=row.created_at))
    note_act(session, row, caller, "created", "dataset_created", {"classification": row.classification})
    return row


def register_schema(session: Session, dataset: DatasetView, document: NewSchema, caller: Principal) -> SchemaVersion:
    """The next schema version. Raises `Invalid`, and `incompatible_schema` with what breaks."""
    vet(document.schema_)
    row = locked(session, dataset.slug)
    check_pointers(document.schema_, row, at="/schema")
    before = session.get_one(SchemaVersion, (row.slug, row.current))
    broken = breaks(row.compatibility, before.document, document.schema_)
    if broken:
        detail = f"The dataset promises {row.compatibility} compatibility; {broken[0]['pointer'] or 'the root'}: {broken[0]['detail']}."
        raise ExchangeError("incompatible_schema", detail, errors=[{**fault, "pointer": "/schema" + fault["pointer"]} for fault in broken])
    row.current += 1
    version = SchemaVersion(dataset_slug=row.slug, number=row.current, document=document.schema_, created_at=now())
    session.add(version)
    note_act(session, row, caller, "schema_published", "schema_published", {"number": str(version.number)})
    _tell_recipients(session, version, caller)
    return version


def register_offer(session: Session, dataset: DatasetView, document: NewOffer, caller: Principal) -> Offer:
    """The new offer. Raises `illegal_state` where contracts must be signed one by one."""
    row = locked(session, dataset.slug)
    if row.classification in {"personal", "sensitive"}:
        raise ExchangeError(
            "illegal_state", "Offers exist for open and internal datasets only: each contract over this one is signed by both sides."
        )
    offer = Offer(
        id=new_id("off"),
        dataset_slug=row.slug,
        purpose=document.purpose,
        terms=document.terms.model_dump(),
        max_validity=document.max_validity,
        max_history=document.max_history,
        to=[document.to] if isinstance(document.to, str) else document.to,
        signed_by=caller.actor,
        created_at=now(),
    )
    session.add(offer)
    note_act(session, row, caller, "offer_created", "offer_created", {"offer": offer.id}, purpose=offer.purpose)
    return offer


def locked(session: Session, slug: str) -> Dataset:
    """The dataset, held until the transaction ends: what depends on it as it stands is decided by one at a time."""
    return session.get_one(Dataset, slug, with_for_update=True)


def note_act(
    session: Session, row: Dataset, caller: Principal, action: str, change: str, detail: dict[str, str], *, purpose: str | None = None
) -> None:
    """The change and its audit entry, in the transaction of what was done."""
    session.flush()
    n = note(session, change, row.slug)
    record(
        session,
        Entry(
            kind="dataset",
            action=action,
            actor=caller.actor,
            organization=caller.organization_id,
            dataset=row.slug,
            purpose=purpose,
            change=n,
            detail=detail,
            provider=row.owner_id,
        ),
    )


def _tell_recipients(session: Session, version: SchemaVersion, caller: Principal) -> None:
    """Tell those who have a contract over the dataset, or have proposed one, which schema its events will have."""
    theirs = select(Contract.consumer_id).where(Contract.dataset_slug == version.dataset_slug, Contract.state != "ended").distinct()
    for recipient in sorted(set(session.scalars(theirs)) - {caller.organization_id}):
        notify(session, recipient, "schema.published", {"dataset": version.dataset_slug, "number": version.number})


def _row(document: NewDataset, owner_id: str, topic: str, topic_id: str) -> Dataset:
    return Dataset(
        slug=document.slug,
        owner_id=owner_id,
        title=document.title.model_dump(),
        description=document.description.model_dump(),
        classification=document.classification,
        licence=document.licence.model_dump(),
        licence_revoked=False,
        key_pointer=document.key_pointer,
        subject_pointer=document.subject_pointer,
        subject_scheme=(document.subject_scheme or "opaque") if document.subject_pointer else None,
        personal_pointers=document.personal_pointers,
        sealed_pointers=document.sealed_pointers,
        partitions=document.partitions,
        retention=document.retention,
        compatibility=document.compatibility,
        contact=document.contact,
        legal_authority=document.legal_authority,
        assessment=document.assessment,
        supersedes=document.supersedes,
        topic=topic,
        topic_id=topic_id,
        current=1,
        created_at=now(),
    )


def _milliseconds(retention: str | None) -> int | None:
    return None if retention is None else isodate.parse_duration(retention) // timedelta(milliseconds=1)
