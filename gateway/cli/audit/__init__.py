"""`exchange audit`: who did what, who received what, why, under which policy revision."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.audit.replay import replay
from gateway.cli.audit.verifying import verify
from gateway.cli.connection import AsJson, connected, everything, show_list

noun = typer.Typer(name="audit", help="The audit log: who did what, who received what, and why.", no_args_is_help=True)
noun.command()(verify)
noun.command()(replay)
COLUMNS = ("at", "kind", "action", "organization", "dataset", "contract", "purpose", "decision", "revision")


@noun.command("list")
def list_(
    kind: Annotated[str | None, typer.Option(help="decision, release, publish, contract, consent, policy, client or key.")] = None,
    actor: Annotated[str | None, typer.Option(help="A client, cli_...")] = None,
    organization: Annotated[str | None, typer.Option(help="An organization, org_...")] = None,
    dataset: Annotated[str | None, typer.Option(help="A dataset's slug.")] = None,
    contract: Annotated[str | None, typer.Option(help="A contract, con_...")] = None,
    purpose: Annotated[str | None, typer.Option(help="A purpose.")] = None,
    since: Annotated[str | None, typer.Option(help="A time, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option(help="A time, RFC 3339.")] = None,
    as_json: AsJson = False,
) -> None:
    """List entries: an auditor all, an organization those in which it is actor, provider or consumer.

    Example: exchange audit list --kind release --dataset port-credit-footfall
    """
    search = {"kind": kind, "actor": actor, "organization": organization, "dataset": dataset}
    search |= {"contract": contract, "purpose": purpose, "since": since, "until": until}
    with connected() as client:
        items = everything(client, "/v1/audit/entries", limit=500, **search)
    show_list(items if as_json else [item["entry"] | item for item in items], COLUMNS, as_json=as_json)
