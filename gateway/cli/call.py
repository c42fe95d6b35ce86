"""`exchange call` and `exchange me`: any call of the API, and who is calling."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from gateway.cli.connection import AsJson, connected, document, show

Method = Annotated[str, typer.Argument(help="GET, POST, PATCH, PUT or DELETE.")]


def call(
    method: Method,
    path: Annotated[str, typer.Argument(help="The path, for example /v1/datasets.")],
    data: Annotated[str | None, typer.Option(help="A JSON body: itself, @FILE, or - for stdin.")] = None,
    contract: Annotated[str | None, typer.Option(help="Ask for a token that names this contract.")] = None,
    if_match: Annotated[str | None, typer.Option(help="The ETag that a read gave.")] = None,
) -> None:
    """Make one call with the client's token, and print what comes.

    Example: exchange call POST /v1/decisions --data '{"dataset": "miway-stops", "purpose": "research"}'
    """
    body = document(data) if data is not None else None
    with connected() as client:
        headers = {"If-Match": if_match} if if_match else {}
        response = client.request(method.upper(), path, body=body, headers=headers, contract=contract)
        if "json" in response.headers.get("Content-Type", ""):
            print(json.dumps(response.json(), indent=2, ensure_ascii=False))
        else:
            sys.stdout.write(response.text)


def me(as_json: AsJson = False) -> None:
    """Show who this client is: organization, roles, scopes, and the contracts of its token.

    Example: exchange me
    """
    with connected() as client:
        show(client.get("/v1/me"), as_json=as_json)
