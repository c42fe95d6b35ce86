"""`exchange notices`: what your organization is told, and the acknowledgement of what asks for one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from connectors.client import Client
from gateway.cli.connection import AsJson, connected, show

WAIT_S = 30
"""The longest that the exchange lets a call wait."""
noun = typer.Typer(name="notices", help="What your organization is told: contracts, schema versions, requests to erase.")


@noun.callback(invoke_without_command=True)
def notices(
    context: typer.Context,
    cursor: Annotated[str, typer.Option(help="earliest, latest, or a cursor.")] = "earliest",
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and print each as it comes, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what your organization is told, oldest first; --json prints one CloudEvent a line.

    Example: exchange notices --follow
    """
    if context.invoked_subcommand is not None:
        return
    with connected() as client:
        for notice in _read(client, cursor, follow=follow):
            print(json.dumps(notice, ensure_ascii=False) if as_json else _line(notice), flush=True)


@noun.command()
def acknowledge(notice: Annotated[str, typer.Argument(help="The notice, ntf_...")], as_json: AsJson = False) -> None:
    """Say that what a notice asks for is done.

    Example: exchange notices acknowledge ntf_01j...
    """
    with connected() as client:
        show(client.post(f"/v1/notices/{notice}/acknowledge"), as_json=as_json)


def _read(client: Client, cursor: str, *, follow: bool) -> Iterator[Mapping[str, Any]]:
    while True:
        page = client.request("GET", "/v1/notices", params={"cursor": cursor} | ({"wait": WAIT_S} if follow else {}))
        cursor = page.headers["Next-Cursor"]
        found = page.json()
        yield from found
        if not found and not follow:
            return


def _line(notice: Mapping[str, Any]) -> str:
    told = " ".join(f"{name}={value}" for name, value in notice["data"].items())
    due = notice.get("mustacknowledgeby") if "acknowledgedat" not in notice else None
    return "  ".join([notice["time"], notice["id"], notice["type"], told, *([f"acknowledge by {due}"] if due else [])])
