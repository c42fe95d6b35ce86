"""`exchange call` and `exchange me`: any call of the API, and who is calling."""

from __future__ import annotations

import json
import shlex
import sys
import time
from typing import Annotated

import httpx2
import typer

from connectors.client import Client
from gateway.cli.connection import AsJson, connected, document, show

Method = Annotated[str, typer.Argument(help="GET, POST, PATCH, PUT or DELETE.")]
STREAMS = {"text/event-stream", "application/x-ndjson"}
PROVING = ("authorization", "dpop")
SHOWN = ("authorization", "dpop", "accept", "content-type", "if-match")


def call(
    method: Method,
    path: Annotated[str, typer.Argument(help="The path, for example /v1/datasets.")],
    data: Annotated[str | None, typer.Option(help="A JSON body: itself, @FILE, or - for stdin.")] = None,
    contract: Annotated[str | None, typer.Option(help="Ask for a token that names this contract.")] = None,
    if_match: Annotated[str | None, typer.Option(help="The ETag that a read gave.")] = None,
    accept: Annotated[str | None, typer.Option(help="The form of the answer; text/event-stream is shown as it comes.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="With a stream: end after so long.")] = None,
    shows: Annotated[bool, typer.Option("--show", help="Print the request as a line of curl, and do not send it.")] = False,
    in_clear: Annotated[bool, typer.Option("--in-clear", help="With --show: token and proof too; the proof is good once.")] = False,
) -> None:
    """Make one call as curl would, with the client's token and its proof (DPoP), and print what comes.

    Example: exchange call POST /v1/decisions --data '{"dataset": "miway-stops", "purpose": "research"}'
    """
    body = document(data) if data is not None else None
    named = {"If-Match": if_match, "Accept": accept}
    with connected() as client:
        request = client.build(method.upper(), path, body=body, headers={name: value for name, value in named.items() if value})
        if shows:
            print(_curl(client, request, contract, in_clear=in_clear))
        elif accept in STREAMS:
            _copy(client, request, contract, seconds)
        else:
            _print(client, request, contract)


def me(as_json: AsJson = False) -> None:
    """Show who this client is: organization, roles, scopes, and the contracts of its token.

    Example: exchange me
    """
    with connected() as client:
        show(client.get("/v1/me"), as_json=as_json)


def _print(client: Client, request: httpx2.Request, contract: str | None) -> None:
    with client.open(request, contract=contract) as response:
        response.read()
        if "json" in response.headers.get("Content-Type", ""):
            print(json.dumps(response.json(), indent=2, ensure_ascii=False))
        else:
            sys.stdout.write(response.text)


def _copy(client: Client, request: httpx2.Request, contract: str | None, seconds: float | None) -> None:
    """Lines as they come, until the stream ends or the time is over."""
    ends = time.monotonic() + seconds if seconds is not None else float("inf")
    request.extensions["timeout"] = httpx2.Timeout(10.0, read=seconds).as_dict()
    try:
        with client.open(request, contract=contract) as response:
            for line in response.iter_lines():
                print(line, flush=True)
                if time.monotonic() >= ends:
                    return
    except httpx2.ReadTimeout:
        if seconds is None:
            raise


def _curl(client: Client, request: httpx2.Request, contract: str | None, *, in_clear: bool) -> str:
    headers = dict(request.headers)
    if client.credentials is not None:
        proving = client.credentials.headers(client.http, request.method, request.url, contract)
        headers |= {name.lower(): value for name, value in proving.items()}
    if not in_clear:
        headers |= {
            name: f"{headers[name].partition(' ')[0] if name == 'authorization' else ''} ***".strip() for name in PROVING if name in headers
        }
    words = ["curl", *(["-X", request.method] if request.method != "GET" else [])]
    for name in SHOWN:
        words += ["-H", f"{name.title()}: {headers[name]}"] if name in headers else []
    words += ["-d", request.content.decode("utf-8")] if request.content else []
    return shlex.join([*words, str(request.url)])
