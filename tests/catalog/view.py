"""A dataset as rooms see it, where no exchange stands behind it."""

from __future__ import annotations

from typing import Any

from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import compile_validator


def dataset_view(schemas: dict[int, dict[str, Any]], **members: Any) -> DatasetView:
    """An open dataset of one partition, about nobody, under the last of these schemas, with other members as given."""
    usual: dict[str, Any] = {
        "slug": "stops",
        "owner_id": "org_1",
        "title": {"en": "Stops", "fr": "Arrêts"},
        "description": {"en": "Stops", "fr": "Arrêts"},
        "classification": "open",
        "licence": {"id": "CC-BY-4.0", "url": "https://creativecommons.org/licenses/by/4.0/", "attribution": "City"},
        "licence_revoked": False,
        "key_pointer": None,
        "subject_pointer": None,
        "subject_scheme": None,
        "personal_pointers": (),
        "partitions": 1,
        "retention": None,
        "topic": "exchange.stops.1",
        "topic_id": "1",
        "schemas": schemas,
        "current": max(schemas),
        "offers": {},
        "validator": compile_validator(schemas[max(schemas)]),
    }
    return DatasetView(**usual | members)
