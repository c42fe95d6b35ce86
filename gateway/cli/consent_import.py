"""`exchange consent import`: consents by the thousand, from a file, with progress."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from connectors.consents import import_consents
from gateway.cli import consent_notice
from gateway.cli.connection import connected, fail


def import_(
    file: Annotated[Path, typer.Argument(help="NDJSON: a {subject, valid_from, valid_until, evidence} a line; all but subject optional.")],
    notice: Annotated[str, typer.Option(help="The notice that they were shown, ntc_...; its newest version.")],
    name: Annotated[str | None, typer.Option(help="The import's name; the file's, if left out. Under one name all is done once.")] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="What for; repeat for more. All of the notice's, if left out.")] = None,
    recipient: Annotated[list[str] | None, typer.Option(help="Who may receive; repeat for more. All, if left out.")] = None,
    language: Annotated[str, typer.Option(help="In which language they were shown it: en or fr.")] = "en",
    given_by: Annotated[str, typer.Option(help="subject, guardian or provider.")] = "subject",
    state: Annotated[str, typer.Option(help="given, or refused: under a notice with opt-out, an objection.")] = "given",
    codes: Annotated[
        Path | None, typer.Option(help="Write a withdrawal code for each line of the file here, readable by you alone.")
    ] = None,
) -> None:
    """Import what many people have said to one notice. Interrupted, type it again: what is done is not done twice.

    Example: exchange consent import survey.ndjson --notice ntc_01j... --codes codes.ndjson
    """
    if not file.is_file():
        raise typer.BadParameter(f"There is no file {file}.")
    lines = sum(1 for _ in _people(file))
    with connected() as client, ExitStack() as ending:
        told = ending.enter_context(_private(codes)) if codes else None
        terms = consent_notice.terms(client, notice, purpose, recipient, language) | {"given_by": given_by, "state": state}
        progress = ending.enter_context(typer.progressbar(length=lines, label=f"{lines} consents"))
        done = import_consents(client, name or file.name, terms | {"codes": codes is not None}, _people(file))
        for chunk in done:
            _write(told, chunk.items)
            progress.update(chunk.records)
    print(f"{lines} consents are imported")


def _people(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _person(line, number)


def _person(line: str, number: int) -> dict[str, Any]:
    try:
        person = json.loads(line)
    except ValueError:
        person = None
    if not isinstance(person, dict):
        fail(f"Line {number} is not a JSON object.")
    return dict(person)


def _private(path: Path) -> TextIO:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600), "a", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}.") from error


def _write(told: TextIO | None, items: list[dict[str, Any]] | None) -> None:
    if told is not None:
        told.writelines(json.dumps(item) + "\n" for item in items or ())
        told.flush()
