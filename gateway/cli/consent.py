"""`exchange consent`: what people agreed to, by the provider that they told."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gateway.cli.connection import AsJson, connected, show, show_list

noun = typer.Typer(
    name="consent",
    help="Consent records. A subject is read from stdin: identifiers do not belong in a shell's history.",
    no_args_is_help=True,
)
Id = Annotated[str, typer.Argument(help="The consent record, cns_...")]


@noun.command()
def give(
    dataset: Annotated[str, typer.Option(help="The dataset's slug.")],
    purpose: Annotated[list[str], typer.Option(help="What for; repeat for more.")],
    recipient: Annotated[list[str], typer.Option(help="Which organizations may receive, org_...; repeat for more.")],
    given_by: Annotated[str, typer.Option(help="subject, guardian or provider.")] = "subject",
    as_json: AsJson = False,
) -> None:
    """Record that the person named on stdin consents.

    Example: exchange consent give --dataset port-credit-footfall --purpose transit-planning --recipient org_01j... <visitor.txt
    """
    body: dict[str, Any] = {"dataset": dataset, "purposes": purpose, "recipients": recipient, "given_by": given_by, "subject": _subject()}
    with connected() as client:
        show(client.post("/v1/consents", body), as_json=as_json)


@noun.command("show")
def show_(consent: Id, as_json: AsJson = False) -> None:
    """Show a consent record; it does not say whose it is.

    Example: exchange consent show cns_01j...
    """
    with connected() as client:
        show(client.get(f"/v1/consents/{consent}"), as_json=as_json)


@noun.command()
def search(dataset: Annotated[str, typer.Option(help="The dataset's slug.")], as_json: AsJson = False) -> None:
    """List the records of the person named on stdin.

    Example: exchange consent search --dataset port-credit-footfall <visitor.txt
    """
    with connected() as client:
        found = client.post("/v1/consents/search", {"dataset": dataset, "subject": _subject()})
        show_list(found["items"], ("id", "state", "purposes", "recipients"), as_json=as_json)


@noun.command()
def withdraw(consent: Id, as_json: AsJson = False) -> None:
    """Withdraw: when this returns, no more events of that person are delivered under it.

    Example: exchange consent withdraw cns_01j...
    """
    with connected() as client:
        show(client.post(f"/v1/consents/{consent}/withdraw"), as_json=as_json)


def _subject() -> str:
    subject = sys.stdin.readline().strip()
    if not subject:
        raise typer.BadParameter("Give the subject's identifier on stdin.")
    return subject
