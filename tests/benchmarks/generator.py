"""A load program as a child process: started, ready, released, and its result."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class LoadFailed(Exception):
    """A load program ended without a result; the message is what it said."""


class Generator:
    """`python -m tests.benchmarks.load.<name>`, ready to go."""

    def __init__(self, name: str, plan: dict[str, Any], process: subprocess.Popen[bytes], said: Any) -> None:
        self._name = name
        self._process = process
        self._said = said
        self._write(json.dumps(plan).encode("ascii") + b"\n")
        if self._line() != b"ready":
            self._fail()

    def go(self) -> None:
        """Release it."""
        self._write(b"go\n")

    def result(self) -> dict[str, Any]:
        """What it measured, once it is done. Raises `LoadFailed`."""
        line = self._line()
        if self._process.wait() or not line:
            self._fail()
        told: dict[str, Any] = json.loads(line)
        return told

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip(b"\n")

    def _fail(self) -> None:
        self._process.wait(10)
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        raise LoadFailed(f"{self._name}: {lines[-1] if lines else 'it ended without a word'}")


@contextmanager
def generator(name: str, plan: dict[str, Any]) -> Iterator[Generator]:
    """One that is ready; it ends with the block, done or not. Raises `LoadFailed`."""
    with ExitStack() as ending:
        said = ending.enter_context(tempfile.TemporaryFile())
        command = [sys.executable, "-m", f"tests.benchmarks.load.{name}"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, cwd=ROOT)
        ending.enter_context(process)
        ending.callback(process.kill)
        yield Generator(name, plan, process, said)


def run(name: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Start it, release it, and give its result. Raises `LoadFailed`."""
    with generator(name, plan) as ready:
        ready.go()
        return ready.result()


def rate(name: str, plan: dict[str, Any]) -> float:
    """Events a second."""
    result = run(name, plan)
    return float(result["events"] / result["seconds"])
