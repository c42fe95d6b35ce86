"""What a consent receipt says: the record as ISO/IEC TS 27560 arranges it, with terms of the W3C Data Privacy Vocabulary.

The person is not named in it: whoever holds it knows whose it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from consent.models import ConsentRecord, NoticeVersion, StateChange
from consent.states import DPV, STATUS, State

SCHEMA = "ISO/IEC TS 27560:2023"
BASES: Mapping[str, str] = {"consent": f"{DPV}Consent", "notice_with_opt_out": f"{DPV}LegalBasis"}
"""A legal ground's term in DPV, the same or the next broader one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What the record alone does not know: names of parties by identifier, purposes as {code, iri, title}, where the exchange is, and its
    audit log: origin and verifier key.
    """

    issuer: str
    log: tuple[str, str]
    controller: str
    parties: Mapping[str, str]
    purposes: Sequence[Mapping[str, Any]]


def receipt(
    found: ConsentRecord,
    shown: NoticeVersion | None,
    history: Sequence[StateChange],
    around: Around,
    *,
    receipt_id: str,
    at: datetime,
    code: str | None = None,
) -> dict[str, Any]:
    """The claims of the receipt (`schemas/receipt.json`). `code` is the withdrawal code, where it is to be told."""
    return {
        "iss": around.issuer,
        "iat": int(at.timestamp()),
        "jti": receipt_id,
        "receipt_metadata": {"schema_version": SCHEMA, "receipt_id": receipt_id},
        "audit_log": {"origin": around.log[0], "key": around.log[1]},
        "record_metadata": {
            "schema_version": SCHEMA,
            "record_id": found.id,
            "state": found.state,
            "status": STATUS[cast("State", found.state)],
        },
        "notice": _notice(found, shown, around.issuer),
        "pii_processing": {
            "dataset": found.dataset,
            "purposes": [dict(purpose) for purpose in around.purposes],
            "legal_ground": found.legal_ground,
            "lawful_basis": BASES[found.legal_ground],
            "recipients": found.recipients,
            "covers_earlier": found.covers_earlier,
            "valid_from": _time(found.valid_from),
            "valid_until": _time(found.valid_until) if found.valid_until else None,
            "withdrawal": {"url": f"{around.issuer}/v1/consents/withdraw", "code": code},
        },
        "party_identification": [
            {"party_id": party, "name": name, "role": f"{DPV}{'DataController' if party == around.controller else 'Recipient'}"}
            for party, name in around.parties.items()
        ],
        "events": [
            {"event_time": _time(step.at), "state": step.state, "status": STATUS[cast("State", step.state)], "by": step.by}
            for step in history
        ],
    }


def _notice(found: ConsentRecord, shown: NoticeVersion | None, issuer: str) -> dict[str, Any] | None:
    if found.notice is None:
        return None
    language = found.notice["language"]
    told = {"title": shown.title[language], "text_digest": shown.text_digest[language]} if shown else {}
    return found.notice | told | {"url": f"{issuer}/v1/notices-of-consent/{found.notice['id']}/versions/{found.notice['version']}"}


def _time(moment: datetime) -> str:
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")
