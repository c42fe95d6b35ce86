"""The datasets as this process knows them: in memory, loaded once, then following the changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from jsonschema_rs import Draft202012Validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.catalog.models import Dataset, Offer, SchemaVersion
from gateway.catalog.schemas import compile_list_validator, describe
from gateway.changes import Change

CHANGES = frozenset(
    {
        "dataset_created",
        "dataset_changed",
        "schema_published",
        "licence_revoked",
        "classification_raised",
        "classification_lowered",
        "offer_created",
    },
)
"""The kinds of change that are about a dataset; their object is its slug."""


@dataclass(frozen=True, slots=True)
class OfferView:
    """A standing offer. `max_validity` is an ISO 8601 duration, `max_history` that, `none` or `all`."""

    id: str
    purpose: str
    terms: dict[str, str]
    max_validity: str
    max_history: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatasetView:
    """A dataset at one change. `schemas` holds its schema versions by number; `validator` checks a list of `data` by the current one."""

    slug: str
    owner_id: str
    title: dict[str, str]
    description: dict[str, str]
    classification: str
    licence: dict[str, str]
    licence_revoked: bool
    key_pointer: str | None
    subject_pointer: str | None
    subject_scheme: str | None
    personal_pointers: tuple[str, ...]
    partitions: int
    retention: str | None
    topic: str
    topic_id: str | None
    schemas: dict[int, dict[str, Any]]
    current: int
    offers: dict[str, OfferView]
    validator: Draft202012Validator = field(repr=False, compare=False)
    sealed_pointers: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The current schema version's document."""
        return self.schemas[self.current]

    @property
    def needs_signatures(self) -> bool:
        """True if contracts over it are in force only when both sides have signed by key."""
        return self.classification in {"personal", "sensitive"}

    def fits(self, instance: Any) -> bool:
        """True if an event may have this `data`."""
        return self.validator.is_valid([instance])

    def describe_errors(self, instance: Any) -> list[dict[str, str]]:
        """What is wrong with this event's `data`, as {pointer, detail}, the first twenty; values never stand in it. Empty: it fits."""
        return [error | {"pointer": error["pointer"].removeprefix("/0")} for error in describe(self.validator, [instance])]


class Directory:
    """All datasets by slug. Reading takes no lock: an entry is replaced whole."""

    def __init__(self) -> None:
        self._datasets: dict[str, DatasetView] = {}

    def get(self, slug: str) -> DatasetView | None:
        return self._datasets.get(slug)

    def all(self) -> tuple[DatasetView, ...]:
        return tuple(self._datasets.values())

    def load(self, session: Session) -> None:
        """Fill from the database, all anew."""
        self._datasets = _views(session, session.scalars(select(Dataset)))

    def on_changes(self, session: Session, changes: Sequence[Change]) -> None:
        """Read again what these changes are about."""
        slugs = {change.object for change in changes if change.kind in CHANGES}
        if slugs:
            self._datasets |= _views(session, session.scalars(select(Dataset).where(Dataset.slug.in_(slugs))))


def _views(session: Session, rows: Iterable[Dataset]) -> dict[str, DatasetView]:
    datasets = {row.slug: row for row in rows}
    schemas: dict[str, dict[int, dict[str, Any]]] = {slug: {} for slug in datasets}
    for version in session.scalars(select(SchemaVersion).where(SchemaVersion.dataset_slug.in_(datasets)).order_by(SchemaVersion.number)):
        schemas[version.dataset_slug][version.number] = version.document
    offers: dict[str, dict[str, OfferView]] = {slug: {} for slug in datasets}
    for offer in session.scalars(select(Offer).where(Offer.dataset_slug.in_(datasets)).order_by(Offer.id)):
        view = OfferView(offer.id, offer.purpose, offer.terms, offer.max_validity, offer.max_history, tuple(offer.to))
        offers[offer.dataset_slug][offer.id] = view
    return {slug: _view(row, schemas[slug], offers[slug]) for slug, row in datasets.items()}


def _view(row: Dataset, schemas: dict[int, dict[str, Any]], offers: dict[str, OfferView]) -> DatasetView:
    return DatasetView(
        slug=row.slug,
        owner_id=row.owner_id,
        title=row.title,
        description=row.description,
        classification=row.classification,
        licence=row.licence,
        licence_revoked=row.licence_revoked,
        key_pointer=row.key_pointer,
        subject_pointer=row.subject_pointer,
        subject_scheme=row.subject_scheme,
        personal_pointers=tuple(row.personal_pointers),
        partitions=row.partitions,
        retention=row.retention,
        topic=row.topic,
        topic_id=row.topic_id,
        schemas=schemas,
        current=row.current,
        offers=offers,
        validator=compile_list_validator(schemas[row.current]),
        sealed_pointers=tuple(row.sealed_pointers),
    )


async def _catalog(request: Request) -> Directory:
    directory: Directory = request.app.state.catalog
    return directory


Catalog = Annotated[Directory, Depends(_catalog)]
