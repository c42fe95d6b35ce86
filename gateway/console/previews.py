"""What a preview found, in names and words: who gains, who loses, what changes, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.console.rule_forms import how_told, purpose_named
from gateway.console.sharing import name_of
from gateway.console.words import Say

ORDER = ("loses", "gains", "changes")
"""Whom it takes something from stands first."""
A_PAGE = 50
VALUES = ("period", "step", "keep_last")


def preview_told(result: Mapping[str, Any], state: Any, say: Say, after: int) -> dict[str, Any]:
    """{in_force, counts, contracts, following, recorded, replayed, decisions} of a preview that is done; contracts from that place on."""
    contracts = sorted(result["contracts"]["changed"], key=lambda each: ORDER.index(each["change"]))
    return {
        "in_force": result["contracts"]["in_force"],
        "counts": {name: sum(each["change"] == name for each in contracts) for name in ORDER},
        "contracts": [_contract(each, state, say) for each in contracts[after : after + A_PAGE]],
        "following": str(after + A_PAGE) if len(contracts) > after + A_PAGE else None,
        "recorded": result["decisions"].get("recorded", result["decisions"]["replayed"]),
        "replayed": result["decisions"]["replayed"],
        "decisions": [_decision(each, state, say) for each in result["decisions"]["changed"]],
    }


def _contract(changed: Mapping[str, Any], state: Any, say: Say) -> dict[str, Any]:
    dataset = state.catalog.get(changed["dataset"])
    fields = changed["fields"]
    return {
        "id": changed["contract"],
        "change": changed["change"],
        "provider": changed["provider"]["name"],
        "consumer": changed["consumer"]["name"],
        "title": say.of(dataset.title) if dataset else changed["dataset"],
        "purpose": purpose_named(changed["purpose"], say),
        "before": _side(changed["before"], say),
        "after": _side(changed["after"], say),
        "gained": fields["gained"],
        "lost": fields["lost"],
        "changed": [
            {"pointer": each["pointer"], "before": _way(each["before"], say), "after": _way(each["after"], say)}
            for each in fields["changed"]
        ],
        "events": changed["events"],
    }


def _decision(changed: Mapping[str, Any], state: Any, say: Say) -> dict[str, Any]:
    dataset = state.catalog.get(changed["dataset"]) if changed["dataset"] else None
    return {
        "who": name_of(state.identity, changed["organization"]) if changed["organization"] else say("preview.anybody"),
        "title": say.of(dataset.title) if dataset else changed["dataset"],
        "purpose": purpose_named(changed["purpose"], say) if changed["purpose"] else "",
        "change": changed["change"],
        "before": _side(changed["before"], say),
        "after": _side(changed["after"], say),
        "count": changed["decisions"],
    }


def _side(side: Mapping[str, Any], say: Say) -> dict[str, Any]:
    reasons: Sequence[Mapping[str, Any]] = side["reasons"]
    return {"allow": side["allow"], "reasons": list(dict.fromkeys(say.of(reason["title"]) for reason in reasons))}


def _way(obligation: Mapping[str, Any], say: Say) -> str:
    kind = "as_is" if obligation["kind"] == "keep" else obligation["kind"]
    value = next((str(obligation[name]) for name in VALUES if obligation.get(name) is not None), "")
    return how_told(f"{kind}:{value}" if value else kind, say)
