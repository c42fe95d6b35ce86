"""A log that a test grows step by step, with the keys of an exchange of its own."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.audit.note import Checkpoint, log_identity, log_signer
from gateway.audit.record import Entry, record
from gateway.audit.sequencer import Sequencer
from gateway.audit.tiles import Tiles
from gateway.audit.witnesses import Witnesses
from gateway.database import Database
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import write_keys
from gateway.migrations import upgrade
from gateway.settings import Settings

ISSUER = "https://exchange.test"
ENTRY = Entry(kind="release", action="deliver", contract="con_1", closed=(1, 100))


class Log:
    """`append` entries, `grow` the tree until all are published."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.settings = Settings(environment="development", issuer=ISSUER, data_dir=folder)
        self.keys = write_keys(self.settings.resolved_key_file)
        self.origin, self.vkey = log_identity(self.keys, self.settings)
        self.tiles = Tiles(self.settings.resolved_audit_dir)
        self.sequencer = self.replica()

    def replica(self, tiles: Tiles | None = None, witnesses: Witnesses | None = None) -> Sequencer:
        """A further sequencer of this log."""
        return Sequencer(
            self.database, tiles or self.tiles, log_signer(self.keys, KeyEncryptionKeys.of(self.settings), self.settings), witnesses
        )

    def append(self, count: int = 1, entry: Entry = ENTRY) -> list[bytes]:
        """The leaf hashes."""
        with self.database.transaction() as session:
            return [record(session, entry).leaf_hash for _ in range(count)]

    def grow(self, count: int = 0) -> Checkpoint:
        """Append so many, and publish all that waits."""
        self.append(count)
        while self.sequencer.step() is not None:
            pass
        note = self.tiles.checkpoint()
        assert note is not None
        return Checkpoint.parse(note)

    @contextmanager
    def served(self) -> Iterator[str]:
        """The URL at which a plain web server serves the directory as it is."""

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Say nothing."""

        handler = functools.partial(Quiet, directory=str(self.tiles.folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@contextmanager
def forked(log: Log, folder: Path) -> Iterator[Log]:
    """Another history of the same log: same origin and key, a database and directory of its own."""
    url = f"sqlite:///{folder / 'fork.db'}"
    upgrade(url)
    database = Database(url)
    try:
        fork = Log(database, folder)
        fork.keys, fork.origin, fork.vkey = log.keys, log.origin, log.vkey
        fork.sequencer = fork.replica()
        yield fork
    finally:
        database.close()
