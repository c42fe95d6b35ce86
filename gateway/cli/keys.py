"""`exchange keys`: the exchange's own keys, on the server's settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from gateway.cli.connection import AsJson, show_list
from gateway.cli.server import own_settings

noun = typer.Typer(name="keys", help="The exchange's own keys, on the server's own settings.", no_args_is_help=True)


class SigningUse(StrEnum):
    """What is rotated here. The key of policy bundles stands in OPA's configuration too."""

    token = "token"  # noqa: S105 - a use
    receipt = "receipt"


@noun.callback()
def keys() -> None:
    """The exchange's own keys, on the server's own settings."""


@noun.command()
def rotate_kek(as_json: AsJson = False) -> None:
    """Put a new key-encryption key first, and wrap every subject's key under it. Gateways go on meanwhile. Exit code 1 if any key is lost.

    With EXCHANGE_KEK or EXCHANGE_KEK_COMMAND, the first of theirs is the one that wraps, the private keys of the key file too.

    Example: exchange keys rotate-kek
    """
    with own_settings() as settings:
        from gateway.setup import rotate_kek as rotate

        rotated = rotate(settings)
        if as_json:
            print(json.dumps(asdict(rotated)))
        else:
            print(
                f"{rotated.key} wraps now; {rotated.rewrapped} keys were wrapped anew, and {rotated.lost} are opened by none that is there."
            )
        if rotated.lost:
            raise typer.Exit(1)


@noun.command()
def rotate(
    use: Annotated[SigningUse, typer.Option(help="What the key signs.")],
    at_once: Annotated[bool, typer.Option("--at-once", help="The key was stolen: accept nothing more that was signed before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a new signing key. It is published now, and signs when all who keep the public keys have read it; nothing is refused meanwhile.

    Example: exchange keys rotate --use token
    """
    with own_settings() as settings:
        from gateway.setup import rotate_signing_key

        kid = rotate_signing_key(settings, use.value, at_once=at_once)
        when = "signs now, and what was signed before is refused" if at_once else "is published, and signs when its time has come"
        print(json.dumps({"use": use.value, "key_id": kid}) if as_json else f"{kid} {when}.")


@noun.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the signing keys: which one signs, which are still to come, which only verify, and which are retired.

    Example: exchange keys list
    """
    with own_settings() as settings:
        from gateway.setup import list_signing_keys

        show_list(list_signing_keys(settings), ("use", "key_id", "state", "due_at", "kept"), as_json=as_json)


@noun.command()
def give_up_lost(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give up every subject's key that no key-encryption key opens, where that is lost for good. No gateway may be at work.

    What those keys have sealed is withheld from then on, and nobody waits for it any more; whoever it is about gets a new key.

    Example: exchange keys give-up-lost
    """
    if not yes:
        typer.confirm("Sealed fields whose key-encryption key is not to be had now will never be read again. Go on?", abort=True)
    with own_settings() as settings:
        from gateway.setup import give_up_lost as give_up

        lost = give_up(settings)
        print(json.dumps({"given_up": lost}) if as_json else f"{lost} keys are given up.")
