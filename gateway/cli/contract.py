"""`exchange contract`: propose, read, sign, suspend, resume, end, and receive events under one."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from connectors.cloudevent import rfc3339
from gateway.cli.connection import AsJson, connected, everything, fail, show, show_list

noun = typer.Typer(name="contract", help="Contracts: propose, sign, end, and receive events under one.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The contract, con_...")]
Reason = Annotated[str | None, typer.Option(help="Why, for both sides to read.")]


@noun.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the contracts of your organization.

    Example: exchange contract list
    """
    with connected() as client:
        show_list(everything(client, "/v1/contracts"), ("id", "state", "dataset", "purpose", "provider", "consumer"), as_json=as_json)


@noun.command("show")
def show_(contract: Id, as_json: AsJson = False) -> None:
    """Show a contract.

    Example: exchange contract show con_01j...
    """
    with connected() as client:
        show(client.get(f"/v1/contracts/{contract}"), as_json=as_json)


@noun.command()
def propose(
    dataset: Annotated[str, typer.Option(help="The dataset's slug.")],
    purpose: Annotated[str, typer.Option(help="One purpose; `exchange call GET /v1/purposes` lists them.")],
    days: Annotated[int, typer.Option(min=1, help="How long it is valid, from now on.")] = 180,
    history: Annotated[str, typer.Option(help="How far back it may read: none, a duration such as P30D, or all.")] = "none",
    offer: Annotated[str | None, typer.Option(help="A standing offer to take up.")] = None,
    as_json: AsJson = False,
) -> None:
    """Propose a contract; policy is asked before anybody else.

    Example: exchange contract propose --dataset transit-feed --purpose transit-planning --history all
    """
    now = datetime.now(UTC)
    body: dict[str, Any] = {"dataset": dataset, "purpose": purpose, "history": history}
    body |= {"valid_from": rfc3339(now), "valid_until": rfc3339(now + timedelta(days=days))} | ({"offer": offer} if offer else {})
    with connected() as client:
        show(client.post("/v1/contracts", body), as_json=as_json)


@noun.command()
def text(contract: Id) -> None:
    """Print the text, byte for byte what is signed.

    Example: exchange contract text con_01j...
    """
    with connected() as client:
        sys.stdout.write(client.request("GET", f"/v1/contracts/{contract}/text", headers={"Accept": "*/*"}).text)


@noun.command()
def sign(contract: Id, as_json: AsJson = False) -> None:
    """Read the text and sign its digest with this client's key (EXCHANGE_CLIENT_KEY_FILE).

    Example: exchange contract sign con_01j...
    """
    with connected() as client:
        try:
            signed = client.sign(contract)
        except ValueError as error:
            fail(str(error))
            return
        show(signed, as_json=as_json)


@noun.command()
def usage(contract: Id, as_json: AsJson = False) -> None:
    """What was delivered, by day: events and their bytes.

    Example: exchange contract usage con_01j...
    """
    with connected() as client:
        found = client.get(f"/v1/contracts/{contract}/usage")
    if as_json:
        show(found, as_json=True)
        return
    show_list(found["days"], ("day", "events", "bytes"), as_json=False)


@noun.command()
def suspend(contract: Id, reason: Reason = None, as_json: AsJson = False) -> None:
    """Suspend a contract: its streams end.

    Example: exchange contract suspend con_01j... --reason "Quarterly review."
    """
    _move(contract, "suspend", reason, as_json=as_json)


@noun.command()
def resume(contract: Id, reason: Reason = None, as_json: AsJson = False) -> None:
    """Let a suspended contract go on.

    Example: exchange contract resume con_01j...
    """
    _move(contract, "resume", reason, as_json=as_json)


@noun.command()
def end(contract: Id, reason: Reason = None, as_json: AsJson = False) -> None:
    """End a contract, for good.

    Example: exchange contract end con_01j... --reason "The project is over."
    """
    _move(contract, "end", reason, as_json=as_json)


@noun.command()
def read(
    contract: Id,
    cursor: Annotated[str | None, typer.Option(help="earliest, latest, a time, or a cursor.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, as a stream, until the contract ends or Ctrl-C.")] = False,
) -> None:
    """Print the events that this contract receives, one a line. With --follow the reason of the end goes to stderr.

    Example: exchange contract read con_01j... --follow
    """
    with connected() as client:
        if not follow:
            for page in client.pull(contract, cursor=cursor):
                for event in page.events:
                    print(json.dumps(event, ensure_ascii=False))
            return
        for message in client.stream(contract, cursor=cursor):
            if message.kind == "event":
                print(json.dumps(message.data, ensure_ascii=False), flush=True)
            elif message.kind == "end":
                fail(f"{message.data.get('code')}: {message.data.get('detail')}")


def _move(contract: str, verb: str, reason: str | None, *, as_json: bool) -> None:
    with connected() as client:
        show(client.post(f"/v1/contracts/{contract}/{verb}", {"reason": reason} if reason else {}), as_json=as_json)
