"""`exchange demo`: the exchange tells its story, on this machine, with nothing installed but itself."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.server import servers_packages


def demo(
    leave: Annotated[bool, typer.Option("--exit", help="End after the story instead of staying up.")] = False,
    data_dir: Annotated[Path, typer.Option(help="The folder it works in; emptied first if a demonstration made it.")] = Path("demo-data"),
    port: Annotated[int, typer.Option(help="The port to serve at; 0 for a free one.")] = 0,
) -> None:
    """Start an exchange on the embedded engines, load Port Credit, and tell a story of real calls that checks what it claims.

    Example: exchange demo --exit
    """
    from connectors.client import ProblemError
    from gateway.cli.demo.process import DemoFailed, Exchange, empty_folder
    from gateway.cli.demo.screen import ClaimFailed, Screen

    with servers_packages():
        import gateway.serve  # noqa: F401 - the exchange that it will start
        from gateway.cli.demo.story import tell

    screen, began = Screen(), time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a stop from outside ends the exchange too
    exchange: Exchange | None = None
    try:
        empty_folder(data_dir)
        exchange = Exchange(data_dir, port or None)
        with exchange:
            tell(exchange, screen, began, leave=leave)
    except KeyboardInterrupt:
        screen.say()
    except (ClaimFailed, DemoFailed, ProblemError) as failure:
        screen.say(f"\nThe demonstration failed: {failure}")
        if exchange is not None and not isinstance(failure, DemoFailed):
            screen.say(f"What the exchange said last:\n{exchange.log_tail()}")
        raise typer.Exit(1) from failure
