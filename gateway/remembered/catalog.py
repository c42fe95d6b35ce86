"""Datasets, remembered and applied again: licences revoked, classifications raised, fields that are personal or sealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from gateway.audit.record import Entry, record
from gateway.catalog.change import RANKS
from gateway.catalog.models import Dataset, SchemaVersion
from gateway.catalog.pointers import check_pointers
from gateway.catalog.register import locked
from gateway.changes import Change, note
from gateway.contracts.move import held_open
from gateway.contracts.propose import note_act
from gateway.errors import Invalid
from gateway.remembered.place import Remembered
from gateway.remembered.redoing import AS_IT_WAS, Outcome, Redoing, last_redo, restored

POINTERS = ("personal_pointers", "sealed_pointers")


def describe(session: Session, change: Change) -> Sequence[Mapping[str, Any]]:
    """What protects the dataset, and the number of its schema version; not the schema."""
    found = session.get(Dataset, change.object)
    if found is None:
        return ()
    names = ("classification", "licence_revoked", *POINTERS, "current")
    return ({name: getattr(found, name) for name in names},)


def reapply(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """Protect it as it was, never less than it is. A schema version that is lost is its owner's to publish again."""
    session, told = redoing.session, last_redo(entries)
    if told is None or session.get(Dataset, entries[-1].object) is None:
        return AS_IT_WAS
    ends = told["licence_revoked"] and not session.get_one(Dataset, entries[-1].object).licence_revoked
    open_contracts = held_open(session, entries[-1].object) if ends else ()
    found = locked(session, entries[-1].object)
    by_hand = _lost_schemas(found, told)
    change = None
    if ends:
        found.licence_revoked = True
        change = _noted(session, found, "licence_revoked", {"licence": found.licence["id"]} | restored(entries))
        for contract in open_contracts:
            contract.state, contract.ended_reason, contract.suspended_by = "ended", "licence_revoked", None
            note_act(session, contract, "ended", None, {"reason": "licence_revoked"} | restored(entries))
    if RANKS[told["classification"]] > RANKS[found.classification]:
        detail = {"from": found.classification, "to": told["classification"]}
        found.classification = told["classification"]
        change = _noted(session, found, "classification_raised", detail | restored(entries))
    missing = {name: [pointer for pointer in told[name] if pointer not in getattr(found, name)] for name in POINTERS}
    if any(missing.values()):
        by_hand += _protect(session, found, missing)
        change = _noted(session, found, "dataset_changed", {"members": " ".join(sorted(missing))} | restored(entries))
    return Outcome(change, by_hand)


def _protect(session: Session, dataset: Dataset, missing: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Say of these fields that they are personal or sealed, as far as the schema has them."""
    was = {name: getattr(dataset, name) for name in POINTERS}
    for name, pointers in missing.items():
        setattr(dataset, name, [*was[name], *pointers])
    try:
        check_pointers(session.get_one(SchemaVersion, (dataset.slug, dataset.current)).document, dataset)
    except Invalid:
        # A field that the schema does not name leaves under no lens; to seal it, it must be named.
        dataset.sealed_pointers = was["sealed_pointers"]
        fields = " ".join(sorted({pointer for pointers in missing.values() for pointer in pointers}))
        what = f"{fields} are personal or sealed, and the schema version that names them is lost"
        return (f"Dataset {dataset.slug}: {what}. Its owner publishes it again, then says of the fields what they are.",)
    return ()


def _lost_schemas(dataset: Dataset, told: Mapping[str, Any]) -> tuple[str, ...]:
    if told["current"] <= dataset.current:
        return ()
    lost = f"schema version {told['current']}" if told["current"] == dataset.current + 1 else f"schema versions up to {told['current']}"
    return (f"Dataset {dataset.slug}: {lost} is lost, and the last is {dataset.current}. Its owner publishes it again.",)


def _noted(session: Session, dataset: Dataset, kind: str, detail: dict[str, str]) -> int:
    session.flush()
    change = note(session, kind, dataset.slug)
    action = "changed" if kind == "dataset_changed" else kind
    record(session, Entry(kind="dataset", action=action, dataset=dataset.slug, change=change, detail=detail, provider=dataset.owner_id))
    return change
