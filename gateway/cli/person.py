"""`exchange person`: who there is, which roles they have, and local accounts."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gateway.cli.connection import AsJson, connected, everything, password, show, show_list
from gateway.cli.server import own_settings, servers_packages

noun = typer.Typer(name="person", help="Persons, their roles, and local accounts.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The person, per_...")]
COLUMNS = ("id", "name", "organization", "roles", "claimed_roles", "standing", "issuer")


@noun.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the persons that you may see.

    Example: exchange person list
    """
    with connected() as client:
        show_list(everything(client, "/v1/persons"), COLUMNS, as_json=as_json)


@noun.command("show")
def show_(person_id: Id, as_json: AsJson = False) -> None:
    """Show a person.

    Example: exchange person show per_01j...
    """
    with connected() as client:
        show(client.get(f"/v1/persons/{person_id}"), as_json=as_json)


@noun.command()
def roles(
    person_id: Id,
    role: Annotated[list[str] | None, typer.Option(help="A role; repeat for more. Without: none from now on.")] = None,
    organization: Annotated[str | None, typer.Option(help="For which organization, org_...")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which roles a person has here, all of them. `exchange roles` lists what there is.

    Example: exchange person roles per_01j... --role partner_admin --organization org_01j...
    """
    body: dict[str, Any] = {"roles": role or []} | ({"organization": organization} if organization else {})
    with connected() as client:
        show(client.post(f"/v1/persons/{person_id}/roles", body), as_json=as_json)


@noun.command()
def suspend(person_id: Id, as_json: AsJson = False) -> None:
    """Suspend a person: their tokens and sessions end.

    Example: exchange person suspend per_01j...
    """
    with connected() as client:
        show(client.post(f"/v1/persons/{person_id}/suspend"), as_json=as_json)


@noun.command()
def restore(person_id: Id, as_json: AsJson = False) -> None:
    """Let a suspended person sign in again.

    Example: exchange person restore per_01j...
    """
    with connected() as client:
        show(client.post(f"/v1/persons/{person_id}/restore"), as_json=as_json)


@noun.command()
def create(
    username: Annotated[str, typer.Argument(help="The name of the local account: a-z, 0-9 and . _ @ -")],
    name: Annotated[str | None, typer.Option(help="What people call them.")] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="A role, for the organization that operates the exchange; repeat for more.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a local account, on the server's own settings: for an installation without an OpenID provider. Its password is
    asked for, or is in the file that EXCHANGE_PASSWORD_FILE names. Never overwrites one.

    Example: exchange person create ada --role operator
    """
    chosen = password(confirm=True)
    with own_settings() as settings:
        with servers_packages():
            from gateway.setup import make_local_account

        person_id = make_local_account(settings, username, chosen, name, role or [])
        print(json.dumps({"id": person_id}) if as_json else f"{username} is {person_id}; sign in by `exchange login --local {username}`.")
