"""Rule sheets against what there is: datasets with their schemas and who answers for them, purposes of the tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.access.vetting import Finding
from gateway.catalog.purposes import purpose

PERSONAL = frozenset({"personal", "sensitive"})


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What a sheet is held against. `fields` are the JSON Pointers of the current schema; `lacks` names members that are not filled."""

    slug: str
    classification: str
    fields: Sequence[str]
    subject_pointer: str | None
    lacks: Sequence[str]


def vet_against_datasets(sheets: Mapping[str, Any], datasets: Mapping[str, DatasetFacts]) -> Iterator[Finding]:
    """A sheet may be written before its dataset is registered; then its fields are held against nothing."""
    for slug, sheet in sorted(sheets.items()):
        file = f"rules/{slug}.json"
        for place, rule in enumerate(sheet.get("rules", [])):
            for code in rule.get("purposes", []):
                if purpose(code) is None:
                    where = f"/rules/{place}/purposes"
                    hint = "GET /v1/purposes has the tree; take the purpose out, or name the one that came in its place."
                    yield Finding(file, 1, f"{where}: {code} is no purpose", hint, where)
            yield from _fields(file, place, rule, datasets.get(slug))
        dataset = datasets.get(slug)
        if dataset is not None and dataset.classification in PERSONAL:
            yield from _answered_for(file, sheet, dataset)


def _fields(file: str, place: int, rule: Mapping[str, Any], dataset: DatasetFacts | None) -> Iterator[Finding]:
    if dataset is None or not dataset.fields:
        return
    for member in ("keep", "drop", "rows"):
        for pointer in rule.get(member) or ():
            if not any(field == pointer or pointer.startswith(f"{field}/") or field.startswith(f"{pointer}/") for field in dataset.fields):
                where = f"/rules/{place}/{member}"
                yield Finding(file, 1, f"{where}: {dataset.slug} has no field {pointer}", "Look at the dataset's schema.", where)


def _answered_for(file: str, sheet: Mapping[str, Any], dataset: DatasetFacts) -> Iterator[Finding]:
    """Personal data is collected on some authority, by somebody who can be asked, after an assessment."""
    for member in dataset.lacks:
        if member == "assessment" and sheet.get("assessment"):
            continue
        hint = f"Its owner writes it: PATCH /v1/datasets/{dataset.slug}."
        yield Finding(file, 1, f"{dataset.slug} is {dataset.classification} and has no {member}", hint)
