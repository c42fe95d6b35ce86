"""An engine as a child process: its log in a file, and an error that says why when it does not come up."""

from __future__ import annotations

import functools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
TAIL_LINES = 25


class EngineFailed(Exception):
    """An engine is not there, does not start or does not answer; the message says why and ends with its log."""


class Process:
    """One engine process, started, killed and started again with the same command line.

    `user` is the account to run as when the tests run as root. The process dies with the tests, however they end.
    """

    def __init__(self, name: str, command: Sequence[str | Path], *, log: Path, user: str | None = None) -> None:
        self.name = name
        self.log = log
        self._command = [*_leash(user), *map(str, command)]
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def start(self, ready: Callable[[str], bool], *, timeout_s: float) -> None:
        """Start, and return when `ready(what it has logged since)` is true. Raises `EngineFailed`."""
        if self.running:
            raise EngineFailed(f"{self.name} is running already")
        before = self.log.stat().st_size if self.log.exists() else 0
        self._running = _spawner().submit(self._spawn).result()
        deadline = time.monotonic() + timeout_s
        while not ready(self._logged(before)):
            status = self._running.poll()
            if status is not None:
                self._fail(f"ended with status {status} while starting", before)
            if time.monotonic() > deadline:
                self.kill()
                self._fail(f"was not ready after {timeout_s:.0f} s", before)
            time.sleep(0.05)

    def stop(self, *, by: signal.Signals = signal.SIGTERM, timeout_s: float = 15) -> None:
        """Ask it to end and wait; kill it if it does not. No error if it is not running."""
        if self._running is None:
            return
        self._running.send_signal(by)
        try:
            self._running.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    def kill(self) -> None:
        """SIGKILL: no chance to write anything more. No error if it is not running."""
        self.stop(by=signal.SIGKILL)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=_bare_environment()
            )

    def _logged(self, since: int) -> str:
        return self.log.read_bytes()[since:].decode("utf-8", "replace")

    def _fail(self, why: str, since: int) -> None:
        self._running = None
        tail = "\n".join(self._logged(since).splitlines()[-TAIL_LINES:])
        raise EngineFailed(f"{self.name} {why}. Its log ({self.log}) ends with:\n{tail or '(nothing)'}")


def free_port() -> int:
    """A loopback port that nobody listens on, and that nobody gets by chance while its engine is down.

    It lies below the range from which the kernel picks ports for outgoing connections: from within it, a client that
    tries again and again to reach a killed engine would at last be connected to itself, and keep the engine from its port.
    """
    try:
        ephemeral_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except FileNotFoundError:
        ephemeral_from = 32768
    for _ in range(1000):
        port = random.randrange(10240, max(ephemeral_from, 20480))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EngineFailed("no free port on 127.0.0.1 after 1,000 tries")


def render(template: Path, to: Path, **values: str | int | Path) -> Path:
    """Write a configuration file of `deploy/` with its `${NAME}` filled in; every name must be given."""
    to.write_text(Template(template.read_text("utf-8")).substitute({name: str(value) for name, value in values.items()}), "utf-8")
    return to


def has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    """The one thread that starts engines: the kernel ends an engine when the *thread* that started it ends, and a test's may."""
    return ThreadPoolExecutor(1, "engines")


def _leash(user: str | None) -> list[str]:
    """What makes a command die with us, and run as `user` if we are root. Linux has both in one tool."""
    setpriv = shutil.which("setpriv")
    become = [f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"] if user and os.geteuid() == 0 else []
    if setpriv is None:
        if become:
            raise EngineFailed(f"As root, {user} is needed for an engine, and there is no setpriv (util-linux) to become it.")
        return []
    return [setpriv, "--pdeathsig", "KILL", *become]


def _bare_environment() -> dict[str, str]:
    """Engines see no settings of ours: what they do is in their configuration."""
    return {name: os.environ[name] for name in ("PATH", "JAVA_HOME", "TMPDIR") if name in os.environ}
