"""How a command reaches the exchange, and how it shows what came or what went wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from connectors import environment
from connectors.client import Client, ProblemError
from connectors.environment import from_environment

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one document, as the exchange gave it.")]
"""The option of every command that prints data."""


NOBODY = "Sign in by `exchange login`, or set EXCHANGE_CLIENT_ID and its secret or key."


@contextmanager
def connected(*, anonymous: bool = False, as_person: bool = False) -> Iterator[Client]:
    """A client of `EXCHANGE_URL`: that of `EXCHANGE_CLIENT_ID`, else the person who is signed in, who it is in any case with `as_person`.

    What the exchange or the network says against it goes to stderr, with exit code 1.
    """
    try:
        with _client(anonymous=anonymous, as_person=as_person) as client:
            yield client
    except ProblemError as problem:
        hint = NOBODY if problem.code == "token_missing" else problem.hint
        fail(str(problem), hint, *(f"{error.get('pointer')}: {error.get('detail')}" for error in problem.errors))
    except httpx2.TransportError as error:
        address = os.environ.get("EXCHANGE_ADDRESS") or os.environ.get("EXCHANGE_URL")
        fail(f"{address} does not answer: {error}", "Is EXCHANGE_URL right, and the exchange up?")


def _client(*, anonymous: bool, as_person: bool) -> Client:
    try:
        client = from_environment(anonymous=anonymous or as_person)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return client if anonymous or client.credentials is not None else _or_person(client)


def _or_person(anonymous: Client) -> Client:
    """Whoever is signed in here at that exchange; without one, nobody."""
    from gateway.cli.login import sign_in_again
    from gateway.cli.signed_in import SignedInClient, TokenFile

    if TokenFile(anonymous.issuer).read() is None:
        return anonymous
    return SignedInClient(anonymous.issuer, address=str(anonymous.http.base_url), renewal=sign_in_again(anonymous))


def read_private(path: Path) -> str:
    """The text of a file that only its owner may read. Raises `typer.BadParameter`."""
    try:
        return environment.read_private(path)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@contextmanager
def new_private(path: Path) -> Iterator[Callable[[str], object]]:
    """A new file that only its owner reads, made before a secret is asked for, and gone if none came."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        fail(f"{path} cannot be made: {error.strerror}.")
        return
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        try:
            yield file.write
        finally:
            if not file.tell():
                path.unlink()


def password(*, confirm: bool) -> str:
    """The password of a local account: of the file that `EXCHANGE_PASSWORD_FILE` names, else asked for. Never of the command's words."""
    if file := os.environ.get("EXCHANGE_PASSWORD_FILE"):
        return read_private(Path(file)).removesuffix("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=confirm, err=True))


def document(given: str) -> Any:
    """The JSON of an argument: itself, `@FILE`, or `-` for stdin. Raises `typer.BadParameter`."""
    try:
        text = sys.stdin.read() if given == "-" else Path(given[1:]).read_text("utf-8") if given.startswith("@") else given
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"That is not JSON that can be read: {error}") from error


def fail(*lines: str) -> None:
    """Say what went wrong and end with exit code 1."""
    for line in filter(None, lines):
        print(line, file=sys.stderr)
    raise typer.Exit(1)


def show(value: Any, *, as_json: bool) -> None:
    """Print a document: as JSON, or one member a line."""
    if as_json or not isinstance(value, Mapping):
        print(json.dumps(value, indent=None if as_json else 2, ensure_ascii=False))
        return
    width = max((len(name) for name in value), default=0)
    for name, member in value.items():
        print(f"{name:<{width}}  {_cell(member)}")


def show_list(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print documents: as one JSON array, or the named members in columns."""
    if as_json:
        print(json.dumps(list(rows), ensure_ascii=False))
        return
    cells = [[column.replace("_", " ") for column in columns], *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def everything(client: Client, path: str, **search: str | int | None) -> list[dict[str, Any]]:
    """All items of a list, page after page."""
    asked = {name: value for name, value in search.items() if value is not None}
    items: list[dict[str, Any]] = []
    while True:
        page = client.get(path, **asked)
        items += page["items"]
        if page["next"] is None:
            return items
        asked["after"] = page["next"]


def _cell(value: Any) -> str:
    if isinstance(value, Mapping) and "en" in value:
        return str(value["en"])
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
