"""To-dos: what waits for the privacy officer, worked out from datasets, rule sheets and revisions each time that somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.access.candidate.sheets import PERSONAL
from gateway.access.desk import dataset_facts
from gateway.access.models import PolicyRevision
from gateway.access.revisions import active, sheets_of
from gateway.catalog.directory import DatasetView
from gateway.catalog.directory import Directory as Catalog
from gateway.catalog.schemas import fields_of

WAITING = {
    "proposed": (
        "revision_to_approve",
        "{name} is proposed: another person looks at a preview and approves it, or retires it.",
        "{name} est proposée : une autre personne examine un aperçu et l'approuve, ou la retire.",
    ),
    "approved": (
        "revision_to_activate",
        "{name} is approved and can be made active.",
        "{name} est approuvée et peut être mise en vigueur.",
    ),
}


def todos(session: Session, catalog: Catalog) -> list[dict[str, Any]]:
    """Revisions that wait first, then datasets in the order of their slugs; as `documents.Todo`."""
    in_force = active(session)
    sheets = sheets_of(in_force.files) if in_force else {}
    waiting = session.scalars(select(PolicyRevision).where(PolicyRevision.state.in_(WAITING)).order_by(PolicyRevision.id)).all()
    found = [_of_revision(revision) for revision in waiting]
    known = dataset_facts(session, catalog)
    for dataset in sorted(catalog.all(), key=lambda each: each.slug):
        found += _of_dataset(dataset, sheets.get(dataset.slug))
        if dataset.slug in known and dataset.classification in PERSONAL:
            found += [_lacking(dataset.slug, member) for member in known[dataset.slug].lacks]
    return found


def _lacking(slug: str, member: str) -> dict[str, Any]:
    return {
        "kind": "dataset_incomplete",
        "dataset": slug,
        "title": {
            "en": f"{slug} holds personal data and has no {member}: no revision with a rule sheet for it passes.",
            "fr": f"{slug} contient des données personnelles et n'a pas de {member} : aucune révision avec une fiche pour lui ne passe.",
        },
    }


def _of_revision(revision: PolicyRevision) -> dict[str, Any]:
    kind, english, french = WAITING[revision.state]
    name = revision.title or revision.id
    return {"kind": kind, "revision": revision.id, "title": {"en": english.format(name=name), "fr": french.format(name=name)}}


def _of_dataset(dataset: DatasetView, sheet: object) -> Iterator[dict[str, Any]]:
    slug = dataset.slug
    if not isinstance(sheet, dict):
        if dataset.classification != "open":
            yield {
                "kind": "rule_sheet_missing",
                "dataset": slug,
                "title": {
                    "en": f"{slug} has no rule sheet: it goes to nobody.",
                    "fr": f"{slug} n'a pas de fiche de règles : il n'est remis à personne.",
                },
            }
        return
    named = _named(sheet)
    if named is None:
        return
    for pointer in fields_of(dataset.schema):
        if not any(pointer == other or pointer.startswith(f"{other}/") for other in named):
            yield {
                "kind": "field_not_named",
                "dataset": slug,
                "pointer": pointer,
                "schema_version": _first_version_with(dataset, pointer),
                "title": {
                    "en": f"No rule names the field {pointer} of {slug}: it reaches nobody.",
                    "fr": f"Aucune règle ne nomme le champ {pointer} de {slug} : il ne parvient à personne.",
                },
            }


def _named(sheet: Mapping[str, Any]) -> set[str] | None:
    """The fields that a rule keeps or drops; None where a rule lets the data pass whole."""
    named: set[str] = set()
    for rule in sheet.get("rules", []):
        if "keep" not in rule and "drop" not in rule:
            return None
        named |= set(rule.get("keep", ())) | set(rule.get("drop", ()))
    return named


def _first_version_with(dataset: DatasetView, pointer: str) -> int:
    return min(number for number, schema in dataset.schemas.items() if pointer in fields_of(schema))
