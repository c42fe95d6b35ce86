"""A dataset with sealed fields, a database with two subjects, and events as they are stored."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from consent.subjects import srefs_of
from gateway.catalog.directory import DatasetView
from gateway.database import Database
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import write_keys
from gateway.migrations import upgrade
from gateway.streams.sealing import SubjectKeys, opening_of, seal_fields
from tests.catalog.view import dataset_view


class Stored(NamedTuple):
    """An event as it is stored, whom it is about, and its JSON."""

    event: dict[str, Any]
    sref: str
    value: bytes


SCHEMA = {
    "type": "object",
    "properties": {
        "visitor": {"type": "string"},
        "zone": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "address": {"type": "object", "properties": {"city": {"type": "string"}, "street": {"type": "string"}}},
    },
}
KEEP_ZONE = {"kind": "keep", "pointer": "/zone"}
KEEP_AGE = {"kind": "keep", "pointer": "/age"}


def dataset(*sealed: str, classification: str = "personal") -> DatasetView:
    return dataset_view(
        {1: SCHEMA},
        slug="visits",
        classification=classification,
        subject_pointer="/visitor",
        subject_scheme="opaque",
        personal_pointers=("/visitor", "/age", "/address"),
        topic="exchange.visits.1",
        sealed_pointers=sealed,
    )


def visit(sref: str, **data: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": "visit", "schemaversion": 1, "data": {"visitor": sref} | data}


def stored(event: dict[str, Any]) -> Stored:
    value = orjson.dumps(event)
    return Stored(orjson.loads(value), event["data"]["visitor"], value)


class Sealing:
    """A database with two subjects, and the keys of a process."""

    def __init__(self, folder: Path) -> None:
        url = f"sqlite:///{folder / 'exchange.db'}"
        upgrade(url)
        self.folder = folder
        self.database = Database(url)
        write_keys(folder / "keys.json")
        self.erased: set[str] = set()
        self.keys = self.process()
        with self.database.transaction() as session:
            self.ann, self.bob = srefs_of(session, "k", bytes(32), "org_1", "opaque", ["ann", "bob"]).values()

    def process(self, kek: str = "") -> SubjectKeys:
        """The keys of another process; `kek` stands before those of the key file."""
        return SubjectKeys(self.database, KeyEncryptionKeys(self.folder / "keys.json", kek), self.erased)

    def seal(self, of: DatasetView, *events: dict[str, Any]) -> list[Stored]:
        asyncio.run(seal_fields(self.keys, of, list(events)))
        return [stored(event) for event in events]

    def open(self, of: DatasetView, record: Stored, *obligations: dict[str, Any], keys: SubjectKeys | None = None) -> Any:
        opening = opening_of(obligations, of, keys or self.process())
        assert opening is not None
        return opening.open(record.event, record.sref, asyncio.run(opening.keys_for([record[:2]])))["data"]
