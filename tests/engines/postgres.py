"""PostgreSQL, from `deploy/postgresql`: one server, a database a test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.engines.process import DEPLOY, EngineFailed, Process, free_port, has_user, render

START_TIMEOUT_S = 30


class Postgres:
    """A server whose data and port stay while it is killed and started again.

    `fsync=False` is fast and survives `kill -9` of the server (the kernel keeps what was written), not of the machine.
    """

    def __init__(self, binaries: Path, folder: Path, *, fsync: bool = False) -> None:
        self.port = free_port()
        self._folder = folder
        self._binaries = binaries
        # PostgreSQL refuses to be root.
        self._user = ("postgres" if has_user("postgres") else "nobody") if os.geteuid() == 0 else None
        self._fsync = fsync
        self._made: dict[str, bool] = {}
        """The databases that it made; true: a template of others."""
        self._process: Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of one of its databases, as in `EXCHANGE_DATABASE_URL`."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template1") -> str:
        """Make a new database, a copy of `template` (to which nobody may be connected), and return its name."""
        name = f"t_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        self._made[name] = False
        if template in self._made:
            self._made[template] = True
        return name

    def drop_unused(self) -> None:
        """Drop the databases that it made to which nobody is connected, but for templates: each is 300 files."""
        if not self.running:
            return
        with psycopg.connect(self._address, autocommit=True) as connection:
            # Asked first, because the server waits five seconds for whoever is connected to one that is to be dropped.
            used = {name for (name,) in connection.execute("SELECT datname FROM pg_stat_activity WHERE datname IS NOT NULL")}
            for name in [name for name, is_template in self._made.items() if not is_template and name not in used]:
                with suppress(psycopg.errors.ObjectInUse):
                    connection.execute(f'DROP DATABASE IF EXISTS "{name}"'.encode())
                    del self._made[name]

    def drop_database(self, name: str) -> None:
        """Drop it, and whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def client(self, *words: str, folder: Path) -> None:
        """Run one of PostgreSQL's programs (`pg_dump`, `createdb`, ...) as superuser in this folder. Raises `EngineFailed`."""
        where = {"PATH": os.defpath, "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres"}
        program = [str(self._binaries / words[0]), *words[1:]]
        done = subprocess.run(program, cwd=folder, env=where, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise EngineFailed(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")

    def execute(self, statement: str) -> None:
        """Run one statement as superuser, outside a transaction."""
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start, or start again on what is on disk. Raises `EngineFailed`."""
        if self._process is None:
            self._process = self._prepare()
        # After kill -9 its orphans hold the shared memory until each has noticed, and the next server refuses to start.
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._process.start(lambda _log: self._answers(), timeout_s=START_TIMEOUT_S)
            except EngineFailed as error:
                if "still in use" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """Shut down in an orderly way; sessions are ended."""
        if self._process is not None:
            self._process.stop(by=signal.SIGINT)

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()

    @property
    def _address(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=2"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._address).close()
        except psycopg.OperationalError:
            return False
        return True

    def _prepare(self) -> Process:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_reachable()
        data = self._folder / "data"
        init = [self._binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(
            list(map(str, init)), user=self._user, cwd=self._folder, capture_output=True, text=True, check=False, env={"PATH": os.defpath}
        )
        if done.returncode != 0:
            raise EngineFailed(f"initdb of {self._binaries} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        template = DEPLOY / "postgresql" / "postgresql.conf"
        render(template, data / "postgresql.conf", POSTGRES_PORT=self.port, POSTGRES_SOCKET_DIR=self._folder)
        server = (self._binaries / "postgres", "-D", data, *(() if self._fsync else ("-c", "fsync=off")))
        return Process("PostgreSQL", server, log=self._folder / "postgresql.log", user=self._user)

    def _make_reachable(self) -> None:
        """As root: give the folder to the server's user, and copy the server where that user can read it, if it cannot."""
        if self._user is None:
            return
        shutil.chown(self._folder, self._user)
        if not all(parent.stat().st_mode & 0o001 for parent in self._binaries.resolve().parents):
            # The wheel, whole: its libraries lie beside the package that holds `pginstall/bin`.
            wheel = self._binaries.parents[2]
            shutil.copytree(wheel, self._folder / "server", symlinks=True)
            self._binaries = self._folder / "server" / self._binaries.relative_to(wheel)
