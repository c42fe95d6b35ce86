"""An example of each document of contracts: for the OpenAPI document, and for the JSON Schema in `schemas/`."""

from __future__ import annotations

from typing import Any

NEW_CONTRACT: dict[str, Any] = {
    "dataset": "port-credit-footfall",
    "purpose": "transit-planning",
    "valid_until": "2027-11-23T12:00:00Z",
    "history": "P30D",
    "note": "To place shelters where people wait.",
}

DIGEST = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"

CONTRACT: dict[str, Any] = {
    "id": "con_01jd0000000000000000000003",
    "state": "active",
    "provider": "org_01jd0000000000000000000001",
    "consumer": "org_01jd0000000000000000000004",
    "dataset": "port-credit-footfall",
    "purpose": "transit-planning",
    "valid_from": "2026-11-23T12:00:00Z",
    "valid_until": "2027-11-23T12:00:00Z",
    "history": "P30D",
    "note": "To place shelters where people wait.",
    "offer": None,
    "text_digest": DIGEST,
    "signatures": [
        {"side": "consumer", "by": "cli_01jd0000000000000000000005", "at": "2026-11-23T12:05:00Z", "key_id": "2026-11"},
        {"side": "provider", "by": "cli_01jd0000000000000000000006", "at": "2026-11-23T13:00:00Z", "key_id": "signing-1"},
    ],
    "decision": "dec_01jd0000000000000000000007",
    "suspended_by": None,
    "ended_reason": None,
    "reason": None,
    "reason_note": None,
    "created_at": "2026-11-23T12:00:00Z",
}

SIGNING: dict[str, Any] = {"text_digest": DIGEST, "signature": "eyJhbGciOiJFUzI1NiIsImtpZCI6IjIwMjYtMTEifQ..c2lnbmF0dXJl"}

ACT: dict[str, Any] = {"reason": "The counters are being replaced.", "note": "Back on Monday."}

RECEIVED: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["zone", "visitor"],
    "properties": {"zone": {"type": "string"}, "visitor": {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"}},
}

USAGE: dict[str, Any] = {"days": [{"day": "2026-11-23", "events": 4089, "bytes": 1230456}]}
