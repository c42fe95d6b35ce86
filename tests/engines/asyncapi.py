"""The AsyncAPI format's own parser, a Node program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.engines.process import EngineFailed

PROGRAM = Path(__file__).with_name("asyncapi.cjs")


def asyncapi_errors(node_modules: Path, document: str) -> list[str]:
    """What the parser finds wrong with an AsyncAPI document (JSON or YAML), each as `/path: sentence`; empty if it is valid."""
    node = shutil.which("node") or "node"
    environment = {"PATH": os.environ.get("PATH", os.defpath), "NODE_PATH": str(node_modules)}
    done = subprocess.run([node, PROGRAM], input=document, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise EngineFailed(f"the AsyncAPI parser ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    errors: list[str] = json.loads(done.stdout)
    return errors
