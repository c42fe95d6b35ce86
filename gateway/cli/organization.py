"""`exchange organization`: ask for one, approve those that others asked for, and make tokens that programs register with."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from connectors.client import Client, ProblemError
from gateway.cli.connection import AsJson, connected, everything, new_private, read_private, show, show_list

noun = typer.Typer(name="organization", help="Departments and partners, and how they come in.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The organization, org_...")]
ClaimFile = Annotated[Path, typer.Option(help="Where the claim is (mode 0600): it gets the first registration token.")]
POLL_S = 5.0


@noun.command("list")
def list_(
    asked: Annotated[bool, typer.Option("--asked", help="Those that somebody asked for and nobody has approved.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the organizations, or those that wait for your approval.

    Example: exchange organization list --asked
    """
    with connected() as client:
        columns = ("id", "name", "contact", "domain", "intent") if asked else ("id", "name", "kind", "standing", "contact")
        show_list(everything(client, "/v1/organization-requests" if asked else "/v1/organizations"), columns, as_json=as_json)


@noun.command()
def ask(
    name: Annotated[str, typer.Option(help="What it is called.")],
    contact: Annotated[str, typer.Option(help="A mailbox of the organization, which others will see.")],
    intent: Annotated[str, typer.Option(help="What it wants data for.")],
    domain: Annotated[str, typer.Option(help="Its domain.")],
    claim_file: ClaimFile = Path("exchange.claim"),
    as_json: AsJson = False,
) -> None:
    """Ask for an organization; no token is needed. The claim is written to a file, and is worth a token once an operator has approved.

    Example: exchange organization ask --name Acme --contact data@acme.example --intent 'A route planner' --domain acme.example
    """
    with new_private(claim_file) as write, connected(anonymous=True) as client:
        asked = client.post("/v1/organizations", {"name": name, "contact": contact, "intent": intent, "domain": domain})
        write(json.dumps({"organization": asked["id"], "claim": asked.pop("claim")}))
    show(asked | {"claim_file": str(claim_file)}, as_json=as_json)


@noun.command()
def approve(organization: Id, as_json: AsJson = False) -> None:
    """Approve an organization: its clients get tokens, and who asked for it a registration token.

    Example: exchange organization approve org_01j...
    """
    with connected() as client:
        show(client.post(f"/v1/organizations/{organization}/approve"), as_json=as_json)


@noun.command()
def refuse(organization: Id) -> None:
    """Refuse an organization that somebody asked for: it is forgotten.

    Example: exchange organization refuse org_01j...
    """
    with connected() as client:
        client.post(f"/v1/organizations/{organization}/refuse")


@noun.command()
def token(
    scope: Annotated[list[str], typer.Option(help="What its clients may do; repeat for more.")],
    organization: Annotated[str | None, typer.Option(help="Whose clients, org_...; with a claim it is known.")] = None,
    uses: Annotated[int, typer.Option(help="How many clients.")] = 1,
    expires_in: Annotated[str, typer.Option(help="For how long, ISO 8601.")] = "P1D",
    approved: Annotated[bool, typer.Option("--approved", help="They are active at once.")] = False,
    claim_file: Annotated[Path | None, typer.Option(help="What `exchange organization ask` wrote; nothing else is needed.")] = None,
    wait: Annotated[int, typer.Option(help="Seconds to wait for the operator's approval.")] = 0,
    registration: Annotated[Path, typer.Option(help="Where to write the token (mode 0600).")] = Path("exchange.registration"),
    as_json: AsJson = False,
) -> None:
    """Make a registration token, with which programs register by themselves. It is written to a file and never shown again.

    Example: exchange organization token --claim-file exchange.claim --wait 600 --scope events:read --approved
    """
    claim = json.loads(read_private(claim_file)) if claim_file is not None else {}
    owner = organization or claim.get("organization")
    if owner is None:
        raise typer.BadParameter("Name the organization, or give the claim's file.")
    body: dict[str, Any] = {"scopes": scope, "uses": uses, "expires_in": expires_in, "approved": approved}
    body |= {"claim": claim["claim"]} if claim else {}
    with new_private(registration) as write, connected(anonymous=bool(claim)) as client:
        made = _made(client, owner, body, time.monotonic() + wait)
        write(made.pop("token"))
    show(made | {"registration_file": str(registration)}, as_json=as_json)


def _made(client: Client, organization: str, body: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Ask until the organization is approved, or the time is over."""
    told = False
    while True:
        try:
            made: dict[str, Any] = client.post(f"/v1/organizations/{organization}/registration-tokens", body)
        except ProblemError as problem:
            if problem.members.get("state") != "pending" or time.monotonic() >= deadline:
                raise
            if not told:
                left = deadline - time.monotonic()
                print(f"Waiting {left:.0f} s at most for the operator to approve {organization}.", file=sys.stderr, flush=True)
                told = True
            time.sleep(min(POLL_S, max(0.1, deadline - time.monotonic())))
        else:
            return made
