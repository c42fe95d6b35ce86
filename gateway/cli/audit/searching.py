"""The options by which the log is searched, and its pages, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from connectors.client import Client

Kind = Annotated[str | None, typer.Option(help="decision, release, publish, contract, consent, policy, client or key.")]
Actor = Annotated[str | None, typer.Option(help="A client, cli_...")]
Organization = Annotated[str | None, typer.Option(help="An organization, org_...")]
Dataset = Annotated[str | None, typer.Option(help="A dataset's slug.")]
Contract = Annotated[str | None, typer.Option(help="A contract, con_...")]
Purpose = Annotated[str | None, typer.Option(help="A purpose.")]
Decision = Annotated[str | None, typer.Option(help="A decision, dec_...")]
Since = Annotated[str | None, typer.Option(help="A time, RFC 3339.")]
Until = Annotated[str | None, typer.Option(help="A time, RFC 3339.")]


def found(client: Client, search: dict[str, str | None]) -> Iterator[dict[str, Any]]:
    """Every entry that fits, page after page, oldest first. Raises `ProblemError`."""
    asked: dict[str, str | int] = {"limit": 500} | {name: value for name, value in search.items() if value is not None}
    while True:
        page = client.get("/v1/audit/entries", **asked)
        yield from page["items"]
        if page["next"] is None:
            return
        asked["after"] = page["next"]
