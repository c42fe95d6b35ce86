"""Port Credit for the end-to-end tests: a provider with footfall about invented visitors, and consumers with contracts over it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectors.client import Client
from connectors.samples import notice
from gateway.resources import ROOT
from tests.gateway import Gateway

FOOTFALL = "port-credit-footfall"
STOPS = "miway-stops"


def dataset_document(slug: str) -> dict[str, Any]:
    """The body that makes one of the demonstration's datasets, under its own slug: rule sheets are by slug."""
    document: dict[str, Any] = json.loads((ROOT / "connectors" / "samples" / "datasets" / f"{slug}.json").read_text())
    return document | {"schema": json.loads((ROOT / "schemas" / "datasets" / f"{slug}.json").read_text())}


def visit(visitor: str, number: int = 0, **data: Any) -> dict[str, Any]:
    """A footfall event about this visitor."""
    return {
        "specversion": "1.0",
        "id": f"{visitor}-{number}-{secrets.token_hex(4)}",
        "source": "https://port-credit.example/counters/1",
        "type": "ca.port-credit.footfall.visit",
        "time": "2026-11-23T12:07:31Z",
        "data": {
            "at": "2026-11-23T12:07:31Z",
            "zone": "port-credit-nhd-east",
            "business": "4627",
            "visitor": visitor,
            "dwell_seconds": 312,
            "age_band": "25-34",
            "synthetic": True,
        }
        | data,
    }


@dataclass
class District:
    """A gateway with the footfall dataset on it, its provider, and what tests make of it."""

    gateway: Gateway
    provider: Client = field(init=False)
    notice: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.provider = self.gateway.partner("Port Credit BIA")
        self.provider.post("/v1/datasets", dataset_document(FOOTFALL))
        self.notice = self.new_notice()

    def new_notice(self, **content: Any) -> dict[str, str]:
        """A notice for the footfall, as a consent names it."""
        made = self.provider.post("/v1/notices-of-consent", notice(FOOTFALL) | content)
        return {"id": made["id"], "version": made["version"], "language": "en"}

    def contract(self, consumer: Client, purpose: str = "transit-planning", **terms: Any) -> str:
        """A contract in force over the footfall: proposed, and signed by both sides."""
        made = consumer.post("/v1/contracts", {"dataset": FOOTFALL, "purpose": purpose, "history": "all"} | terms)["id"]
        consumer.sign(made)
        self.provider.sign(made)
        return str(made)

    def consent(self, visitor: str, **document: Any) -> str:
        """Consent of this visitor to transit planning by anybody; the record's identifier."""
        return str(self.given(visitor, **document)["id"])

    def given(self, visitor: str, **document: Any) -> dict[str, Any]:
        """The same, as it was answered, with its receipt and withdrawal code."""
        said = {"subject": visitor, "given_by": "subject", "notice": self.notice}
        asked = {"dataset": FOOTFALL, "purposes": ["transit-planning"], "recipients": ["any_recipient"]}
        made: dict[str, Any] = self.provider.post("/v1/consents", asked | said | document)
        return made

    def publish(self, *events: dict[str, Any]) -> None:
        self.provider.publish(FOOTFALL, events)


def pulled(client: Client, of: str, **parameters: Any) -> list[dict[str, Any]]:
    """All events that a pull from the start gives."""
    return [event for page in client.pull(of, **parameters) for event in page.events]


def fresh(folder: Path, names: Iterator[int]) -> Path:
    """A folder of its own for each gateway of a session."""
    return folder / f"gateway-{next(names)}"
