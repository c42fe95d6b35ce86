"""`exchange restore`: after the database went back, on the server's own settings."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.connection import AsJson
from gateway.cli.server import own_settings

if TYPE_CHECKING:
    from gateway.restore import Restored

BY_HAND = 3
TELL_EVERY_S = 1.0


def restore(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Apply again what was forbidden and a restored database has lost: what was withdrawn, ended, revoked and erased stays so.

    Stop all gateways first. Running it again does nothing twice. Exit code 3 if something is left that must be done by hand.

    Example: exchange restore --dry-run
    """
    with own_settings() as settings:
        from gateway.restore import restore as apply_again

        done = apply_again(settings, dry_run=dry_run, progress=_Told())
        if as_json:
            print(json.dumps(asdict(done)))
        else:
            _show(done)
        if done.by_hand:
            raise typer.Exit(BY_HAND)


class _Told:
    """Progress, on standard error, once a second at most."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        if done == of or time.monotonic() - self._told_at > TELL_EVERY_S:
            self._told_at = time.monotonic()
            print(f"{done} of {of}", file=sys.stderr)


def _show(done: Restored) -> None:
    if done.missing:
        _show_reapplied(done)
    else:
        print(f"The database has all {done.remembered} changes that are remembered.")
    if done.adopted:
        print(f"{done.adopted} entries of the audit log were published and are lost; their leaves stay in the log.")
    elif not done.missing:
        print("There is nothing to restore.")
    if done.by_hand:
        print("\nBy hand:")
    for sentence in done.by_hand:
        print(f"- {sentence}")


def _show_reapplied(done: Restored) -> None:
    would = "would be " if done.dry_run else ""
    for thing in done.reapplied:
        print(f"{thing.kind:<22} {thing.object}  (change {thing.was}{'' if done.dry_run else f', again as {thing.change}'})")
    print(
        f"\nThe database lacks {done.missing} changes that are remembered; {len(done.reapplied)} things {would}brought to where they were."
    )
    if not done.dry_run:
        print(f"The last change is {done.change}. Gateways may be started.")
