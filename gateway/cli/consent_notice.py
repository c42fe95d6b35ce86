"""`exchange consent notice`: what people are shown before they say yes or no."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from connectors.client import Client
from gateway.cli.connection import AsJson, connected, document, everything, show, show_list

noun = typer.Typer(name="notice", help="Notices of consent: versioned texts in English and French.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The notice, ntc_...")]
Text = Annotated[str, typer.Argument(help="The notice as JSON, @FILE, or - for stdin.")]


@noun.command()
def create(content: Text, as_json: AsJson = False) -> None:
    """Write a notice for a dataset of your organization.

    Example: exchange consent notice create @notice.json
    """
    with connected() as client:
        show(client.post("/v1/notices-of-consent", document(content)), as_json=as_json)


@noun.command()
def revise(notice: Id, content: Text, as_json: AsJson = False) -> None:
    """Write the next version. With other words it carries consent over; with other purposes or recipients it asks for it anew.

    Example: exchange consent notice revise ntc_01j... @notice.json
    """
    with connected() as client:
        show(client.post(f"/v1/notices-of-consent/{notice}/versions", document(content)), as_json=as_json)


@noun.command("show")
def show_(
    notice: Id,
    version: Annotated[int | None, typer.Option(help="Its number; the newest, if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what people are shown, word for word.

    Example: exchange consent notice show ntc_01j... --version 1
    """
    with connected(anonymous=True) as client:
        path = f"/v1/notices-of-consent/{notice}" + (f"/versions/{version}" if version else "")
        show(client.get(path), as_json=as_json)


@noun.command("list")
def list_(dataset: Annotated[str | None, typer.Option(help="Those of this dataset.")] = None, as_json: AsJson = False) -> None:
    """List notices, each at its newest version.

    Example: exchange consent notice list --dataset port-credit-footfall
    """
    with connected() as client:
        found = everything(client, "/v1/notices-of-consent", dataset=dataset)
        show_list(found, ("id", "version", "dataset", "title", "purposes", "recipients"), as_json=as_json)


def terms(client: Client, notice: str, purposes: list[str] | None, recipients: list[str] | None, language: str) -> dict[str, Any]:
    """What a record under this notice's newest version says; all purposes and recipients, unless some are named. Raises `ProblemError`."""
    newest = client.get(f"/v1/notices-of-consent/{notice}")
    return {
        "dataset": newest["dataset"],
        "notice": {"id": notice, "version": newest["version"], "language": language},
        "purposes": purposes or newest["purposes"],
        "recipients": recipients or newest["recipients"],
    }
