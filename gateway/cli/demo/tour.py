"""What stays after the story: visitors who come on, a file of shell variables, kept fresh, and lines to paste."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import httpx2

from connectors.client import Client, ProblemError
from gateway.cli.demo.cast import Cast
from gateway.cli.demo.footfall import SLUG, Footfall
from gateway.cli.demo.process import Exchange, write_private
from gateway.cli.demo.screen import Screen
from gateway.cli.demo.withdrawal import ANOTHER

REFRESH_SECONDS = 240.0
"""Tokens live ten minutes; the file never holds one that has less than half of that left."""
VISITS_A_TURN = 5
WITHDRAW = """curl -s -H "Content-Type: application/json" -d '{"code": "'$WITHDRAWAL_CODE'"}' "$EXCHANGE_URL/v1/consents/withdraw\""""


def curl(path: str, *, bearer: str = "", body: dict[str, str] | None = None) -> str:
    """A line for the shell; `bearer` is the name of the variable that holds the token."""
    words = ["curl -s"]
    words += [f'-H "Authorization: Bearer ${bearer}"'] if bearer else []
    words += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(body))}"] if body else []
    return " ".join([*words, f'"$EXCHANGE_URL{path}"'])


def call(path: str, *, at: str = "EXCHANGE_URL", contract: str, accept: str = "", seconds: int = 0) -> str:
    """A line for the shell by `exchange call`, which proves that it holds the start-up's key: personal data goes to nobody else."""
    words = [f"EXCHANGE_ADDRESS=${at}"] if at != "EXCHANGE_URL" else []
    words += [f'.venv/bin/exchange call GET "{path}" --contract ${contract}']
    words += [f"--accept {accept}"] if accept else []
    words += [f"--seconds {seconds}"] if seconds else []
    return " ".join(words)


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
)


RECEIPT = """echo "$RECEIPT" | cut -d. -f2 | tr '_-' '/+' | base64 -d 2>/dev/null || echo"""
WATCH_SECONDS = 60

PAGES = (
    ("/", "who shares what with whom, for anybody"),
    ("/log", "the checkpoint of the audit log"),
    ("/resident", "what is shared about the resident, by the one-time code above"),
    ("/withdraw", "one button, by the code of the receipt"),
)


def lines(replicas: int) -> list[tuple[str, str]]:
    """What there is to try, and its line: `LINES`, a stream at each replica, a resident's receipt and withdrawal, and what it stops."""
    path = "/v1/contracts/$FOOTFALL/events"
    streams = [call(path, at=at, contract="FOOTFALL", accept="text/event-stream", seconds=3) for at in addresses(replicas)]
    return [
        *LINES,
        ("and the start-up reads on, as a stream, for three seconds; without --seconds for as long as you look", streams[0]),
        *(("the same at another replica", stream) for stream in streams[1:]),
        ("what was sent for that, as curl would send it; the proof is good for one request", call(path, contract="FOOTFALL") + " --show"),
        (
            "a one-time code for the resident, as the provider's counter gives it: enter it at the page /resident",
            curl("/v1/subjects/codes", bearer="PROVIDER", body={"dataset": SLUG, "subject": ANOTHER}),
        ),
        ("the receipt that a resident holds: what was consented to, and the code that withdraws it", RECEIPT),
        (
            f"under which name the start-up hears of that resident, once a second; it goes on below, for {WATCH_SECONDS} seconds",
            watch(1),
        ),
        *(("and at another replica", watch(number)) for number in range(2, replicas + 1)),
        ("meanwhile the resident withdraws, by the code of the receipt: that name comes no more, while the streams go on", WITHDRAW),
    ]


def watch(replica: int) -> str:
    """A line that shows, in the background, each event of the resident that leaves this replica."""
    at = addresses(replica)[-1]
    path = "/v1/contracts/$FOOTFALL/events?cursor=latest"
    stream = call(path, at=at, contract="FOOTFALL", accept="text/event-stream", seconds=WATCH_SECONDS)
    return f'{stream} | grep --line-buffered -o "$RESIDENT" | sed -u "s/^/replica {replica}: /" &'


def addresses(replicas: int) -> list[str]:
    """The names of the variables that hold the replicas' addresses."""
    return ["EXCHANGE_URL", *(f"EXCHANGE_URL_{number}" for number in range(2, replicas + 1))]


def write_environment(path: Path, exchange: Exchange, cast: Cast, known: dict[str, str]) -> None:
    """The variables, for `. FILE` in a shell, and the start-up's key beside it, as which `exchange call` speaks.

    `known` is what lines name beside: an offer, the contracts of the story, and what one resident holds.
    """
    tokens = {
        "OPERATOR": _token(cast.operator),
        "PROVIDER": _token(cast.provider),
        "CONSUMER": _token(cast.consumer),
        "CONSUMER_TRANSIT": _token(cast.consumer, known["TRANSIT"]),
        "AUDITOR": _token(cast.auditor),
    }
    variables = known | {"CONSUMER_ORGANIZATION": cast.consumer_id} | tokens
    key_file = path.with_name("consumer.jwk")
    exported = {
        **dict(zip(addresses(len(exchange.urls)), exchange.urls, strict=True)),
        "EXCHANGE_CLIENT_ID": cast.consumer.credentials.client_id if cast.consumer.credentials else "",
        "EXCHANGE_CLIENT_KEY_FILE": str(key_file.absolute()),
    }
    write_private(key_file, json.dumps(cast.consumer_key))
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in exported.items()]
    write_private(path, "".join(lines + [f"{name}={shlex.quote(value)}\n" for name, value in variables.items()]))


def show(screen: Screen, path: Path, exchange: Exchange) -> None:
    """Print the lines, each of which works when pasted, in this order, as long as the exchange is up, and the pages."""
    screen.say("\nThe exchange stays up. Try, in another terminal and in this folder:\n")
    screen.say(f"  . {shlex.quote(str(path))}      # again after ten minutes: tokens do not live longer")
    for told, line in lines(len(exchange.urls)):
        screen.say(f"\n  # {told}\n  {line}")
    screen.say("\nIn a browser:\n")
    for page, told in PAGES:
        screen.say(f"  {exchange.url}{page}  {told}")
    screen.say(f"  {exchange.url}/officer  the privacy officers' desk, for {' and '.join(exchange.officers)}; their password:")
    screen.say(f"  cat {shlex.quote(str(exchange.password_file))}")
    screen.say("\nCtrl-C ends it.")


def stay(exchange: Exchange, cast: Cast, known: Footfall, write: Callable[[], None]) -> None:
    """Keep the file fresh and let visitors come, the resident among them, until Ctrl-C; returns if the exchange ends by itself."""
    theirs = (event for event in known.visits if event["data"]["visitor"] == ANOTHER)
    try:
        written = time.monotonic()
        while exchange.alive():
            time.sleep(1)
            with suppress(ProblemError, httpx2.TransportError):  # a gateway that starts again; the next visits will find it
                cast.provider.publish(SLUG, [*islice(known.visits, VISITS_A_TURN), next(theirs)])
            if time.monotonic() - written >= REFRESH_SECONDS:
                write()
                written = time.monotonic()
    except KeyboardInterrupt:
        return


def _token(client: Client, contract: str | None = None) -> str:
    assert client.credentials is not None
    client.credentials.forget(contract)
    return client.credentials.token(client.http, contract)
