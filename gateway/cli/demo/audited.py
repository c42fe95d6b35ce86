"""The end of the story: the auditor asks who received what, why, and under which policy revision."""

from __future__ import annotations

from typing import Any

from gateway.cli.demo.cast import Cast
from gateway.cli.demo.listener import Listener


def the_auditor_asks(cast: Cast, contracts: list[str], listener: Listener) -> None:
    """Lists the releases under each contract; raises `ClaimFailed` if one has no decision, or a receipt no entry."""
    screen = cast.screen
    screen.act("The auditor asks who received what, why, under which policy revision")
    entries: list[dict[str, Any]] = []
    for contract in contracts:
        with screen.line("the releases under a contract"):
            entries += _all(cast, contract=contract, kind="release")
    names = {cast.consumer_id: "Lakeshore Mobility"}
    screen.note(f"{'who':<20} {'what':<22} {'why':<18} {'events':>6}  revision")
    for row in _table(entries):
        who, what, why, events, revision = row
        screen.note(f"{names.get(who, who):<20} {what:<22} {why:<18} {events:>6}  {revision}")
    screen.claim(
        entries and all(entry["decision"] and entry["revision"] for entry in entries),
        f"each of {len(entries)} releases names its decision and revision",
    )
    with screen.line("and the decisions that said no"):
        denied = _all(cast, kind="decision", purpose="advertising")
    screen.claim(denied, "the refused proposal for advertising is in the log too")
    known = {entry["leaf_hash"] for entry in entries}
    screen.claim(set(listener.receipts) <= known, f"the start-up's {len(listener.receipts)} receipts are all in the log")


def _all(cast: Cast, **search: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = cast.auditor.get("/v1/audit/entries", limit=500, **search, **after)
        entries += page["items"]
        if page["next"] is None:
            return entries
        after = {"after": page["next"]}


def _table(entries: list[dict[str, Any]]) -> list[tuple[str, str, str, int, str]]:
    totals: dict[tuple[str, str, str, str], int] = {}
    for entry in entries:
        key = (entry["organization"], entry["dataset"], entry["purpose"], entry["revision"])
        totals[key] = totals.get(key, 0) + int((entry.get("closed") or {"events": 0})["events"])
    return [(who, what, why, events, revision) for (who, what, why, revision), events in sorted(totals.items())]
