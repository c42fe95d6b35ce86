"""The exchange as the demonstration runs it: a process of its own, on the embedded engines, at free ports of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2

MARK = ".exchange-demo"
READY_SECONDS = 30.0
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
    """`with Exchange(folder) as exchange:` sets up and serves; leaving stops it."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port or free_port()}"
        self.admin_url = f"http://127.0.0.1:{free_port()}"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")} | {
            "EXCHANGE_ENVIRONMENT": "development",
            "EXCHANGE_ISSUER": self.url,
            "EXCHANGE_PORT": self.url.rpartition(":")[2],
            "EXCHANGE_ADMIN_PORT": self.admin_url.rpartition(":")[2],
            "EXCHANGE_DATA_DIR": str(folder / "data"),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.operator = Operator("", "", "")

    def __enter__(self) -> Self:
        made = self._set_up()
        self.operator = Operator(made["organization_id"], made["client_id"], made["client_secret"])
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(self._command("serve"), env=self._environment, stdout=log, stderr=log, start_new_session=True)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join((self.folder / "server.log").read_text("utf-8", "replace").splitlines()[-lines:])

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _set_up(self) -> dict[str, Any]:
        command = [*self._command("setup"), "--organization", "City of Mississauga", "--issuer", self.url, "--json"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DemoFailed(f"exchange setup failed:\n{done.stderr.strip()}")
        made: dict[str, Any] = json.loads(done.stdout)
        return made

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise DemoFailed(f"exchange serve ended at once:\n{self.log_tail()}")
            try:
                if httpx2.get(f"{self.url}/readyz", timeout=2.0).is_success:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        raise DemoFailed(f"exchange serve was not ready after {READY_SECONDS:.0f} s:\n{self.log_tail()}")

    def _stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @staticmethod
    def _command(name: str) -> list[str]:
        return [sys.executable, "-m", "gateway.cli", name]
