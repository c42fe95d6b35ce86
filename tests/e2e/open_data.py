"""A small open dataset of its own for a test, and contracts over it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors.client import Client
from tests.gateway import Gateway

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"type": "integer"}, "key": {"type": "string"}, "text": {"type": "string"}},
}


def document(slug: str, **members: Any) -> dict[str, Any]:
    """The body that makes an open dataset of numbers."""
    return {
        "slug": slug,
        "title": {"en": slug, "fr": slug},
        "description": {"en": "Numbers.", "fr": "Des nombres."},
        "classification": "open",
        "licence": {"id": "CC0-1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/", "attribution": "City of Test"},
        "schema": SCHEMA,
    } | members


def numbered(number: int, **data: Any) -> dict[str, Any]:
    """An event that says a number."""
    return {
        "specversion": "1.0",
        "id": f"{number}-{secrets.token_hex(4)}",
        "source": "https://city.example/numbers",
        "type": "city.number",
        "data": {"n": number} | data,
    }


def numbers_of(events: Iterable[Mapping[str, Any]]) -> list[int]:
    return [event["data"]["n"] for event in events]


@dataclass
class Numbers:
    """An open dataset under a name of its own: `document` are members of it that are not the usual ones."""

    gateway: Gateway
    document: dict[str, Any] = field(default_factory=dict)
    provider: Client = field(init=False)
    slug: str = field(init=False)

    def __post_init__(self) -> None:
        self.provider = self.gateway.partner("Department of numbers", kind="department")
        self.slug = f"numbers-{secrets.token_hex(4)}"
        self.provider.post("/v1/datasets", document(self.slug, **self.document))

    @property
    def path(self) -> str:
        return f"/v1/datasets/{self.slug}/events"

    def publish(self, *numbers: int, **data: Any) -> None:
        self.provider.publish(self.slug, [numbered(number, **data) for number in numbers])

    def contract(self, consumer: Client, **terms: Any) -> str:
        """A contract in force: open data needs no signature by key."""
        made = consumer.post("/v1/contracts", {"dataset": self.slug, "purpose": "research", "history": "all"} | terms)
        self.provider.post(f"/v1/contracts/{made['id']}/sign", {"text_digest": made["text_digest"]})
        return str(made["id"])

    def pulled(self, reader: Client, contract: str | None = None, **parameters: Any) -> list[int]:
        """The numbers that a pull gives."""
        return [number for page in reader.pull(contract or self.slug, **parameters) for number in numbers_of(page.events)]
