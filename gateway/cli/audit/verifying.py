"""`exchange audit verify`: `gateway/audit/verify.py`, the auditor's one file, on the exchange that commands talk to, or offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from connectors.client import Client, ProblemError
from gateway.audit.verify import Source, main
from gateway.cli.connection import connected

Key = Annotated[str, typer.Option(help="The log's verifier key, or a file in which it stands, as in a contract's text.")]
Policy = Annotated[Path | None, typer.Option(help="Which witnesses must have cosigned (C2SP tlog-policy).")]
State = Annotated[Path | None, typer.Option(help="A file of yours with what was seen last; the next run goes on from there.")]


class Exchange(Source):
    """The exchange, asked by the client of the command line: it renews its token by itself."""

    def __init__(self, client: Client) -> None:
        super().__init__(client.issuer)
        self._client = client

    def get(self, path: str) -> bytes:
        try:
            return self._client.request("GET", path, headers={"Accept": "*/*"}).content
        except (ProblemError, httpx2.TransportError) as error:
            raise OSError(str(error)) from error


def verify(
    key: Key,
    source: Annotated[Path | None, typer.Argument(help="A bundle, or a folder; without it, EXCHANGE_URL.")] = None,
    policy: Policy = None,
    state: State = None,
    seen: Annotated[list[Path] | None, typer.Option(help="A checkpoint that somebody else was shown.")] = None,
    receipts: Annotated[Path | None, typer.Option(help="Receipts: each older than a minute must be in the log.")] = None,
    retention: Annotated[float, typer.Option(help="Days after which entries may be gone.")] = 36500,
    public: Annotated[bool, typer.Option("--public", help="The log alone, without entries: for who may not see all.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="From the first leaf on, whatever the state says.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one document.")] = False,
) -> None:
    """Check signatures, every leaf, every entry against its commitment, and the rules. `gateway/audit/verify.py` runs alone, too.

    Example: exchange audit verify --key contract.md --state seen.json --receipts receipts.jsonl
    """

    def tell(found: str) -> None:
        print(json.dumps(json.loads(found)) if as_json else "\n".join(told(json.loads(found))))

    given = {"--key": key, "--policy": policy, "--state": state, "--receipts": receipts, "--retention": retention}
    words = [str(word) for name, value in given.items() if value is not None for word in (name, value)]
    words += [str(word) for file in seen or [] for word in ("--seen", file)]
    words += ["--public"] * public + ["--all"] * everything
    if source is not None:
        raise typer.Exit(main([str(source), *words], show=tell))
    with connected(anonymous=public) as client:
        raise typer.Exit(main([client.issuer, *words], Exchange(client), tell))


def told(found: dict[str, Any]) -> list[str]:
    """What was found, a line each; what does not hold comes last, with entry and leaf hash."""
    lines = [f"{name:<10} {value}" for name, value in found.items() if name != "broken"]
    for broken in found["broken"]:
        where = "" if broken.get("index") is None else f"entry {broken['index']} ({broken['leaf_hash']}) "
        lines.append(f"broken     {broken['rule']}: {where}{broken['text']}")
    return lines
