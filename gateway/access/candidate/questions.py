"""Questions that a candidate is asked before persons agree on it: from its rule sheets, from recorded decisions, and both spoiled.

The same candidate and the same records give the same questions: what is left to chance is seeded.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.catalog.purposes import purpose, purposes

Facts = dict[str, Any]

SEED = 7
MOST_RECORDED = 200
MOST_OF_SHEETS = 400
SPOILED = 600
_RUBBISH: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**60, "", "é", "open", [], ["con_1"], {}, {"id": "org_1"}, [[]], "2026-11-23T12:00:00Z"),
)
_AT, _FROM, _UNTIL = "2026-11-23T12:00:00Z", "2026-11-01T00:00:00Z", "2027-11-01T00:00:00Z"
_RECIPIENTS = {"anyone": "partner", "approved_organizations": "partner", "partner": "partner", "department": "department"}


def questions(sheets: Mapping[str, Any], recorded: Sequence[Facts]) -> list[Facts]:
    """Right questions first, then spoiled ones."""
    chance = random.Random(SEED)  # noqa: S311 - questions, not keys
    of_sheets = list(_of_sheets(sheets))
    if len(of_sheets) > MOST_OF_SHEETS:
        of_sheets = chance.sample(of_sheets, MOST_OF_SHEETS)
    right = [*_without_contract(), *of_sheets, *recorded[:MOST_RECORDED]]
    return right + list(_spoiled(chance, right))


def without_each_fact(facts: Facts) -> Iterator[tuple[str, Facts]]:
    """The facts without one of them, each in turn, with its JSON Pointer."""
    for pointer, (name, inner) in _places(facts):
        less = copy.deepcopy(facts)
        if inner is None:
            del less[name]
        else:
            del less[name][inner]
        yield pointer, less


def _places(facts: Facts) -> Iterator[tuple[str, tuple[str, str | None]]]:
    for name, value in facts.items():
        yield f"/{name}", (name, None)
        if isinstance(value, dict):
            for inner in value:
                yield f"/{name}/{inner}", (name, inner)


def _of_sheets(sheets: Mapping[str, Any]) -> Iterator[Facts]:
    """For each sheet what its rules are about, and one purpose and one kind of client that they are not about."""
    all_codes = [each.code for each in purposes()]
    for slug, sheet in sheets.items():
        rules = sheet.get("rules", []) if isinstance(sheet, dict) else []
        named = {code for rule in rules for code in rule.get("purposes", [])}
        other = [code for code in all_codes if code not in named][:2]
        recipients = {word for rule in rules for word in rule.get("recipients", [])} or {"anyone"}
        for code in [*sorted(named), *other]:
            for recipient in sorted(recipients):
                for action in ("propose", "receive"):
                    for classification in ("open", "internal", "personal", "sensitive"):
                        for strong in (True, False):
                            yield _asked(slug, code, recipient, action, classification, strong=strong)


def _asked(slug: str, code: str, recipient: str, action: str, classification: str, *, strong: bool) -> Facts:
    kind = _RECIPIENTS.get(recipient, "partner")
    caller = "org_recipient" if recipient in _RECIPIENTS else recipient
    found = purpose(code)
    return {
        "action": action,
        "at": _AT,
        "client": {"id": "cli_1", "organization": caller, "standing": "active", "strong": strong, "roles": [], "contracts": ["con_1"]},
        "organization": {"id": caller, "kind": kind, "standing": "approved"},
        "dataset": _dataset(slug, classification),
        "purpose": {"code": found.code, "broader": list(found.broader)} if found else None,
        "contract": {
            "id": "con_1" if action == "receive" else "",
            "state": "active" if action == "receive" else "proposed",
            "provider": "org_owner",
            "consumer": caller,
            "purpose": code,
            "valid_from": _FROM,
            "valid_until": _UNTIL,
            "taken_up_offer": False,
        },
    }


def _without_contract() -> Iterator[Facts]:
    owner = {"id": "cli_2", "organization": "org_owner", "standing": "active", "strong": True, "roles": [], "contracts": []}
    department = {"id": "org_owner", "kind": "department", "standing": "approved"}
    nothing = {"purpose": None, "contract": None}
    for classification in ("open", "internal", "personal", "sensitive"):
        dataset = _dataset("a-dataset-without-a-sheet", classification)
        yield {"action": "publish", "at": _AT, "client": owner, "organization": department, "dataset": dataset} | nothing
        yield {"action": "receive", "at": _AT, "client": None, "organization": None, "dataset": dataset} | nothing


def _dataset(slug: str, classification: str) -> Facts:
    return {
        "slug": slug,
        "owner": "org_owner",
        "owner_standing": "approved",
        "classification": classification,
        "licence_revoked": False,
        "has_subject": True,
        "retired": False,
    }


def _spoiled(chance: random.Random, right: Sequence[Facts]) -> Iterator[Facts]:
    for _ in range(SPOILED):
        made = copy.deepcopy(chance.choice(right))
        _, (name, inner) = chance.choice(list(_places(made)))
        target, key = (made[name], inner) if inner is not None else (made, name)
        if chance.random() < 0.3:
            target.pop(key, None)
        else:
            target[key] = copy.deepcopy(chance.choice(_RUBBISH))
        yield made
