"""`exchange client`: API clients, for the operator; and a key for this one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from connectors.client import new_key, public_jwks
from connectors.registration import register as register_client
from gateway.cli.connection import AsJson, connected, everything, fail, new_private, read_private, show, show_list

noun = typer.Typer(name="client", help="API clients of the organizations.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The client, cli_...")]


@noun.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the clients that you may see.

    Example: exchange client list
    """
    with connected() as client:
        show_list(
            everything(client, "/v1/clients"), ("id", "organization", "name", "standing", "token_endpoint_auth_method"), as_json=as_json
        )


@noun.command("show")
def show_(client_id: Id, as_json: AsJson = False) -> None:
    """Show a client.

    Example: exchange client show cli_01j...
    """
    with connected() as client:
        show(client.get(f"/v1/clients/{client_id}"), as_json=as_json)


@noun.command()
def create(
    organization: Annotated[str, typer.Option(help="Whose client it is, org_...")],
    name: Annotated[str, typer.Option(help="What people call it.")],
    scope: Annotated[list[str], typer.Option(help="What it may do; repeat for more.")],
    role: Annotated[list[str] | None, typer.Option(help="operator, privacy_officer or auditor; repeat for more.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Its key (`exchange client key`); only the public half is sent. Without: a secret.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a client. A secret is shown this once and never again.

    Example: exchange client create --organization org_01j... --name Planner --scope events:read --key planner.jwk
    """
    body: dict[str, Any] = {"organization": organization, "name": name, "scopes": scope, "roles": role or []}
    if key is None:
        body["token_endpoint_auth_method"] = "client_secret_basic"  # noqa: S105 - a method's name
    else:
        body |= {"token_endpoint_auth_method": "private_key_jwt", "jwks": public_jwks(json.loads(read_private(key)))}
    with connected() as client:
        show(client.post("/v1/clients", body), as_json=as_json)


@noun.command()
def register(
    name: Annotated[str, typer.Option(help="What people call it.")],
    registration: Annotated[Path, typer.Option(help="What `exchange organization token` wrote.")] = Path("exchange.registration"),
    scope: Annotated[list[str] | None, typer.Option(help="What it may do; repeat for more. Without: all that the token allows.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Its key (`exchange client key`); only the public half is sent. Without: a secret.")
    ] = None,
    own_file: Annotated[Path, typer.Option(help="Where to write what manages it later (mode 0600).")] = Path("exchange.client"),
    as_json: AsJson = False,
) -> None:
    """Register a client with a registration token (RFC 7591); no other proof is needed.

    Example: exchange client register --name Planner --key planner.jwk
    """
    with new_private(own_file) as write, connected(anonymous=True) as client:
        jwk = json.loads(read_private(key)) if key is not None else None
        address = os.environ.get("EXCHANGE_ADDRESS") or None
        made = register_client(client.issuer, read_private(registration).strip(), name=name, scopes=scope or (), key=jwk, address=address)
        write(json.dumps(dict(made.metadata)))
    shown = {"client_id": made.client_id, "standing": made.standing, "scope": made.metadata["scope"], "own_file": str(own_file)}
    show(shown, as_json=as_json)
    proof = f"EXCHANGE_CLIENT_KEY_FILE={key}" if key is not None else "EXCHANGE_CLIENT_SECRET, of the member client_secret of that file"
    print(f"To call as this client: set EXCHANGE_CLIENT_ID={made.client_id} and {proof}.", file=sys.stderr)


@noun.command()
def approve(client_id: Id, as_json: AsJson = False) -> None:
    """Let in a client that registered itself.

    Example: exchange client approve cli_01j...
    """
    with connected() as client:
        show(client.post(f"/v1/clients/{client_id}/approve"), as_json=as_json)


@noun.command()
def rotate(
    client_id: Id,
    key: Annotated[Path | None, typer.Option(help="Its new key; only the public half is sent. Without: a new secret.")] = None,
    overlap: Annotated[str | None, typer.Option(help="How long the old one is good too, ISO 8601: P30D at most.")] = None,
    end_overlap: Annotated[bool, typer.Option("--end-overlap", help="Nothing new: end the overlap of the last rotation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give a client a new secret, shown this once, or a new key; the old one may be good for a while longer.

    Example: exchange client rotate cli_01j... --key new.jwk --overlap PT24H
    """
    body: dict[str, Any] = {"overlap": overlap} if overlap else {}
    if key is not None:
        body["jwks"] = public_jwks(json.loads(read_private(key)))
    with connected() as client:
        done = client.post(f"/v1/clients/{client_id}/revoke-old") if end_overlap else client.post(f"/v1/clients/{client_id}/rotate", body)
        show(done, as_json=as_json)


@noun.command()
def revoke(client_id: Id, as_json: AsJson = False) -> None:
    """Revoke a client: its tokens and streams end.

    Example: exchange client revoke cli_01j...
    """
    with connected() as client:
        show(client.post(f"/v1/clients/{client_id}/revoke"), as_json=as_json)


@noun.command()
def key(path: Annotated[Path, typer.Argument(help="Where to write the private JWK (mode 0600); never overwritten.")]) -> None:
    """Make a key for a client, on this machine; it never leaves it.

    Example: exchange client key planner.jwk
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        fail(f"{path} cannot be made: {error.strerror}.")
        return
    made = new_key()
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(made, file)
    print(f"{path}: key {made['kid']}")
