"""Consent and erasure, remembered and applied again.

A record that the database has lost is made again only where its word is no: consent that is not there lets nothing pass. Who was
first seen after the dump has lost their row, which cannot be made again; what was stored about them stays under their `sref`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from consent.erasure import ERASED, ErasedSubject, erase, locked
from consent.models import ConsentRecord, Subject
from consent.records import ENDS, Act, come_to, histories, name_of, write_again
from consent.records import locked as locked_record
from consent.states import OBJECTIONS, STATUS, State
from consent.subjects import as_bytes, as_text, secrets_of
from gateway.audit.record import Entry, record
from gateway.catalog.models import Dataset
from gateway.changes import Change, note
from gateway.consents.recipients import tell_recipients
from gateway.database import now, rfc3339
from gateway.remembered.place import Remembered
from gateway.remembered.redoing import AS_IT_WAS, Outcome, Redoing, last_redo, restored

AT_ONCE = 1000
"""Records of an import in one part."""
TERMS = ("dataset", "purposes", "recipients", "notice", "legal_ground", "covers_earlier", "given_by", "state")
TIMES = ("valid_from", "valid_until", "given_at", "resumed_at", "ended_at")


def describe_record(session: Session, change: Change) -> Sequence[Mapping[str, Any]]:
    """The record as it is, and whose act brought it there: no evidence, no code. Nothing, if it was erased since."""
    found = session.get(ConsentRecord, change.object.split(" ")[2])
    return _described(session, [] if found is None else [found])


def describe_import(session: Session, change: Change) -> Sequence[Mapping[str, Any]]:
    """Every record of the import that bears the change's number still, a thousand a part."""
    theirs = select(ConsentRecord).where(ConsentRecord.change == change.n).order_by(ConsentRecord.id)
    all_of_it = _described(session, session.scalars(theirs).all())
    return [{"records": all_of_it[first : first + AT_ONCE]} for first in range(0, len(all_of_it), AT_ONCE)]


def describe_erasure(_session: Session, _change: Change) -> Sequence[Mapping[str, Any]]:
    """Its object says all."""
    return ()


def reapply_record(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """Bring the record to where it was left, if it lets something pass that it should not."""
    told = last_redo(entries)
    if told is None or told["state"] not in ENDS | {"paused"} or told["sref"] in redoing.erased:
        return AS_IT_WAS
    found = locked_record(redoing.session, told["id"])
    if not _differs(found, told):
        return AS_IT_WAS
    state: State = told["state"]
    object_ = name_of(found) if found else entries[-1].object
    change = note(redoing.session, f"consent_{state}", object_)
    by_hand = _come_to(redoing, found, told, change)
    detail = {"consent": told["id"], "by": told["by"]} | restored(entries)
    _record(redoing.session, state, told["dataset"], change, detail)
    return Outcome(change, by_hand)


def reapply_import(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """The same for all records of an import of refusals, by one change."""
    all_of_it = [told for entry in entries if entry.redo for told in entry.redo["records"] if told["sref"] not in redoing.erased]
    lost = [told for told in all_of_it if _differs(locked_record(redoing.session, told["id"]), told)]
    if not lost:
        return AS_IT_WAS
    change = note(redoing.session, "refusals_imported", str(len(lost)))
    by_hand: tuple[str, ...] = ()
    for told in lost:
        by_hand += _come_to(redoing, locked_record(redoing.session, told["id"]), told, change)
    _record(redoing.session, "imported", lost[0]["dataset"], change, {"consents": str(len(lost))} | restored(entries))
    return Outcome(change, by_hand)


def reapply_erasure(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """Erase the subject again, and tell the recipients again: their acknowledgements may be lost too."""
    session = redoing.session
    slug, sref = entries[-1].object.split(" ")
    known = locked(session, sref)
    if not known and session.get(ErasedSubject, as_bytes(sref)) is not None:
        return AS_IT_WAS
    told = tell_recipients(session, redoing.keys, _same(session, slug), secrets_of(session, [sref])[sref], now()) if known else 0
    change = note(session, ERASED, entries[-1].object)
    erase(session, sref, change=change)
    dataset = session.get(Dataset, slug)
    detail = {"contracts_told": str(told)} | restored(entries)
    owner = dataset.owner_id if dataset else None
    record(session, Entry(kind="subject", action="erased", dataset=slug, change=change, detail=detail, provider=owner))
    return Outcome(change)


def _described(session: Session, records: Sequence[ConsentRecord]) -> list[dict[str, Any]]:
    steps = histories(session, [found.id for found in records])
    return [
        {"id": found.id, "sref": as_text(found.sref), "by": steps[found.id][-1].by}
        | {name: getattr(found, name) for name in TERMS}
        | {name: rfc3339(at) if (at := getattr(found, name)) else None for name in TIMES}
        for found in records
    ]


def _differs(found: ConsentRecord | None, told: Mapping[str, Any]) -> bool:
    """True if the record lets something pass, or will, that it did not when it was left; what has ended otherwise stays so."""
    if found is None:
        return told["state"] in OBJECTIONS
    return found.state != told["state"] and found.state not in ENDS


def _come_to(redoing: Redoing, found: ConsentRecord | None, told: Mapping[str, Any], change: int) -> tuple[str, ...]:
    session, state = redoing.session, told["state"]
    assert state in STATUS
    act = Act(by=told["by"], at=_instant(told["ended_at"]) or now(), change=change)
    if found is not None:
        come_to(session, found, state, act)
        return ()
    columns = {name: told[name] for name in TERMS} | {name: _instant(told[name]) for name in TIMES}
    write_again(session, told["id"], told["sref"], columns, act)
    if session.get(Subject, as_bytes(told["sref"])) is not None:
        return ()
    who = f"Consent {told['id']} ({told['dataset']}) is {state} again, but the database no longer knows whose it is"
    return (f"{who}: the dataset's owner asks that person and records it anew.",)


def _record(session: Session, action: str, slug: str, change: int, detail: dict[str, str]) -> None:
    dataset = session.get(Dataset, slug)
    owner = dataset.owner_id if dataset else None
    record(session, Entry(kind="consent", action=action, dataset=slug, change=change, detail=detail, provider=owner))


def _same(session: Session, slug: str) -> Sequence[str]:
    """The datasets in which a subject of this one is the same person."""
    dataset = session.get(Dataset, slug)
    if dataset is None:
        return ()
    same = (Dataset.owner_id == dataset.owner_id, Dataset.subject_scheme == dataset.subject_scheme)
    return session.scalars(select(Dataset.slug).where(*same)).all()


def _instant(told: str | None) -> datetime | None:
    return None if told is None else datetime.fromisoformat(told)
