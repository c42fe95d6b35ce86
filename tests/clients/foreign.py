"""Runs the clients of others: each a program that takes JSON and gives JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class ClientFailed(AssertionError):
    """The client ended with an error; the message has what it said."""


def run_node(node_modules: Path, **given: Any) -> dict[str, Any]:
    """What `openid_client/client.mjs` gives. Raises `ClientFailed`."""
    return _run([shutil.which("node") or "node", HERE / "openid_client" / "client.mjs"], given, NODE_PATH=str(node_modules))


def run_python(python: Path, program: str, **given: Any) -> dict[str, Any]:
    """What `<program>.py` of this folder gives. Raises `ClientFailed`."""
    return _run([python, "-I", HERE / f"{program}.py"], given)


def run_program(program: Path, **given: Any) -> dict[str, Any]:
    """What a built program gives. Raises `ClientFailed`."""
    return _run([program], given)


def _run(command: list[str | Path], given: dict[str, Any], **environment: str) -> dict[str, Any]:
    own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.environ.get("HOME", "/"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        list(map(str, command)), input=json.dumps(given), env=own | environment, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0:
        raise ClientFailed(f"{Path(command[-1]).name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said
