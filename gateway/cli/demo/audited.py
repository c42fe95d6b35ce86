"""The end of the story: the auditor asks who received what, why, and under which policy revision."""

from __future__ import annotations

import base64
from typing import Any

from gateway.cli.demo.cast import Cast
from gateway.cli.demo.listener import Listener


def the_auditor_asks(cast: Cast, contracts: list[str], listeners: list[Listener]) -> None:
    """Lists the releases under each contract; raises `ClaimFailed` if one has no decision, or a receipt no entry."""
    screen = cast.screen
    screen.act("The auditor asks who received what, why, under which policy revision")
    items: list[dict[str, Any]] = []
    for contract in contracts:
        with screen.line("the releases under a contract"):
            items += _all(cast, contract=contract, kind="release")
    entries = [item["entry"] for item in items]
    names = {cast.consumer_id: "Lakeshore Mobility"}
    screen.note(f"{'who':<20} {'what':<22} {'why':<18} {'events':>6}  revision")
    for row in _table(entries):
        who, what, why, events, revision = row
        screen.note(f"{names.get(who, who):<20} {what:<22} {why:<18} {events:>6}  {revision}")
    screen.claim(
        entries and all(entry.get("decision") and entry.get("revision") for entry in entries),
        f"each of {len(entries)} releases names its decision and revision",
    )
    with screen.line("and the decisions that said no"):
        denied = _all(cast, kind="decision", purpose="advertising")
    screen.claim(denied, "the refused proposal for advertising is in the log too")
    known = {item["leaf_hash"] for item in items}
    held = {receipt_hash(receipt) for listener in listeners for receipt in listener.receipts}
    screen.claim(held and held <= known, f"the start-up's {len(held)} receipts are all in the log")


def receipt_hash(receipt: str) -> str:
    """The leaf hash of an `Audit-Entry` header, `sha-256=:<base64>:`, as the log shows it: base64url without padding."""
    digest = base64.b64decode(receipt.removeprefix("sha-256=:").removesuffix(":"))
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _all(cast: Cast, **search: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = cast.auditor.get("/v1/audit/entries", limit=500, **search, **after)
        items += page["items"]
        if page["next"] is None:
            return items
        after = {"after": page["next"]}


def _table(entries: list[dict[str, Any]]) -> list[tuple[str, str, str, int, str]]:
    totals: dict[tuple[str, str, str, str], int] = {}
    for entry in entries:
        key = (entry["organization"], entry["dataset"], entry["purpose"], entry["revision"])
        totals[key] = totals.get(key, 0) + int((entry.get("closed") or {"events": 0})["events"])
    return [(who, what, why, events, revision) for (who, what, why, revision), events in sorted(totals.items())]
