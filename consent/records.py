"""Consent records: what was asked, given or refused, by whom, for what, and how it goes on. What has happened to one stays written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from consent.models import ConsentRecord, StateChange
from consent.states import FIRST, By, State, require_move
from consent.subjects import as_bytes, as_text

ANY_RECIPIENT = "any_recipient"
ENDS: frozenset[State] = frozenset({"refused", "withdrawn", "revoked", "expired", "invalidated"})
AT_ONCE = 500
"""Rows of one statement; SQLite's limit is on parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a person is asked. `purposes` are codes; `recipients` organizations or `any_recipient`; times in UTC.

    `notice` is {id, version, language}; `legal_ground` and `covers_earlier` are that version's.
    """

    dataset: str
    purposes: Sequence[str]
    recipients: Sequence[str]
    notice: Mapping[str, str] | None
    valid_from: datetime
    valid_until: datetime | None = None
    legal_ground: str = "consent"
    covers_earlier: bool = False

    def valid(self, valid_from: datetime, valid_until: datetime | None) -> Terms:
        """The same terms for another time."""
        return replace(self, valid_from=valid_from, valid_until=valid_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Somebody's act: whose, when, by which client, under which change (the number of the one that the caller has noted for it)."""

    by: By
    at: datetime
    change: int
    client: str | None = None
    reason: str | None = None
    evidence: dict[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """A record to be made: whose, under which identifier, and the keyed hash of its withdrawal code with the key's id."""

    id: str
    sref: str
    terms: Terms
    evidence: dict[str, str] | None = None
    code: tuple[str, bytes] | None = None


def begin(session: Session, new: New, state: State, act: Act) -> ConsentRecord:
    """A new record in state `requested`, `given` or `refused`. Raises `ValueError` for an act by which none begins so."""
    begin_all(session, [new], state, act)
    return session.get_one(ConsentRecord, new.id)


def begin_all(session: Session, records: Sequence[New], state: State, act: Act) -> None:
    """The same for many at once, all by one act."""
    if act.by not in FIRST.get(state, ()):
        raise ValueError(f"No record begins as {state} by {act.by}.")
    session.execute(insert(ConsentRecord), [_row(new, state, act) for new in records])
    session.execute(insert(StateChange), [_step(new.id, 1, state, act, new.evidence or act.evidence) for new in records])


def move(session: Session, found: ConsentRecord, state: State, act: Act) -> None:
    """Bring a record, which the caller holds (`locked`), to another state. Raises `IllegalMove`.

    What a record was given by, and under which evidence, is that of the act that gave it first; a pause does not change it.
    """
    require_move(found.state, state, act.by)
    come_to(session, found, state, act)


def come_to(session: Session, found: ConsentRecord, state: State, act: Act) -> None:
    """The same without asking whether the move is legal: for a move that was made, and that the database has lost since."""
    if state == "given" and found.given_at is not None:
        found.resumed_at = act.at
    elif state in {"given", "refused"}:
        found.given_by, found.evidence = act.by, act.evidence
        found.given_at = act.at if state == "given" else None
    found.ended_at = act.at if state in ENDS else None
    found.state, found.change = state, act.change
    taken = session.scalar(select(func.max(StateChange.number)).where(StateChange.consent_id == found.id)) or 0
    session.execute(insert(StateChange), [_step(found.id, taken + 1, state, act, act.evidence)])
    session.flush()


def write_again(session: Session, consent_id: str, sref: str, columns: Mapping[str, Any], act: Act) -> None:
    """A record that the database has lost, as it was left: `columns` are its other columns. Its evidence and its code are gone."""
    own = {"id": consent_id, "sref": as_bytes(sref), "change": act.change, "evidence": None, "code_key_id": None, "code_hash": None}
    session.execute(insert(ConsentRecord), [dict(columns) | own])
    session.execute(insert(StateChange), [_step(consent_id, 1, columns["state"], act, None)])


def locked(session: Session, consent_id: str) -> ConsentRecord | None:
    """The record, held until the transaction ends, so that two acts on it are one after the other."""
    return session.execute(select(ConsentRecord).where(ConsentRecord.id == consent_id).with_for_update()).scalar_one_or_none()


def of_subject(session: Session, dataset: str, sref: str) -> Sequence[ConsentRecord]:
    """All records of this person for this dataset, oldest first."""
    statement = select(ConsentRecord).where(ConsentRecord.sref == as_bytes(sref), ConsentRecord.dataset == dataset)
    return session.execute(statement.order_by(ConsentRecord.id)).scalars().all()


def histories(session: Session, consent_ids: Iterable[str]) -> dict[str, list[StateChange]]:
    """What has happened to each of these records, oldest first."""
    remaining = iter(consent_ids)
    found: dict[str, list[StateChange]] = {}
    while group := list(islice(remaining, AT_ONCE)):
        steps = select(StateChange).where(StateChange.consent_id.in_(group)).order_by(StateChange.consent_id, StateChange.number)
        for step in session.scalars(steps):
            found.setdefault(step.consent_id, []).append(step)
    return found


def name_of(found: ConsentRecord) -> str:
    """How a change names the record."""
    return name(found.dataset, as_text(found.sref), found.id)


def name(dataset: str, sref: str, consent_id: str) -> str:
    """`<dataset> <sref> <id>`: enough to take the record out of an index when its row is gone."""
    return f"{dataset} {sref} {consent_id}"


def _row(new: New, state: State, act: Act) -> dict[str, Any]:
    terms = new.terms
    return {
        "id": new.id,
        "sref": as_bytes(new.sref),
        "dataset": terms.dataset,
        "purposes": sorted(terms.purposes),
        "recipients": sorted(terms.recipients),
        "notice": dict(terms.notice) if terms.notice else None,
        "legal_ground": terms.legal_ground,
        "covers_earlier": terms.covers_earlier,
        "given_by": None if state == "requested" else act.by,
        "evidence": new.evidence or act.evidence,
        "state": state,
        "valid_from": terms.valid_from,
        "valid_until": terms.valid_until,
        "given_at": act.at if state == "given" else None,
        "resumed_at": None,
        "ended_at": act.at if state in ENDS else None,
        "change": act.change,
        "code_key_id": new.code[0] if new.code else None,
        "code_hash": new.code[1] if new.code else None,
    }


def _step(consent_id: str, number: int, state: State, act: Act, evidence: dict[str, str] | None) -> dict[str, Any]:
    return {
        "consent_id": consent_id,
        "number": number,
        "state": state,
        "at": act.at,
        "by": act.by,
        "client": act.client,
        "reason": act.reason,
        "evidence": evidence,
        "change": act.change,
    }
