"""Facts and rule sheets from a seeded generator: what is asked of both engines, to see that they say the same."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

STANDINGS = ("approved",) * 12 + ("pending", "suspended")
PURPOSES = {
    "transit-planning": ["city-operations"],
    "city-operations": [],
    "official-statistics": [],
    "advertising": [],
    "tourism-promotion": ["service-provision"],
}
RUBBISH: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**60,
    "",
    "é",
    "open",
    [],
    ["con_1"],
    {},
    {"id": "org_1"},
    [[]],
    "2026-11-23T12:00:00Z",
)
ODD_TERMS: tuple[dict[str, Any], ...] = (
    {},
    {"keep": {"/zone": "as_is", "/visitor": {"pseudonymise": "P30D"}, "/card": {"mask": 4}}},
    {"rows": {"/zone": ["north", 1, True, None]}, "rate_limit": {"events": 10, "per": "PT1S"}},
    {"retain": "P90D", "attribution": "Ville de Mississauga, « é »", "onward_transfer": True},
    {"keep": {"/zone": "blur"}},
    {"keep": {"/zone": {"generalise": "10"}}},
    {"keep": {}},
    {"suppress_below": 5},
    {"retain": 90},
    {"onward_transfer": "no"},
    {"consent": "not_required"},
    {"consent": "not_required", "legal_ground": "statute"},
    {"consent": "perhaps"},
    {"consent": "opt_out"},
    {"consent": "opt_out", "legal_ground": "notice_with_opt_out"},
)


def sheets(seed: int) -> dict[str, Any]:
    """Sheets of datasets `s0`, `s1`, ...: some as an officer would write them, some that no gate would let pass."""
    chance = random.Random(seed)
    return {
        f"s{number}": {
            "dataset": f"s{number}",
            "legal_ground": chance.choice(["consent", "statute", "agreement"]),
            "legal_reference": "s. 32",
            "default": "deny",
            "rules": [_rule(chance, terms) for _ in range(chance.randint(1, 3))],
        }
        for number, terms in enumerate(ODD_TERMS)
    }


def facts(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """`count` inputs: two of three are right in every fact but say no for some reason, one has something wrong somewhere."""
    chance = random.Random(seed)
    for number in range(count):
        made = _facts(chance)
        for _ in range(chance.randint(1, 2) if number % 3 == 2 else 0):
            _break(chance, made)
        yield made


def _rule(chance: random.Random, terms: dict[str, Any]) -> dict[str, Any]:
    return {
        "purposes": chance.sample(list(PURPOSES)[:4], 2),
        "recipients": chance.sample(["anyone", "approved_organizations", "department", "org_2", "org_3"], 2),
        "consent": "required",
        "keep": {"/zone": "as_is", "/at": {"time_bucket": "PT15M"}, "/dwell": {"generalise": 60}},
    } | terms


def _facts(chance: random.Random) -> dict[str, Any]:
    action = chance.choice(["publish", "propose", "receive", "receive", "receive"])
    caller = chance.choice(["org_1", "org_2", "org_2", "org_2"]) if action != "publish" else chance.choice(["org_1", "org_1", "org_2"])
    classification = chance.choice(["open", "internal", "personal", "personal", "sensitive"])
    contracted = action == "propose" or (action == "receive" and chance.random() < 0.85)
    made: dict[str, Any] = {
        "action": action,
        "at": chance.choice(["2026-11-23T12:00:00Z"] * 20 + ["2026-10-31T23:59:59Z", "2026-11-01T00:00:00Z", "2027-11-01T00:00:00Z"]),
        "client": {
            "id": "cli_1",
            "organization": caller,
            "standing": chance.choice(["active"] * 12 + ["pending", "revoked"]),
            "strong": chance.random() < 0.85,
            "roles": chance.choice([[], ["operator"]]),
            "contracts": chance.choice([["con_1"]] * 6 + [["con_1", "con_2"], [], ["con_2"]]),
        },
        "organization": {"id": caller, "kind": "department" if caller == "org_1" else "partner", "standing": chance.choice(STANDINGS)},
        "dataset": {
            "slug": chance.choice(
                ["port-credit-footfall"] * 14 + [f"s{number}" for number in range(len(ODD_TERMS))] + ["without-a-sheet"] * 5
            ),
            "owner": "org_1",
            "owner_standing": chance.choice(STANDINGS),
            "classification": classification,
            "licence_revoked": chance.random() < 0.04,
            "has_subject": chance.random() < 0.85,
            "retired": chance.random() < 0.04,
        },
        "purpose": None,
        "contract": None,
    }
    if contracted:
        _contract(chance, made, caller)
    elif action == "receive" and chance.random() < 0.6:
        made["client"] = made["organization"] = None
    return made


def _contract(chance: random.Random, made: dict[str, Any], caller: str) -> None:
    code = chance.choice(["transit-planning"] * 8 + list(PURPOSES))
    made["purpose"] = {"code": code, "broader": PURPOSES[code]} if chance.random() < 0.95 else None
    proposed = made["action"] == "propose"
    made["contract"] = {
        "id": "" if proposed else "con_1",
        "state": "proposed" if proposed else chance.choice(["active"] * 12 + ["proposed", "suspended", "ended"]),
        "provider": chance.choice(["org_1"] * 12 + ["org_9"]),
        "consumer": caller if chance.random() < 0.94 else "org_9",
        "purpose": code,
        "valid_from": "2026-11-01T00:00:00Z",
        "valid_until": "2027-11-01T00:00:00Z",
        "taken_up_offer": chance.random() < 0.3,
    }


def _break(chance: random.Random, made: dict[str, Any]) -> None:
    """Remove a fact, or put something of another type or kind in its place, at the top or one level down."""
    name = chance.choice(list(made)) if made else ""
    inner = made.get(name)
    target, key = (inner, chance.choice(list(inner))) if isinstance(inner, dict) and inner and chance.random() < 0.7 else (made, name)
    if chance.random() < 0.3:
        target.pop(key, None)
    else:
        target[key] = copy.deepcopy(chance.choice(RUBBISH))
