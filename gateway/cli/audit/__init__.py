"""`exchange audit`: who did what, who received what, why, under which policy revision, and how to check that without believing anybody."""

from __future__ import annotations

import typer

from gateway.cli.audit.export import export
from gateway.cli.audit.replay import replay
from gateway.cli.audit.searching import Actor, Contract, Dataset, Decision, Kind, Organization, Purpose, Since, Until, found
from gateway.cli.audit.verifying import verify
from gateway.cli.audit.watch import watch
from gateway.cli.connection import AsJson, connected, show_list

noun = typer.Typer(name="audit", help="The audit log: who did what, who received what, and why.", no_args_is_help=True)
COLUMNS = ("index", "at", "kind", "action", "organization", "dataset", "contract", "purpose", "decision", "revision")


@noun.command("list")
def list_(
    kind: Kind = None,
    actor: Actor = None,
    organization: Organization = None,
    dataset: Dataset = None,
    contract: Contract = None,
    purpose: Purpose = None,
    decision: Decision = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """List entries: an auditor all, an organization those in which it is actor, provider or consumer.

    Example: exchange audit list --kind release --dataset port-credit-footfall
    """
    search = {"kind": kind, "actor": actor, "organization": organization, "dataset": dataset, "decision": decision}
    search |= {"contract": contract, "purpose": purpose, "since": since, "until": until}
    with connected() as client:
        items = list(found(client, search))
    show_list(items if as_json else [item["entry"] | item for item in items], COLUMNS, as_json=as_json)


noun.command()(export)
noun.command()(verify)
noun.command()(watch)
noun.command()(replay)
