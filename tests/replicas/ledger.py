"""What the audit log must have of what was acknowledged, and that it stays one log: others verify it, round after round."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from gateway.audit.models import AuditEntry, AuditLeaf
from gateway.audit.note import Checkpoint, log_identity
from gateway.audit.tiles import WIDTH, Tiles
from gateway.audit.verify import BACK, Source
from gateway.audit.verify import main as verify
from gateway.database import Database
from gateway.keys import b64, read_keys
from tests.audit.others import go_verifies
from tests.engines import install
from tests.gateway import Gateway

PATIENCE_S = 30.0
"""In which what was acknowledged is in the published log, once replicas are well."""


class Opened(Source):
    """The published log from its directory, its entries from the database: what an auditor is shown over HTTP."""

    def __init__(self, folder: Path, database_url: str) -> None:
        super().__init__(str(folder))
        self._database_url = database_url

    def entries(self, newest: str) -> Iterator[tuple[dict[str, Any], bytes]]:
        database = Database(self._database_url)
        with database.reading() as session:
            statement = select(AuditLeaf.index, AuditEntry).join(AuditEntry, AuditEntry.number == AuditLeaf.number)
            if newest:
                statement = statement.where(AuditEntry.at >= datetime.fromisoformat(newest) - 2 * BACK)
            rows = session.execute(statement.order_by(AuditLeaf.index)).all()
        database.close()  # before the first is handed out: who verifies may stop at any of them
        for index, row in rows:
            opening = {"opening": json.loads(row.opening)} if row.opening else {}
            yield {"index": index, "salt": b64(row.salt), "entry": json.loads(row.entry)} | opening, row.entry


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
        """Why Go's verifier does not accept the log as this replica serves it, or as a continuation of what it saw before; and which
        entry breaks which rule, by the auditor's own.
        """
        size, why = go_verifies(self._programs, f"{gateway.url}/audit", self._vkey, self._seen)
        told: list[str] = []
        words = [str(self._tiles.folder), "--key", self._vkey, "--state", f"{self._seen}.json"]
        verify(words, Opened(self._tiles.folder, self._database_url), told.append)
        return [why] * (size < 0) + [json.dumps(broken) for broken in json.loads(told[0])["broken"]]

    def _read(self) -> set[bytes]:
        """The leaf hashes that are published by now."""
        note = self._tiles.checkpoint()
        size = Checkpoint.parse(note).size if note is not None else 0
        for number in range(len(self._leaves) // WIDTH, -(-size // WIDTH)):
            self._leaves[number * WIDTH :] = self._tiles.hashes(0, number, min(WIDTH, size - number * WIDTH))
        return set(self._leaves)
