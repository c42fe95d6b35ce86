"""`exchange audit export`: the log, or what a search finds in it, as CSV, JSON Lines, or a bundle that verifies offline."""

from __future__ import annotations

import base64
import csv
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gateway.audit import verify
from gateway.audit.merkle import Node, inclusion_proof
from gateway.audit.tiles import ENTRIES, LEVELS, WIDTH, Tiles, tile_path
from gateway.cli.audit.searching import Actor, Contract, Dataset, Decision, Kind, Organization, Purpose, Since, Until, found
from gateway.cli.audit.verifying import Exchange
from gateway.cli.connection import connected, fail

Item = dict[str, Any]
NAMES = ("at", "kind", "action", "actor", "organization", "dataset", "contract", "purpose", "decision", "revision", "change")
README = """What this is
A part of the access log of {origin}, as of the checkpoint of {size} entries: {what}.

    checkpoint      the log's signed state; tile/ (in a bundle of the whole log): its leaves and hashes (C2SP tlog-tiles)
    entries.jsonl   the entries, each with the salt that opens its commitment, and (in a part of the log) its proof
    verify.py       checks all of it, offline, with Python 3.11 and the package `cryptography`
    key             the log's verifier key

How to check it
    python verify.py BUNDLE.zip --key KEY
Take the key from your contract or consent receipt, and verify.py from who you trust: those in here come from whoever made this bundle.
"""


class Fetched(Tiles):
    """Tiles of the exchange, each fetched when it is asked for."""

    def __init__(self, source: verify.Source) -> None:
        super().__init__(Path("nowhere"))
        self._source = source

    def read(self, path: str) -> bytes | None:
        try:
            return self._source.read(path)
        except verify.Broken:
            return None


def export(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    form: Annotated[Literal["csv", "jsonl", "bundle"], typer.Option("--format", help="csv, jsonl or bundle.")] = "jsonl",
    key: Annotated[str | None, typer.Option(help="For a bundle: the log's verifier key, or a file in which it stands.")] = None,
    kind: Kind = None,
    actor: Actor = None,
    organization: Organization = None,
    dataset: Dataset = None,
    contract: Contract = None,
    purpose: Purpose = None,
    decision: Decision = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Write what a search finds to a file; without a search everything, and a bundle of everything has the whole log in it.

    Example: exchange audit export --format bundle --key contract.md --out august.zip --since 2026-08-01T00:00:00Z
    """
    search = {"kind": kind, "actor": actor, "organization": organization, "dataset": dataset, "decision": decision}
    search |= {"contract": contract, "purpose": purpose, "since": since, "until": until}
    if form == "bundle" and key is None:
        raise typer.BadParameter("A bundle needs --key: it is checked while it is made.")
    partial = out.with_name(f"{out.name}.partial")
    with connected() as client:
        items = _with_progress(found(client, search))
        try:
            if form == "bundle":
                _write_bundle(partial, Exchange(client), str(key), items, whole=not any(search.values()))
            else:
                (_write_csv if form == "csv" else _write_lines)(partial, items)
            partial.replace(out)
        except verify.Broken as broken:
            fail(f"{broken.args[0]}: {broken.args[1]}")
        finally:
            partial.unlink(missing_ok=True)


def _write_csv(path: Path, items: Iterator[Item]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("index", *NAMES, "events", "bytes", "leaf_hash"))
        for item in items:
            entry, closed = item["entry"], item["entry"].get("closed", {})
            row = [entry.get(name) for name in NAMES]
            writer.writerow((item["index"], *row, closed.get("events"), closed.get("bytes"), item["leaf_hash"]))


def _write_lines(path: Path, items: Iterator[Item]) -> None:
    with path.open("wb") as file:
        file.writelines(_line(item, proof=item.get("proof")) for item in items)


def _write_bundle(path: Path, source: Exchange, key: str, items: Iterator[Item], *, whole: bool) -> None:
    """Raises `verify.Broken` if the checkpoint is not signed by the key, or a part of the log is not to be had."""
    vkey = verify.key_in(key)
    note = source.read("checkpoint")
    size, _, _ = verify.checkpoint(note.decode(), vkey)
    what = "all of it" if whole else "those entries that a search has found, each with its proof"
    tiles = Fetched(source)
    nodes = tiles.nodes(size)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("README.txt", README.format(origin=vkey.partition("+")[0], size=size, what=what))
        bundle.writestr("key", vkey + "\n")
        bundle.writestr("checkpoint", note)
        bundle.write(verify.__file__, "verify.py")
        with bundle.open("entries.jsonl", "w", force_zip64=True) as lines:
            # What came into the log after the checkpoint is not proved by it.
            for item in (item for item in items if item["index"] is not None and item["index"] < size):
                lines.write(_line(item, proof=None if whole else _proof(nodes, size, item["index"])))
        for level, number, width in _tiles_of(size) if whole else ():
            found_tile = tiles.read_tile(level, number, width)
            if found_tile is None:
                raise verify.Broken("missing", f"{tile_path(level, number, width)} cannot be read")
            bundle.writestr(tile_path(level, number, width), found_tile)


def _proof(nodes: Node, size: int, index: int) -> list[str]:
    return [base64.b64encode(step).decode("ascii") for step in inclusion_proof(index, size, nodes)]


def _tiles_of(size: int) -> Iterator[tuple[int | str, int, int]]:
    """Level, number and width of each tile of a tree (tlog-tiles)."""
    level, count = 0, size
    while count:
        for number in range(-(-count // WIDTH)):
            width = min(WIDTH, count - number * WIDTH)
            yield from [(ENTRIES, number, width)] * (level == 0)
            yield level, number, width
        level, count = level + 1, count >> LEVELS


def _line(item: Item, *, proof: list[str] | None) -> bytes:
    """As `verify.py` reads it: the entry last, in the canonical form that its commitment is over."""
    told = {name: item[name] for name in ("index", "salt", "opening") if name in item} | ({"proof": proof} if proof is not None else {})
    return f'{json.dumps(told)[:-1]},"entry":{verify.canonical(item["entry"])}}}\n'.encode()


def _with_progress(items: Iterator[Item]) -> Iterator[Item]:
    for count, item in enumerate(items, 1):
        yield item
        if count % 5_000 == 0:
            print(f"{count:,} entries", file=sys.stderr)
