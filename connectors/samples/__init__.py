"""Where the sample data and the documents of their datasets are. `README.md` here has licences and attributions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).resolve().parent
SCHEMAS = SAMPLES.parent.parent / "schemas" / "datasets"
SLUGS = ("business-directory", "miway-stops", "council-calendar", "transit-feed", "port-credit-footfall")


def dataset(slug: str) -> dict[str, Any]:
    """The body that makes this dataset (`POST /v1/datasets`), its JSON Schema included. Raises `FileNotFoundError`."""
    document: dict[str, Any] = json.loads((SAMPLES / "datasets" / f"{slug}.json").read_text("utf-8"))
    return document | {"schema": schema(slug)}


def notice(slug: str) -> dict[str, Any]:
    """The notice that people are shown about this dataset (`POST /v1/notices-of-consent`). Raises `FileNotFoundError`."""
    content: dict[str, Any] = json.loads((SAMPLES / "notices" / f"{slug}.json").read_text("utf-8"))
    return {"dataset": slug} | content


def schema(slug: str) -> dict[str, Any]:
    """The JSON Schema 2020-12 of the dataset's `data`. Raises `FileNotFoundError`."""
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{slug}.json").read_text("utf-8"))
    return loaded
