"""Why: which facts mattered to an answer, and the smallest changes that would make it yes, found by asking the engine.

It asks a process of its own, by the revision that decided, with one fact changed, then two, then three. Nothing here knows what a rule
says: a change is told only if the engine said yes to it. The words for each are in `changed_facts.py`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

from gateway.access.answer import checked
from gateway.access.candidate.answers import RULE
from gateway.access.changed_facts import Change, opposites, possible_changes
from gateway.access.decision import PolicyUnavailable
from gateway.access.rego_process import RegoProcess
from gateway.access.revisions import modules_of, sheets_of
from gateway.errors import ExchangeError

MOST_AT_ONCE = 2
"""Explanations that one process works on at a time; others wait."""
MOST_CHANGES = 3
"""Facts changed together, at most."""
MOST_ASKED = 3000
MOST_TOLD = 10
BATCH_S = 5.0

_places = threading.BoundedSemaphore(MOST_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Why:
    """`mattered`: the facts whose change alone changes the answer or its reasons; `would_allow`: smallest sets of changes."""

    mattered: Sequence[Mapping[str, Any]]
    would_allow: Sequence[Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return {"mattered": list(self.mattered), "would_allow": list(self.would_allow)}


def explain(files: Mapping[str, str], facts: Mapping[str, Any]) -> Why:
    """Why the revision of these files answers so on these facts. Raises `policy_unavailable` if its process does not answer."""
    with _places:
        try:
            with _Asking(files) as asking:
                return _explained(asking, dict(facts))
        except PolicyUnavailable as error:
            raise ExchangeError("policy_unavailable", headers={"Retry-After": "2"}) from error


def _explained(asking: _Asking, facts: dict[str, Any]) -> Why:
    said = asking.ask([facts])[0]
    changes = [change for change in possible_changes(facts, asking.sheets) if change.applies(facts)]
    alone = list(zip(changes, asking.ask_changed(facts, [(change,) for change in changes]), strict=True))
    against = [change for change in opposites(facts) if change.applies(facts)]
    opposed = zip(against, asking.ask_changed(facts, [(change,) for change in against]), strict=True)
    mattered = [change for change, answer in (*alone, *opposed) if _differs(said, answer)]
    told = {change.pointer: {"pointer": change.pointer, "value": change.value_in(facts), "title": change.names} for change in mattered}
    if said["allow"]:
        return Why(list(told.values()), [])
    return Why(list(told.values()), _would_allow(asking, facts, said, alone))


def _would_allow(
    asking: _Asking, facts: dict[str, Any], said: Mapping[str, Any], alone: Sequence[tuple[Change, Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """The sets of one change that the engine says yes to; if there are none, of two; then of three."""
    found: list[tuple[Change, ...]] = [(change,) for change, answer in alone if answer["allow"]]
    # Of several at once only those are tried that take a reason away, or that bring the answer nearer by showing another one.
    useful = [change for change, answer in alone if _codes(said) - _codes(answer)]
    for size in range(2, MOST_CHANGES + 1):
        if found:
            break
        sets = [each for each in combinations(useful, size) if len({change.pointer for change in each}) == size]
        sets = sets[: MOST_ASKED // size]
        found = [each for each, answer in zip(sets, asking.ask_changed(facts, sets), strict=True) if answer["allow"]]
    return [
        {
            "en": " and ".join(change.words["en"] for change in each),
            "fr": " et ".join(change.words["fr"] for change in each),
            "changes": [{"pointer": change.pointer, "to": change.to} for change in each],
        }
        for each in found[:MOST_TOLD]
    ]


def _codes(answer: Mapping[str, Any]) -> set[str]:
    return {reason["code"] for reason in answer["reasons"]}


def _differs(said: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Of a yes: it is a no, or gives something else. Of a no: one of its reasons is gone; that there may be further ones says nothing."""
    if said["allow"]:
        return bool(not answer["allow"] or said["obligations"] != answer["obligations"])
    return bool(answer["allow"] or _codes(said) - _codes(answer))


class _Asking:
    """The processes that are asked: one with the sheets as they are, one for each way in which a sheet could be otherwise."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._modules = modules_of(files)
        self.sheets: dict[str, Any] = dict(sheets_of(files))
        self._processes: dict[str, RegoProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.end()

    def ask(self, inputs: Sequence[Mapping[str, Any]], sheets: Mapping[str, Any] | None = None, key: str = "") -> list[Mapping[str, Any]]:
        """The answers; a refusal without reasons where there is none. Raises `PolicyUnavailable`."""
        if key not in self._processes:
            data = {"exchange": {"rules": dict(sheets if sheets is not None else self.sheets)}}
            self._processes[key] = RegoProcess.loaded(self._modules, data)[0]
        return [_document(said) for said in self._processes[key].evaluate_all(RULE, inputs, BATCH_S)]

    def ask_changed(self, facts: Mapping[str, Any], sets: Sequence[tuple[Change, ...]]) -> list[Mapping[str, Any]]:
        """The answer to the facts with each of these sets of changes."""
        answers: list[Mapping[str, Any]] = [{}] * len(sets)
        by_sheet: dict[str, list[int]] = {}
        for place, each in enumerate(sets):
            by_sheet.setdefault("".join(change.pointer for change in each if change.of_sheet), []).append(place)
        for key, places in by_sheet.items():
            sheets = copy.deepcopy(self.sheets) if key else self.sheets
            for change in sets[places[0]] if key else ():
                change.change_sheet(sheets)
            inputs = [_changed(facts, sets[place]) for place in places]
            for place, answer in zip(places, self.ask(inputs, sheets, key), strict=True):
                answers[place] = answer
        return answers


def _changed(facts: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    made = copy.deepcopy(dict(facts))
    for change in changes:
        change.change_facts(made)
    return made


def _document(said: Any) -> Mapping[str, Any]:
    try:
        return checked(said, "").document
    except PolicyUnavailable:
        return {"allow": False, "reasons": [], "obligations": [], "until": None}
