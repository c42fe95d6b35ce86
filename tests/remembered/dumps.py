"""Last night's database: a copy of a gateway's database, and the database put back to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.gateway import Gateway


class Dump:
    """What the database of this gateway, which is not running, held at this moment."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._path = Path(gateway.database_url.removeprefix("sqlite:///"))
        self._name = gateway.database_url.rpartition("/")[2]
        real = gateway.engines.real
        if real is None:
            self._copy = self._path.with_suffix(".dump")
            _copy_sqlite(self._path, self._copy)
        else:
            self._template = real.postgres.create_database(self._name)

    def put_back(self) -> None:
        """What was written since is gone. Sessions of a gateway that runs are ended."""
        real = self._gateway.engines.real
        if real is None:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            _copy_sqlite(self._copy, self._path)
        else:
            real.postgres.drop_database(self._name)
            real.postgres.execute(f'CREATE DATABASE "{self._name}" TEMPLATE "{self._template}"')


def _copy_sqlite(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as read, sqlite3.connect(target) as written:
        read.backup(written)
    read.close()
    written.close()
