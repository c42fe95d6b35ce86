"""`exchange demo`: the exchange tells its story, on this machine, with nothing installed but itself, or on the real engines."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.connection import fail
from gateway.cli.server import servers_packages

OFFICERS = ("ada", "ben")
"""Two, because policy takes two persons."""


def demo(
    leave: Annotated[bool, typer.Option("--exit", help="End after the story instead of staying up.")] = False,
    data_dir: Annotated[Path, typer.Option(help="The folder it works in; emptied first if a demonstration made it.")] = Path("demo-data"),
    port: Annotated[int, typer.Option(help="The port to serve at; 0 for a free one.")] = 0,
    engines: Annotated[
        bool, typer.Option("--engines", help="On Kafka, PostgreSQL and OPA, started for it, instead of the embedded engines.")
    ] = False,
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Gateways, each at a port of its own; more than one needs --engines.")] = 1,
) -> None:
    """Start an exchange, load Port Credit, and tell a story of real calls that checks what it claims; exit code 1 if one is false.

    It runs on the embedded engines, which need nothing installed.

    With --engines it installs (once, minutes) and starts Kafka, PostgreSQL and OPA, new and empty.

    With --replicas 2 two gateways stand on them: a resident withdraws at one, and is heard of no more in a stream at each.

    Example: exchange demo --engines --replicas 2
    """
    from connectors.client import ProblemError
    from gateway.cli.demo.engines import are_here, real_engines
    from gateway.cli.demo.process import DemoFailed, Exchange, empty_folder
    from gateway.cli.demo.screen import ClaimFailed, Screen

    with servers_packages():
        import gateway.serve  # noqa: F401 - the exchange that it will start
        from gateway.cli.demo.story import tell

    if replicas > 1 and not engines:
        raise typer.BadParameter("Several replicas need --engines: the embedded ones serve one gateway.")
    if engines and not are_here():
        fail("The real engines are started by a checkout of the project, and this is none.", "Leave --engines out.")
    screen, began = Screen(), time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a stop from outside ends the exchange too
    exchange: Exchange | None = None
    try:
        empty_folder(data_dir)
        with ExitStack() as ending:
            settings = ending.enter_context(real_engines(data_dir, replicas)) if engines else [{}]
            exchange = ending.enter_context(Exchange(data_dir, port or None, settings, () if leave else OFFICERS))
            tell(exchange, screen, began, engines="Kafka, PostgreSQL and OPA" if engines else "the embedded engines", leave=leave)
    except KeyboardInterrupt:
        screen.say()
    except (ClaimFailed, DemoFailed, ProblemError) as failure:
        screen.say(f"\nThe demonstration failed: {failure}")
        if exchange is not None and not isinstance(failure, DemoFailed):
            screen.say(f"What the exchange said last:\n{exchange.log_tail()}")
        raise typer.Exit(1) from failure
