"""What stays after the story: a file of shell variables, kept fresh, and curl lines to paste."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from connectors.client import Client
from gateway.cli.demo.cast import Cast
from gateway.cli.demo.process import Exchange
from gateway.cli.demo.screen import Screen

REFRESH_SECONDS = 240.0
"""Tokens live ten minutes; the file never holds one that has less than half of that left."""


def curl(path: str, *, bearer: str = "", accept: str = "", body: dict[str, str] | None = None, seconds: int = 0) -> str:
    """A line for the shell; `bearer` is the name of the variable that holds the token."""
    words = ["curl -s"]
    words += [f"-N --max-time {seconds}"] if seconds else []
    words += [f'-H "Authorization: Bearer ${bearer}"'] if bearer else []
    words += [f'-H "Accept: {accept}"'] if accept else []
    words += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(body))}"] if body else []
    return " ".join([*words, f'"$EXCHANGE_URL{path}"'])


LINES = (
    ("what is open to anybody", curl("/v1/datasets/business-directory/events?limit_bytes=2000")),
    ("the purposes, each with its DPV term", curl("/v1/purposes")),
    ("who the start-up is", curl("/v1/me", bearer="CONSUMER")),
    (
        "trip updates under the offer",
        curl("/v1/contracts/$TRANSIT/events?limit_bytes=2000", bearer="CONSUMER_TRANSIT"),
    ),
    ("the text that both sides signed", curl("/v1/contracts/$FOOTFALL/text", bearer="CONSUMER")),
    (
        "advertising: no, and why",
        curl("/v1/contracts", bearer="CONSUMER", body={"dataset": "port-credit-footfall", "purpose": "advertising"}),
    ),
    (
        "who received footfall, and under which decision",
        curl("/v1/audit/entries?kind=release&dataset=port-credit-footfall&limit=3", bearer="AUDITOR"),
    ),
    (
        "the provider lets the contract go on",
        curl("/v1/contracts/$FOOTFALL/resume", bearer="PROVIDER", body={"reason": "Reviewed"}),
    ),
    (
        "and the start-up reads on, as a stream, for three seconds",
        curl("/v1/contracts/$FOOTFALL/events", bearer="CONSUMER_FOOTFALL", accept="text/event-stream", seconds=3),
    ),
)


def write_environment(path: Path, exchange: Exchange, cast: Cast, known: dict[str, str]) -> None:
    """The variables, for `. FILE` in a shell; readable by its owner only, replaced at once and never half written.

    `known` are the identifiers that lines name: an offer, and the contracts of the story.
    """
    tokens = {
        "OPERATOR": _token(cast.operator),
        "PROVIDER": _token(cast.provider),
        "CONSUMER": _token(cast.consumer),
        "CONSUMER_TRANSIT": _token(cast.consumer, known["TRANSIT"]),
        "CONSUMER_FOOTFALL": _token(cast.consumer, known["FOOTFALL"]),
        "AUDITOR": _token(cast.auditor),
    }
    variables = known | {"CONSUMER_ORGANIZATION": cast.consumer_id} | tokens
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f"export EXCHANGE_URL={exchange.url}\n")
        file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
    fresh.replace(path)


def show(screen: Screen, path: Path) -> None:
    """Print the lines. Each works when pasted, in this order, as long as the exchange is up."""
    screen.say("\nThe exchange stays up. Try, in another terminal and in this folder:\n")
    screen.say(f"  . {shlex.quote(str(path))}      # again after ten minutes: tokens do not live longer")
    for told, line in LINES:
        screen.say(f"\n  # {told}\n  {line}")
    screen.say("\nCtrl-C ends it.")


def stay(exchange: Exchange, write: Callable[[], None]) -> None:
    """Keep the file fresh until Ctrl-C; returns if the exchange ends by itself."""
    try:
        written = time.monotonic()
        while exchange.alive():
            time.sleep(1)
            if time.monotonic() - written >= REFRESH_SECONDS:
                write()
                written = time.monotonic()
    except KeyboardInterrupt:
        return


def _token(client: Client, contract: str | None = None) -> str:
    assert client.credentials is not None
    client.credentials.forget(contract)
    return client.credentials.token(client.http, contract)
