"""`exchange dataset`: the catalogue, publishing, and reading what is open."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.connection import AsJson, connected, document, everything, show, show_list

noun = typer.Typer(name="dataset", help="Datasets: the catalogue, publishing, and reading what is open.", no_args_is_help=True)
Slug = Annotated[str, typer.Argument(help="The dataset, for example miway-stops.")]
Cursor = Annotated[str | None, typer.Option(help="earliest, latest, a time, or a cursor.")]


@noun.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the datasets that you may see.

    Example: exchange dataset list
    """
    with connected() as client:
        show_list(everything(client, "/v1/datasets"), ("slug", "classification", "owner", "title"), as_json=as_json)


@noun.command("show")
def show_(slug: Slug, as_json: AsJson = False) -> None:
    """Show a dataset with its schema.

    Example: exchange dataset show miway-stops
    """
    with connected() as client:
        show(client.get(f"/v1/datasets/{slug}"), as_json=as_json)


@noun.command()
def create(body: Annotated[str, typer.Argument(help="The document: JSON, @FILE, or - for stdin.")], as_json: AsJson = False) -> None:
    """Make a dataset.

    Example: exchange dataset create @dataset.json
    """
    given = document(body)
    with connected() as client:
        show(client.post("/v1/datasets", given), as_json=as_json)


@noun.command()
def publish(
    slug: Slug,
    file: Annotated[Path, typer.Argument(help="CloudEvents, one JSON object a line; - for stdin.")],
) -> None:
    """Publish CloudEvents from a file of JSON lines, in batches.

    Example: exchange dataset publish miway-stops stops.ndjson
    """
    with connected() as client:
        acknowledged = client.publish(slug, _lines(file))
    print(f"{sum(batch.accepted for batch in acknowledged)} events in {len(acknowledged)} batches")
    for batch in acknowledged:
        print(batch.audit_entry)


@noun.command()
def read(slug: Slug, cursor: Cursor = None) -> None:
    """Print the events of an open dataset, one a line, to its present end.

    Example: exchange dataset read business-directory
    """
    with connected() as client:
        for page in client.pull(slug, cursor=cursor):
            for event in page.events:
                print(json.dumps(event, ensure_ascii=False))


def _lines(file: Path) -> Iterator[Any]:
    lines = sys.stdin if str(file) == "-" else file.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise typer.BadParameter(f"Line {number} is not JSON: {error}") from error
