"""Last night's database: a dump of a gateway's database, and the database put back to it, by the commands of docs/operations.md."""

from __future__ import annotations

import re
import shlex
import sqlite3
from pathlib import Path

from gateway.resources import ROOT
from tests.gateway import Gateway

COMMAND = re.compile(r"`((?:pg_dump|dropdb|createdb|pg_restore|vacuumdb) [^`]+)`")
"""PostgreSQL's programs, where the drill names them."""


class Dump:
    """What the database of this gateway, which may be running, held at this moment. Kept in the gateway's folder."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._path = Path(gateway.database_url.removeprefix("sqlite:///"))
        self._copy = gateway.folder / "exchange.dump"
        if gateway.engines.real is None:
            _copy_sqlite(self._path, self._copy)
        else:
            (command,) = [command for command in drill() if command.startswith("pg_dump")]
            self._run(command)

    def put_back(self) -> None:
        """What was written since is gone. No gateway may run."""
        if self._gateway.engines.real is None:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            _copy_sqlite(self._copy, self._path)
        else:
            for command in drill()[1:]:
                self._run(command)

    def _run(self, command: str) -> None:
        assert self._gateway.engines.real is not None
        name = self._gateway.database_url.rpartition("/")[2]
        words = [word.replace("NAME", name) for word in shlex.split(command)]
        self._gateway.engines.real.postgres.client(*words, folder=self._gateway.folder)


def drill() -> list[str]:
    """The drill's commands for PostgreSQL, in its order; the first makes the dump."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    found = COMMAND.findall(text[text.index("\n## Going back in time") :])
    assert [command.split()[0] for command in found] == ["pg_dump", "dropdb", "createdb", "pg_restore", "vacuumdb"]
    return list(found)


def _copy_sqlite(source: Path, target: Path) -> None:
    """What `.backup` of the shell of SQLite does."""
    with sqlite3.connect(source) as read, sqlite3.connect(target) as written:
        read.backup(written)
    read.close()
    written.close()
