"""What the benchmarks publish: events of 1 kB, the datasets that take them, and the rule sheet that guards those about people.

Seeded: every run publishes the same.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.resources import POLICIES

SEED = 20261123
EVENT_BYTES = 1000
SUBJECTS = 1000
BATCH = 100
PURPOSE = "transit-planning"
NOTICE = {
    "title": {"en": "A benchmark", "fr": "Un banc d'essai"},
    "text": {"en": "Nobody of these is anybody.", "fr": "Aucune de ces personnes n'existe."},
}
MARKER = b'"specversion"'
"""Stands once in every event."""

Event = dict[str, Any]

_TEXT = {"type": "string", "maxLength": 1000}
_NUMBER = {"type": "number", "minimum": 0}
FIELDS: dict[str, dict[str, Any]] = {
    "visitor": _TEXT | {"minLength": 1},
    "at": {"type": "string", "format": "date-time"},
    "zone": _TEXT | {"pattern": "^[a-z]+(-[a-z]+)*$"},
    "dwell_seconds": {"type": "integer", "minimum": 0, "maximum": 86400},
    "business": _TEXT,
    "age_band": {"type": "string", "enum": ["18-24", "25-34", "35-44", "45-54", "55-64", "65+"]},
    "sensor": _TEXT,
    "firmware": _TEXT,
    "entered_by": _TEXT,
    "left_by": _TEXT,
    "stops_near": {"type": "array", "items": _TEXT, "maxItems": 20},
    "temperature": {"type": "number"},
    "humidity": _NUMBER,
    "confidence": _NUMBER | {"maximum": 1},
    "remark": _TEXT,
    "synthetic": {"const": True},
}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": sorted(FIELDS),
    "properties": FIELDS,
}
PERSONAL = ("visitor", "age_band", "business", "at")
FOOTFALL = "port-credit-footfall"
"""Whose rule sheet the benchmarks use: five fields are kept, a pseudonym, a time bucket and a rounded number among them."""

_WORDS = [
    "lakeshore",
    "harbour",
    "elm",
    "stavebank",
    "hurontario",
    "rhododendron",
    "marina",
    "lighthouse",
    "mill",
    "credit",
    "river",
    "park",
    "queen",
    "front",
]


def events(count: int, *, first: int = 0) -> Iterator[Event]:
    """`count` events of `EVENT_BYTES` bytes of JSON each, the first numbered `first`; about `SUBJECTS` people at random."""
    choose = random.Random(SEED + first)
    for number in range(first, first + count):
        event = _event(number, choose)
        event["data"]["remark"] = ""
        short = EVENT_BYTES - len(compact(event))
        remark = " ".join(choose.choices(_WORDS, k=short // 5 + 1))
        event["data"]["remark"] = remark[:short]
        yield event


def _event(number: int, choose: random.Random) -> Event:
    minute = number // 60 % 60
    at = f"2026-11-23T{number // 3600 % 24:02}:{minute:02}:{number % 60:02}Z"
    return {
        "specversion": "1.0",
        "id": f"{number:012}",
        "source": f"/bench/sensors/{number % 40}",
        "type": "example.bench.visit",
        "time": at,
        "datacontenttype": "application/json",
        "data": {
            "visitor": subject(choose.randrange(SUBJECTS)),
            "at": at,
            "zone": f"{choose.choice(_WORDS)}-{choose.choice(_WORDS)}",
            "dwell_seconds": choose.randrange(7200),
            "business": f"{choose.choice(_WORDS).title()} & Daughters",
            "age_band": choose.choice(FIELDS["age_band"]["enum"]),
            "sensor": f"urn:sensor:{choose.randrange(10**9):09}",
            "firmware": f"4.{choose.randrange(30)}.{choose.randrange(30)}",
            "entered_by": f"{choose.choice(_WORDS)} door",
            "left_by": f"{choose.choice(_WORDS)} door",
            "stops_near": [f"{choose.choice(_WORDS)} at {choose.choice(_WORDS)}" for _ in range(3)],
            "temperature": round(choose.uniform(-20, 35), 1),
            "humidity": round(choose.random(), 3),
            "confidence": round(choose.random(), 3),
            "synthetic": True,
        },
    }


def subject(number: int) -> str:
    """The identifier of an invented person."""
    return f"invented-visitor-{number:05}"


def compact(value: Any) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def dataset(slug: str, *, personal: bool, partitions: int) -> dict[str, Any]:
    """The document of a dataset that takes these events."""
    document: dict[str, Any] = {
        "slug": slug,
        "title": {"en": "Benchmark (synthetic)", "fr": "Mesure (synthétique)"},
        "description": {"en": "Invented visits, to measure with.", "fr": "Visites inventées, pour mesurer."},
        "classification": "personal" if personal else "open",
        "licence": {"id": "CC0-1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/", "attribution": "Invented."},
        "partitions": partitions,
        "compatibility": "backward",
        "schema": SCHEMA,
    }
    if personal:
        document |= {
            "subject_pointer": "/visitor",
            "key_pointer": "/visitor",
            "personal_pointers": [f"/{name}" for name in PERSONAL],
        }
        document |= {
            "contact": "nobody@bench.example",
            "legal_authority": "None: invented visitors",
            "assessment": "None: invented visitors",
        }
    return document


def policies(folder: Path, slugs: Sequence[str]) -> Path:
    """The shipped policies, with the rule sheet of the demonstration's footfall for each of these datasets, in a new folder."""
    made = folder / "policies"
    shutil.copytree(POLICIES, made)
    sheet = json.loads((POLICIES / "rules" / f"{FOOTFALL}.json").read_text("utf-8"))
    for slug in slugs:
        (made / "rules" / f"{slug}.json").write_text(json.dumps(sheet | {"dataset": slug}), "utf-8")
    return made
