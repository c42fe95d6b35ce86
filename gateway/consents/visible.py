"""Whose records: a dataset's owner acts on those of its own, the privacy officer reads and stops any; to others they are not there."""

from __future__ import annotations

from consent.models import ConsentRecord
from consent.subjects import normalise
from gateway.catalog.directory import DatasetView
from gateway.catalog.directory import Directory as Catalog
from gateway.errors import ExchangeError, Invalid
from gateway.identity.principal import Principal

OFFICER = "privacy_officer"


def owned(slug: str, caller: Principal, catalog: Catalog) -> DatasetView:
    """The dataset, if the caller's organization owns it. Raises `not_found`."""
    dataset = catalog.get(slug)
    if dataset is None or dataset.owner_id != caller.organization_id:
        raise ExchangeError("not_found", "There is no such dataset of your organization.")
    return dataset


def searched(slug: str, caller: Principal, catalog: Catalog) -> DatasetView:
    """The same, and any dataset for the privacy officer, to whom a person may come. Raises `not_found`."""
    dataset = catalog.get(slug)
    return dataset if dataset is not None and OFFICER in caller.roles else owned(slug, caller, catalog)


def visible(found: ConsentRecord | None, caller: Principal, catalog: Catalog) -> ConsentRecord:
    """The record, if the caller may see it. Raises `not_found`."""
    if found is None or (OFFICER not in caller.roles and owner_of(found, catalog) != caller.organization_id):
        raise ExchangeError("not_found")
    return found


def owner_of(found: ConsentRecord, catalog: Catalog) -> str | None:
    """The organization that owns the record's dataset."""
    dataset = catalog.get(found.dataset)
    return dataset.owner_id if dataset else None


def scheme_of(dataset: DatasetView) -> str:
    """How the dataset names people. Raises `Invalid` for one that names none."""
    if dataset.subject_pointer is None or dataset.subject_scheme is None:
        raise Invalid([{"pointer": "/dataset", "detail": "has no subject: its events are about no person"}])
    return dataset.subject_scheme


def check_subject(scheme: str, subject: str, pointer: str = "/subject") -> None:
    """Raises `Invalid` for an identifier that is none of this scheme."""
    try:
        normalise(scheme, subject)
    except ValueError as error:
        raise Invalid([{"pointer": pointer, "detail": str(error)}]) from None
