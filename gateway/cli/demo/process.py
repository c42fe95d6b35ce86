"""The exchange as the demonstration runs it: one process, or several replicas, at free ports of this machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2

MARK = ".exchange-demo"
READY_SECONDS = 60.0
STOP_SECONDS = 15.0


class DemoFailed(RuntimeError):
    """The exchange did not come up; the message says what it said."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def empty_folder(folder: Path) -> None:
    """Make the folder, or empty one that an earlier demonstration left. Raises `DemoFailed` if it holds anything else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise DemoFailed(f"{folder} holds something that no demonstration made: give another folder by --data-dir.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / MARK).touch()


@dataclass(frozen=True, slots=True)
class Operator:
    """What `exchange setup` gave: the client that makes everything else."""

    organization_id: str
    client_id: str
    client_secret: str

    def __repr__(self) -> str:
        return f"Operator({self.client_id!r})"


class Exchange:
    """`with Exchange(folder) as exchange:` sets up and serves; leaving stops it, and on Linux the end of this process ends it.

    `replicas` are the settings of each, beyond its addresses; by default there is one, on the embedded engines. `officers` are the
    names of privacy officers who can sign in, with the password in `password_file`.
    """

    def __init__(
        self, folder: Path, port: int | None = None, replicas: Sequence[Mapping[str, str]] = ({},), officers: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.officers = officers
        self.password_file = folder / "officers"
        self.urls = [f"http://127.0.0.1:{port or free_port()}", *(f"http://127.0.0.1:{free_port()}" for _ in replicas[1:])]
        self.url = self.urls[0]
        shared = {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")} | {
            "EXCHANGE_ENVIRONMENT": "development",
            "EXCHANGE_ISSUER": self.url,
            "EXCHANGE_DATA_DIR": str(folder / "data"),
            "EXCHANGE_APPROVAL_WAIT_H": "0",  # officers who are new today agree on policy today: nowhere but in a demonstration
        }
        self._environments = [
            shared | {"EXCHANGE_ADMIN_PORT": str(free_port())} | dict(settings) | {"EXCHANGE_PORT": url.rpartition(":")[2]}
            for url, settings in zip(self.urls, replicas, strict=True)
        ]
        self._logs = [
            folder / ("server.log" if url == self.url else f"server-{number}.log") for number, url in enumerate(self.urls, start=1)
        ]
        self._processes: list[subprocess.Popen[bytes]] = []
        self.operator = Operator("", "", "")

    def __enter__(self) -> Self:
        made = self._set_up()
        self.operator = Operator(made["organization_id"], made["client_id"], made["client_secret"])
        self._name_officers()
        try:
            for environment, path in zip(self._environments, self._logs, strict=True):
                with path.open("wb") as log:
                    # In a session of its own, for Ctrl-C is for this process, and with it however it ends.
                    command = [*self._command("serve"), "--end-with", str(os.getpid())]
                    self._processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
            for url, process in zip(self.urls, self._processes, strict=True):
                self._wait_until_ready(url, process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def log_tail(self) -> str:
        return "\n".join(tail(log) for log in self._logs if log.exists())

    def alive(self) -> bool:
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    def _set_up(self) -> dict[str, Any]:
        command = [*self._command("setup"), "--organization", "City of Mississauga", "--issuer", self.url, "--json"]
        done = subprocess.run(command, env=self._environments[0], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DemoFailed(f"exchange setup failed:\n{done.stderr.strip()}")
        made: dict[str, Any] = json.loads(done.stdout)
        return made

    def _name_officers(self) -> None:
        """Before the gateway starts: an SQLite database has one seat."""
        if self.officers:
            write_private(self.password_file, secrets.token_urlsafe(15) + "\n")
        for name in self.officers:
            command = [*self._command("person"), "create", name, "--role", "privacy_officer"]
            environment = self._environments[0] | {"EXCHANGE_PASSWORD_FILE": str(self.password_file)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise DemoFailed(f"exchange person create failed:\n{done.stderr.strip()}")

    def _wait_until_ready(self, url: str, process: subprocess.Popen[bytes]) -> None:
        """Ready is not enough for a story: it needs the log and the policy engine too."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DemoFailed(f"exchange serve ended at once:\n{self.log_tail()}")
            try:
                answer = httpx2.get(f"{url}/readyz", timeout=4.0)
                if answer.is_success and set(answer.json()["parts"].values()) == {"ok"}:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        raise DemoFailed(f"exchange serve was not ready after {READY_SECONDS:.0f} s:\n{self.log_tail()}")

    def _stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            end(process)

    @staticmethod
    def _command(name: str) -> list[str]:
        return [sys.executable, "-m", "gateway.cli", name]


def write_private(path: Path, text: str) -> None:
    """Readable by its owner only, replaced at once and never half written."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def end(process: subprocess.Popen[Any]) -> None:
    """SIGTERM, and SIGKILL to one that has not ended after `STOP_SECONDS`; returns when it has."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log: Path, lines: int = 20) -> str:
    """The end of a log."""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])
