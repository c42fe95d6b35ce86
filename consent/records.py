"""Consent records: what was given, by whom, for what, and how it ends. A record that ended stays; a new consent is a new record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from consent.models import ConsentRecord
from consent.subjects import as_bytes, as_text

ANY_RECIPIENT = "any_recipient"
MOVES: dict[str, frozenset[str]] = {"given": frozenset({"withdrawn"}), "withdrawn": frozenset()}
"""From each state, the states that may follow. A state without any is final."""
GIVERS = frozenset({"subject", "guardian", "provider"})


class IllegalMove(Exception):
    """A state that does not follow from the record's. `legal` are those that do."""

    def __init__(self, state: str, wanted: str) -> None:
        super().__init__(f"{state} -> {wanted}")
        self.state = state
        self.legal = sorted(MOVES[state])


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a person consents to. `purposes` are codes; `recipients` organizations or `any_recipient`; times in UTC.

    `notice` is {id, version, language}, `evidence` {kind, digest}; `given_by`: subject, guardian, provider.
    """

    dataset: str
    purposes: Sequence[str]
    recipients: Sequence[str]
    given_by: str
    valid_from: datetime
    valid_until: datetime | None = None
    notice: dict[str, str] | None = None
    evidence: dict[str, str] | None = None


def give(session: Session, terms: Terms, *, consent_id: str, sref: str, at: datetime, change: int) -> ConsentRecord:
    """A new record in state `given`. `change` is the number of the change that the caller has noted for it."""
    given = ConsentRecord(
        id=consent_id,
        sref=as_bytes(sref),
        dataset=terms.dataset,
        purposes=sorted(terms.purposes),
        recipients=sorted(terms.recipients),
        notice=terms.notice,
        given_by=terms.given_by,
        evidence=terms.evidence,
        state="given",
        valid_from=terms.valid_from,
        valid_until=terms.valid_until,
        given_at=at,
        ended_at=None,
        change=change,
    )
    session.add(given)
    session.flush()
    return given


def require_move(found: ConsentRecord, wanted: str) -> None:
    """Raises `IllegalMove` where `wanted` does not follow from the record's state."""
    if wanted not in MOVES[found.state]:
        raise IllegalMove(found.state, wanted)


def withdraw(session: Session, found: ConsentRecord, *, at: datetime, change: int) -> None:
    """End the record. Withdrawing asks for no evidence. Raises `IllegalMove`."""
    require_move(found, "withdrawn")
    found.state = "withdrawn"
    found.ended_at = at
    found.change = change
    session.flush()


def locked(session: Session, consent_id: str) -> ConsentRecord | None:
    """The record, held until the transaction ends, so that two acts on it are one after the other."""
    return session.execute(select(ConsentRecord).where(ConsentRecord.id == consent_id).with_for_update()).scalar_one_or_none()


def of_subject(session: Session, dataset: str, sref: str) -> Sequence[ConsentRecord]:
    """All records of this person for this dataset, oldest first."""
    statement = select(ConsentRecord).where(ConsentRecord.sref == as_bytes(sref), ConsentRecord.dataset == dataset)
    return session.execute(statement.order_by(ConsentRecord.id)).scalars().all()


def name_of(found: ConsentRecord) -> str:
    """How a change names the record: `<dataset> <sref> <id>`. It is enough to take the record out of an index when its row is gone."""
    return f"{found.dataset} {as_text(found.sref)} {found.id}"
