"""What the OpenAPI document shows of the stream plane: bodies that are not JSON documents of ours, and answers of several forms."""

from __future__ import annotations

from typing import Any

from gateway.streams.events import BATCH, STRUCTURED

STOP: dict[str, Any] = {
    "specversion": "1.0",
    "id": "stop-0001",
    "source": "https://miway.example/stops",
    "type": "ca.mississauga.transit.stop",
    "time": "2026-11-23T12:00:00Z",
    "data": {"stop_id": "0001", "name": "Erin Mills Pky North Of Lincoln Green Way", "lat": 43.535249, "lon": -79.663644},
}
READ_STOP = STOP | {
    "schemaversion": 1,
    "dataset": "miway-stops",
    "licence": "mississauga-open-data",
    "dataschema": "https://exchange.example/v1/datasets/miway-stops/schemas/1",
}
RECEIPT = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"

PUBLISH: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            BATCH: {"schema": {"type": "array", "items": {"type": "object"}, "minItems": 1}, "example": [STOP]},
            STRUCTURED: {"schema": {"type": "object"}, "example": STOP},
            "application/json": {"schema": {}, "example": STOP["data"]},
        },
    },
}
_AUDIT_ENTRY = {
    "Audit-Entry": {"description": "The leaf hash of the audit entry: the receipt.", "schema": {"type": "string"}, "example": RECEIPT}
}
PUBLISHED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "The events are in the log, and their audit entry is durable.",
        "headers": _AUDIT_ENTRY,
        "content": {"application/json": {"example": {"accepted": 1, "positions": [{"partition": 0, "first": 4711, "count": 1}]}}},
    },
    200: {
        "description": "Everything fits; nothing was appended (`validate_only`).",
        "content": {"application/json": {"example": {"accepted": 0, "positions": []}}},
    },
}
READ: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events, as many as there are and may be seen.",
        "headers": _AUDIT_ENTRY
        | {
            "Next-Cursor": {"description": "Where to read on; on pages.", "schema": {"type": "string"}},
            "Link": {"description": '`rel="next"`; on pages.', "schema": {"type": "string"}},
        },
        "content": {
            BATCH: {"example": [READ_STOP]},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    },
}
