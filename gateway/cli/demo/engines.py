"""The real engines for a demonstration: the checkout's own starter runs them in a process beside it, and tells each gateway's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from gateway.cli.demo.process import DemoFailed, end, tail

STARTER = "tests.engines"


def are_here() -> bool:
    """True in a checkout, which has what installs and starts the engines."""
    return find_spec("tests") is not None and find_spec(STARTER) is not None


@contextmanager
def real_engines(folder: Path, replicas: int) -> Iterator[list[dict[str, str]]]:
    """Kafka, PostgreSQL and an OPA a replica, new and empty; gives the `EXCHANGE_...` settings of each replica. Raises `DemoFailed`.

    Installs them if that was never done, which takes minutes. They end with the block, and with this process however it ends.
    """
    if subprocess.run([sys.executable, "-m", f"{STARTER}.install"], check=False).returncode != 0:
        raise DemoFailed("The engines could not be installed; what is missing is said above.")
    log = folder / "engines.log"
    command = [sys.executable, "-m", STARTER, "--json", "--replicas", str(replicas), "--child-of", str(os.getpid())]
    with log.open("wb") as written:
        # In a session of its own: Ctrl-C is for this process, which stops the gateways first.
        starter = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=written, text=True, start_new_session=True)
    assert starter.stdout is not None
    try:
        told = starter.stdout.readline()
        if not told:
            raise DemoFailed(f"The engines did not start:\n{tail(log)}")
        yield json.loads(told)
    finally:
        end(starter)
        starter.stdout.close()
