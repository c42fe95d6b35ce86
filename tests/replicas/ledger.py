"""What the audit log must have of what was acknowledged, and that it stays one log: others verify it, round after round."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select

from gateway.audit.models import AuditEntry
from gateway.audit.note import Checkpoint, log_identity
from gateway.audit.tiles import WIDTH, Tiles
from gateway.database import Database
from gateway.keys import read_keys
from tests.audit.others import go_verifies
from tests.engines import install
from tests.gateway import Gateway

PATIENCE_S = 30.0
"""In which what was acknowledged is in the published log, once replicas are well."""


class Ledger:
    """Receipts of acknowledged publishes as they come, and the log's leaves as they are published. Thread-safe where load calls it."""

    def __init__(self, gateway: Gateway, database_url: str, seen: Path) -> None:
        settings = gateway.settings()
        _, self._vkey = log_identity(read_keys(settings.resolved_key_file), settings)
        self._programs = install.tlog_programs()
        self._tiles = Tiles(gateway.audit_dir)
        self._database_url = database_url
        self._seen = seen
        self._lock = threading.Lock()
        self._receipts: set[bytes] = set()
        self._leaves: list[bytes] = []

    def acknowledged(self, header: str) -> None:
        """The `Audit-Entry` of an answer."""
        with self._lock:
            self._receipts.add(b64decode(header.removeprefix("sha-256=:").removesuffix(":")))

    def unrecorded(self) -> list[str]:
        """Receipts that the published log does not have within the time. They are asked for once."""
        with self._lock:
            wanted, self._receipts = self._receipts, set()
        deadline = time.monotonic() + PATIENCE_S
        while missing := wanted - self._read():
            if time.monotonic() > deadline:
                return [receipt.hex() for receipt in missing]
            time.sleep(0.1)
        return []

    def without_entry(self, consents: Mapping[str, str]) -> list[str]:
        """Acknowledged consents, and withdrawals, of which no entry says so."""
        database = Database(self._database_url)
        with database.reading() as session:
            entries = [json.loads(entry) for entry in session.scalars(select(AuditEntry.entry).where(AuditEntry.kind == "consent"))]
        database.close()
        said = {(entry["detail"]["consent"], entry["action"]) for entry in entries if "consent" in entry.get("detail", {})}
        wanted = {(consent, action) for consent, state in consents.items() for action in {"given", state}}
        return [f"{consent} {action}" for consent, action in wanted - said]

    def duplicates(self) -> list[str]:
        """Leaves that stand twice in the published log."""
        self._read()
        return [leaf.hex() for leaf, count in Counter(self._leaves).items() if count > 1]

    def doubts(self, gateway: Gateway) -> list[str]:
        """Why Go's verifier does not accept the log as this replica serves it, or as a continuation of what it saw before."""
        size, why = go_verifies(self._programs, f"{gateway.url}/audit", self._vkey, self._seen)
        return [why] if size < 0 else []

    def _read(self) -> set[bytes]:
        """The leaf hashes that are published by now."""
        note = self._tiles.checkpoint()
        size = Checkpoint.parse(note).size if note is not None else 0
        for number in range(len(self._leaves) // WIDTH, -(-size // WIDTH)):
            self._leaves[number * WIDTH :] = self._tiles.hashes(0, number, min(WIDTH, size - number * WIDTH))
        return set(self._leaves)
