"""An example of each document of the catalogue: for the OpenAPI document, and for the JSON Schemas in `schemas/`."""

from __future__ import annotations

from typing import Any

PURPOSE: dict[str, Any] = {
    "code": "transit-planning",
    "iri": "https://w3id.org/dpv#ImproveTransportMobility",
    "title": {"en": "Planning of public transit", "fr": "Planification du transport en commun"},
    "broader": ["city-operations"],
}

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["at", "zone", "visitor"],
    "properties": {
        "at": {"type": "string", "format": "date-time"},
        "zone": {"type": "string", "maxLength": 60},
        "visitor": {"type": "string", "maxLength": 200},
    },
}

NEW_DATASET: dict[str, Any] = {
    "slug": "port-credit-footfall",
    "title": {"en": "Visits to businesses in Port Credit", "fr": "Visites des commerces de Port Credit"},
    "description": {"en": "One event a visit. The visitors are invented.", "fr": "Un événement par visite. Les visiteurs sont inventés."},
    "classification": "personal",
    "licence": {"id": "CC-BY-4.0", "url": "https://creativecommons.org/licenses/by/4.0/", "attribution": "City of Mississauga"},
    "key_pointer": "/visitor",
    "subject_pointer": "/visitor",
    "personal_pointers": ["/visitor"],
    "sealed_pointers": [],
    "partitions": 4,
    "retention": "P30D",
    "compatibility": "backward",
    "schema": SCHEMA,
    "contact": "open.data@mississauga.example",
    "legal_authority": "Municipal Act, 2001, s. 10",
    "assessment": "PIA 2026-14",
}

SUMMARY: dict[str, Any] = {name: value for name, value in NEW_DATASET.items() if name != "schema"} | {
    "owner": "org_01jd0000000000000000000001",
    "subject_scheme": "opaque",
    "supersedes": None,
    "licence_revoked": False,
    "schema_version": 1,
    "created_at": "2026-11-23T12:00:00Z",
}

DATASET: dict[str, Any] = SUMMARY | {"schema": SCHEMA}

SCHEMA_VERSION: dict[str, Any] = {
    "dataset": "port-credit-footfall",
    "number": 2,
    "schema": SCHEMA | {"properties": SCHEMA["properties"] | {"age_band": {"enum": ["18-24", "25-34", "35-44", "45-54", "55-64", "65+"]}}},
    "created_at": "2026-11-24T09:30:00Z",
}

NEW_OFFER: dict[str, Any] = {
    "purpose": "research",
    "terms": {"en": "Results are published.", "fr": "Les résultats sont publiés."},
    "max_validity": "P365D",
    "max_history": "all",
    "to": "approved_organizations",
}

OFFER: dict[str, Any] = NEW_OFFER | {
    "id": "off_01jd0000000000000000000002",
    "dataset": "miway-stops",
    "created_at": "2026-11-23T12:00:00Z",
}

EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "sample-1",
    "source": "https://exchange.example/v1/datasets/port-credit-footfall/sample",
    "type": "port-credit-footfall.sample",
    "time": "2026-01-05T08:01:00Z",
    "datacontenttype": "application/json",
    "synthetic": True,
    "data": {"at": "2026-01-11T22:28:07Z", "zone": "harbour", "visitor": "maple"},
}
