"""An example of each document about consent: for the OpenAPI document, and for the JSON Schemas in `schemas/`."""

from __future__ import annotations

from typing import Any

NOTICE_ID = "ntc_01kaqv8f7e9n3p5r7t9w1y3a5b"
REFERENCE: dict[str, Any] = {"id": NOTICE_ID, "version": "1", "language": "en"}
NOTICE_CONTENT: dict[str, Any] = {
    "title": {"en": "Your visits, for planning transit", "fr": "Vos visites, pour planifier le transport en commun"},
    "text": {
        "en": "We share when and where you visit, never who you are, with those who plan transit. You can withdraw at any time.",
        "fr": "Nous partageons le moment et le lieu de vos visites, jamais votre identité, avec les planificateurs du transport en commun. "
        "Vous pouvez retirer votre consentement en tout temps.",
    },
    "purposes": ["transit-planning"],
    "recipients": ["any_recipient"],
    "legal_ground": "consent",
    "covers_earlier": False,
}
NEW_NOTICE: dict[str, Any] = {"dataset": "port-credit-footfall"} | NOTICE_CONTENT
NOTICE: dict[str, Any] = {
    "id": NOTICE_ID,
    "version": "1",
    "dataset": "port-credit-footfall",
    **NOTICE_CONTENT,
    "text_digest": {
        "en": "sha-256=:8TrO0Iy24zcPMFE0ICamrYFQyJ4g1NtuSzgmTcrLBBw=:",
        "fr": "sha-256=:ioanscawngRRAIf4f1KBkmxpXB2fwod3A4+x50+TC1E=:",
    },
    "asks_anew": True,
    "created_at": "2026-11-20T09:00:00Z",
}
ASKED: dict[str, Any] = {
    "dataset": "port-credit-footfall",
    "subject": "visitor-4711",
    "purposes": ["transit-planning"],
    "recipients": ["any_recipient"],
    "notice": REFERENCE,
    "given_by": "subject",
    "valid_until": "2027-11-23T00:00:00Z",
}
ANSWERED: dict[str, Any] = {
    "id": "cns_01kaqv8f7e9n3p5r7t9w1y3a5c",
    "state": "given",
    "status": "https://w3id.org/dpv#ConsentGiven",
    "dataset": "port-credit-footfall",
    "purposes": ["transit-planning"],
    "recipients": ["any_recipient"],
    "notice": REFERENCE,
    "legal_ground": "consent",
    "covers_earlier": False,
    "renewal_needed": False,
    "given_by": "subject",
    "evidence": None,
    "given_at": "2026-11-23T12:00:00.250Z",
    "valid_from": "2026-11-23T12:00:00.250Z",
    "valid_until": "2027-11-23T00:00:00Z",
    "ended_at": None,
    "history": [{"state": "given", "at": "2026-11-23T12:00:00.250Z", "by": "subject", "reason": None}],
}
ASKED_BY: dict[str, Any] = {"asked_by": "subject"}
REASON: dict[str, Any] = {"reason": "The study has ended."}
CODE: dict[str, Any] = {"code": "W-5K2M-9QXT-0C7H-8PJD-3RVN-6YBA-1ZEF-4GWS"}
RECEIPT = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImNvbnNlbnQtcmVjZWlwdCtqd3QifQ..."
GIVEN: dict[str, Any] = ANSWERED | {"receipt": RECEIPT, "withdrawal_code": CODE["code"]}
STOPPED: dict[str, Any] = {
    "state": "withdrawn",
    "effective_at": "2026-11-23T12:30:00.125Z",
    "still_shared": [{"contract": "con_01kaqv8f7e9n3p5r7t9w1y3a5d", "ground": "statute: Statistics Act (R.S.O. 1990, c. S.18)"}],
    "barrier": {"change": 4711, "replicas": 1, "waited_ms": 1},
}
CHUNK: dict[str, Any] = {
    "name": "spring-survey",
    "chunk": 0,
    "dataset": "port-credit-footfall",
    "notice": REFERENCE,
    "purposes": ["transit-planning"],
    "recipients": ["any_recipient"],
    "given_by": "subject",
    "consents": [{"subject": "visitor-4711"}, {"subject": "visitor-4712", "valid_until": "2027-11-23T00:00:00Z"}],
}
IMPORTED: dict[str, Any] = {
    "name": "spring-survey",
    "chunk": 0,
    "records": 2,
    "change": 4712,
    "repeated": False,
    "items": [
        {"id": "cns_01kaqv8f7e9n3p5r7t9w1y3a5c", "withdrawal_code": None},
        {"id": "cns_01kaqv8f7e9n3p5r7t9w1y3a5d", "withdrawal_code": None},
    ],
}
