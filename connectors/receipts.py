"""Receipts: the leaf hashes of the audit entries of what was published and received, to hold against the log of the exchange."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from connectors.cloudevent import rfc3339


class Receipts:
    """A file of JSON lines, one a receipt, made readable by its owner only. Threads may share it; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writing = threading.Lock()

    def keep(self, kind: str, of: str, audit_entry: str, events: int) -> None:
        """Write down a receipt of so many events. `kind`: pull, stream, publish; `of`: a contract or dataset. Raises `OSError`."""
        if self._path is None or not audit_entry:
            return
        line = {"at": rfc3339(datetime.now(UTC)), "kind": kind, "of": of, "events": events, "audit_entry": audit_entry}
        with self._writing:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
