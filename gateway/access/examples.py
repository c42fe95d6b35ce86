"""An example of each document of policy, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

REVISION_ID = "pol_01kaqv8f7e9n3p5r7t9w1y3a5c"
DIGEST = "7d0f8a6a4c1e4dfb8a2d8f3ce0a7b5c1d94e6b20f1a3c5e7092b4d6f8a1c3e5d"

NEW_REVISION: dict[str, Any] = {"title": "No advertising on footfall"}
REVISION: dict[str, Any] = {
    "id": REVISION_ID,
    "state": "approved",
    "title": "No advertising on footfall",
    "digest": DIGEST,
    "installed": False,
    "based_on": "pol_01kaqv8f7e9n3p5r7t9w1y3a5b",
    "created_at": "2026-11-23T12:00:00Z",
    "created_by": "per_01kaqv8f7e9n3p5r7t9w1y3a5a",
    "proposed_at": "2026-11-23T12:10:00Z",
    "proposed_by": "per_01kaqv8f7e9n3p5r7t9w1y3a5a",
    "vetting": {"engines": ["embedded", "opa"], "tests": 92, "inputs": 840, "not_done": []},
    "approved_at": "2026-11-23T13:00:00Z",
    "approved_by": "per_01kaqv8f7e9n3p5r7t9w1y3a5d",
    "approved_preview": 1,
    "activated_at": None,
    "activated_by": None,
    "problem": None,
    "moves": ["preview", "approve", "activate", "retire"],
    "files": ["main/main.rego", "main/main_test.rego", "rules/port-credit-footfall.json"],
}
RULE_SHEET: dict[str, Any] = {
    "dataset": "port-credit-footfall",
    "legal_ground": "consent",
    "legal_reference": "MFIPPA (R.S.O. 1990, c. M.56), s. 32 (b)",
    "assessment": "PIA 2026-14",
    "default": "deny",
    "rules": [
        {
            "purposes": ["transit-planning"],
            "recipients": ["approved_organizations"],
            "consent": "required",
            "keep": {"/zone": "as_is", "/at": {"time_bucket": "PT15M"}},
            "retain": "P90D",
        }
    ],
}
MODULE = "# METADATA\n# title: The decision\npackage exchange.main\n"
REASON: dict[str, Any] = {
    "code": "purpose_not_covered",
    "title": {
        "en": "The rules of this dataset do not allow this purpose.",
        "fr": "Les règles de ce jeu de données ne permettent pas cette fin.",
    },
    "rule": {
        "title": "A purpose that no rule covers is refused",
        "file": "checks/purpose/purpose.rego",
        "line": 59,
        "legal_ground": "MFIPPA (R.S.O. 1990, c. M.56), ss. 31 to 33 (use and disclosure for a purpose)",
    },
}
PREVIEW: dict[str, Any] = {
    "revision": REVISION_ID,
    "number": 1,
    "state": "done",
    "days": 30,
    "done": 1214,
    "total": 1214,
    "asked_at": "2026-11-23T12:20:00Z",
    "asked_by": "per_01kaqv8f7e9n3p5r7t9w1y3a5d",
    "digest": DIGEST,
    "against": "pol_01kaqv8f7e9n3p5r7t9w1y3a5b",
    "result": {
        "at": "2026-11-23T12:20:00Z",
        "contracts": {
            "in_force": 12,
            "changed": [
                {
                    "contract": "con_01jd0000000000000000000003",
                    "dataset": "port-credit-footfall",
                    "purpose": "advertising",
                    "provider": {"id": "org_01jd0000000000000000000001", "name": "Port Credit BIA"},
                    "consumer": {"id": "org_01jd0000000000000000000004", "name": "Billboards Inc."},
                    "change": "loses",
                    "before": {"allow": True, "reasons": [], "obligations": []},
                    "after": {"allow": False, "reasons": [REASON], "obligations": []},
                    "fields": {"gained": [], "lost": ["/zone"], "changed": []},
                    "events": {"estimate": True, "read": 5000, "before": 4200, "after": 0, "newly_delivered": 0, "withheld": 4200},
                }
            ],
        },
        "decisions": {"days": 30, "recorded": 1190, "replayed": 1190, "otherwise": 0, "changed": []},
    },
    "problem": None,
}
TODO: dict[str, Any] = {
    "kind": "field_not_named",
    "dataset": "port-credit-footfall",
    "pointer": "/device_model",
    "schema_version": 2,
    "revision": None,
    "title": {
        "en": "The field /device_model of port-credit-footfall is new: no rule names it, and it reaches nobody.",
        "fr": "Le champ /device_model de port-credit-footfall est nouveau : aucune règle ne le nomme, et il ne parvient à personne.",
    },
}
FACTS: dict[str, Any] = {
    "action": "propose",
    "at": "2026-11-23T12:00:00Z",
    "purpose": {"code": "advertising", "broader": []},
    "dataset": {"slug": "port-credit-footfall", "classification": "personal"},
}
WHY: dict[str, Any] = {
    "mattered": [{"pointer": "/purpose", "value": {"code": "advertising", "broader": []}, "title": {"en": "the purpose", "fr": "la fin"}}],
    "would_allow": [
        {
            "en": "for traffic-planning",
            "fr": "pour traffic-planning",
            "changes": [{"pointer": "/purpose", "to": {"code": "traffic-planning", "broader": ["city-operations"]}}],
        }
    ],
}
ASKED: dict[str, Any] = {"dataset": "port-credit-footfall", "purpose": "advertising"}
DECISION: dict[str, Any] = {
    "id": "dec_01kaqv8f7e9n3p5r7t9w1y3a5c",
    "at": "2026-11-23T12:00:00.250Z",
    "action": "propose",
    "allow": False,
    "reasons": [REASON],
    "obligations": [],
    "revision": REVISION_ID,
    "until": "2026-11-23T13:00:00.250Z",
    "facts": FACTS,
}
WOULD_BE: dict[str, Any] = {
    "id": None,
    "action": "propose",
    "allow": False,
    "reasons": [REASON],
    "obligations": [],
    "revision": REVISION_ID,
    "until": None,
    "facts": FACTS,
    "sees": None,
    "why": WHY,
}
