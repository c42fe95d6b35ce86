"""Change: a merge patch on a dataset (RFC 7396), and who may do what by it.

A provider may raise a classification and add to what is personal; the way back is the privacy officer's: a person's, never a program's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.orm import Session

from gateway.catalog.documents import ChangedDataset
from gateway.catalog.models import Dataset, SchemaVersion
from gateway.catalog.pointers import check_pointers
from gateway.catalog.register import note_act
from gateway.catalog.schemas import MAX_NESTING, nesting
from gateway.errors import ExchangeError, Invalid
from gateway.identity.principal import Principal

RANKS = {"open": 0, "internal": 1, "personal": 2, "sensitive": 3}


def change_dataset(session: Session, row: Dataset, patch: Mapping[str, Any], caller: Principal, require_fresh: Callable[[], None]) -> bool:
    """Apply the patch; true if by it the licence was revoked, which ends the dataset's contracts.

    Raises `Invalid`, `needs_officer`, `illegal_state` for a revocation taken back, and what `require_fresh` raises, which is called
    where less is protected than before.
    """
    was = _changeable(row)
    becomes = _parsed(_merged(was, patch))
    if _protects_less(row, becomes):
        _require_officer(row, becomes, caller)
        require_fresh()
    schema = session.get_one(SchemaVersion, (row.slug, row.current)).document
    told = becomes.model_dump()
    changed = sorted(name for name in told if told[name] != was[name])
    for name in changed:
        setattr(row, name, told[name])
    check_pointers(schema, row)
    for name in changed:
        if name == "licence_revoked":
            note_act(session, row, caller, "licence_revoked", "licence_revoked", {"licence": row.licence["id"]})
        elif name == "classification":
            kind = "classification_raised" if RANKS[row.classification] > RANKS[was[name]] else "classification_lowered"
            note_act(session, row, caller, kind, kind, {"from": was[name], "to": row.classification})
    others = [name for name in changed if name not in {"licence_revoked", "classification"}]
    if others:
        note_act(session, row, caller, "changed", "dataset_changed", {"members": " ".join(others)})
    return "licence_revoked" in changed


def _changeable(row: Dataset) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ChangedDataset.model_fields}


def _merged(target: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396 section 2."""
    if nesting(patch) > MAX_NESTING:
        raise Invalid([{"pointer": "", "detail": f"is nested deeper than {MAX_NESTING} levels"}])
    merged: dict[str, Any] = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value) if isinstance(value, dict) else value
    return merged


def _parsed(document: dict[str, Any]) -> ChangedDataset:
    try:
        return ChangedDataset.model_validate(document)
    except ValidationError as error:
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_context=False)]
        ) from error


def _protects_less(row: Dataset, becomes: ChangedDataset) -> bool:
    """Raises `illegal_state` for what nobody takes back."""
    if row.licence_revoked and not becomes.licence_revoked:
        raise ExchangeError("illegal_state", "A licence that was revoked stays so; register another dataset that supersedes this one.")
    if set(row.sealed_pointers) - set(becomes.sealed_pointers):
        raise ExchangeError("illegal_state", "A field that is sealed stays so; register another dataset that supersedes this one.")
    return RANKS[becomes.classification] < RANKS[row.classification] or bool(set(row.personal_pointers) - set(becomes.personal_pointers))


def _require_officer(row: Dataset, becomes: ChangedDataset, caller: Principal) -> None:
    if "privacy_officer" in caller.roles and caller.person is not None:
        return
    if RANKS[becomes.classification] < RANKS[row.classification]:
        raise ExchangeError(
            "needs_officer", f"Lowering {row.classification} to {becomes.classification} is the privacy officer's act, who signs in for it."
        )
    told = "Saying of a field that it is no longer personal is the privacy officer's act, who signs in for it."
    raise ExchangeError("needs_officer", told)
