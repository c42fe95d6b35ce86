"""`exchange audit watch`: follows the log, and raises on a fork, on a stop, and on a rule that does not hold."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from connectors.client import Client, ProblemError
from gateway.audit.verify import main
from gateway.cli.audit.verifying import Exchange, Key, Policy, told
from gateway.cli.connection import connected, fail

PASSING = {"missing", "unreadable"}
"""What an exchange that is away looks like: raised when it lasts."""
LOOKS_BACK_S = 60.0


def watch(
    key: Key,
    state: Annotated[Path, typer.Option(help="A file of yours with what was seen last.")],
    policy: Policy = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
    stopped: Annotated[float, typer.Option(min=1, help="Seconds after which an entry must be in a checkpoint.")] = 30.0,
    silent: Annotated[float | None, typer.Option(min=1, help="Raise if no entry has come for so many seconds.")] = None,
    command: Annotated[str | None, typer.Option(help="A command to run when something is raised; it gets the lines on stdin.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, as from cron.")] = False,
) -> None:
    """Look again and again; exit with 1 and what is wrong as soon as something is: a fork, a stop, a broken rule.

    Example: exchange audit watch --key contract.md --state seen.json --command 'mail -s "The log" auditor@city.example'
    """
    words = ["--key", key, "--state", str(state), *(["--policy", str(policy)] if policy else [])]
    well = time.monotonic()
    with connected() as client:
        while True:
            found = _look([client.issuer, *words], Exchange(client))
            away = bool(found["broken"]) and {broken["rule"] for broken in found["broken"]} <= PASSING
            lines = told({"broken": found["broken"]}) if not away else []
            if not away:
                well = time.monotonic()
                lines += _stop(client, stopped, silent)
            elif time.monotonic() - well > stopped or once:
                lines = told({"broken": found["broken"]})
            if lines:
                _raise(lines, command)
            if once:
                return
            time.sleep(every)


def _look(words: list[str], source: Exchange) -> dict[str, Any]:
    documents: list[str] = []
    main(words, source, documents.append)
    found: dict[str, Any] = json.loads(documents[0])
    return found


def _stop(client: Client, stopped: float, silent: float | None) -> list[str]:
    """That entries wait too long for their place in the log, or that none come at all."""
    try:
        due = client.get("/v1/audit/entries", limit=500, since=_ago(stopped + LOOKS_BACK_S), until=_ago(stopped))["items"]
        none = silent is not None and not client.get("/v1/audit/entries", limit=1, since=_ago(silent))["items"]
    except (ProblemError, httpx2.TransportError):
        return []  # the exchange is away: the next look at the log says so
    late = [item for item in due if item["index"] is None]
    lines = [f"stopped    the entry of {item['at']} ({item['leaf_hash']}) is in no checkpoint" for item in late[:1]]
    return [*lines, f"silent     no entry has come for {silent:g} seconds"] if none else lines


def _ago(seconds: float) -> str:
    return f"{datetime.now(UTC) - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def _raise(lines: list[str], command: str | None) -> None:
    if command is not None:
        subprocess.run(shlex.split(command), input="\n".join(lines) + "\n", text=True, check=False, timeout=60)
    fail(*lines)
