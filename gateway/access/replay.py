"""Replay: what two revisions say of the same facts, each in a child process of its own, and what that changes for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from gateway.access.answer import checked
from gateway.access.candidate.answers import RULE
from gateway.access.decision import PolicyUnavailable
from gateway.access.facts import Question, gather
from gateway.access.rego_process import RegoProcess
from gateway.access.revisions import modules_of, sheets_of
from gateway.catalog.directory import Directory as Catalog
from gateway.contracts.directory import ContractView
from gateway.database import now
from gateway.identity.directory import Directory as People
from gateway.identity.principal import Principal

BATCH = 200
BATCH_S = 8.0
NO_ANSWER: Mapping[str, Any] = {"allow": False, "reasons": [], "obligations": [], "until": None}
"""What no usable answer comes to."""

Answer = Mapping[str, Any]
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Sides:
    """The revision that is in force, and the one that might be."""

    before: RegoProcess
    after: RegoProcess
    also_after: RegoProcess
    """The same as `after`: where the one in force need not be asked, both processors work on the other."""

    def ask(self, inputs: Sequence[Mapping[str, Any]], progress: Progress = lambda _done: None) -> list[tuple[Answer, Answer]]:
        """What each says, input by input. Raises `PolicyUnavailable` if one does not answer in its time."""
        pairs: list[tuple[Answer, Answer]] = []
        with ThreadPoolExecutor(2, "policy-replay") as at_once:
            for start in range(0, len(inputs), BATCH):
                batch = inputs[start : start + BATCH]
                one, other = at_once.map(partial(_answers, batch), (self.before, self.after))
                pairs += [(_document(first), _document(second)) for first, second in zip(one, other, strict=True)]
                progress(len(batch))
        return pairs

    def ask_after(self, inputs: Sequence[Mapping[str, Any]], progress: Progress) -> list[Answer]:
        """What the revision that might be says. Raises `PolicyUnavailable`."""
        answers: list[Answer] = []
        with ThreadPoolExecutor(2, "policy-replay") as at_once:
            for start in range(0, len(inputs), 2 * BATCH):
                halves = [inputs[start : start + BATCH], inputs[start + BATCH : start + 2 * BATCH]]
                for said in at_once.map(_answers, halves, (self.after, self.also_after)):
                    answers += map(_document, said)
                progress(sum(map(len, halves)))
        return answers


@contextmanager
def both_sides(before: Mapping[str, str], after: Mapping[str, str], *, twice: bool = False) -> Iterator[Sides]:
    """`twice`: with a second process of the revision that might be, for `ask_after`.

    Raises `PolicyUnavailable` for files that the embedded engine cannot read.
    """
    with ExitStack() as ending:
        processes = []
        for files in (before, after, after) if twice else (before, after):
            processes.append(loaded(files))
            ending.callback(processes[-1].end)
        yield Sides(processes[0], processes[1], processes[-1])


def loaded(files: Mapping[str, str]) -> RegoProcess:
    """A process that has loaded these files. Raises `PolicyUnavailable`."""
    return RegoProcess.loaded(modules_of(files), {"exchange": {"rules": sheets_of(files)}})[0]


def reader_facts(contract: ContractView, catalog: Catalog, people: People, at: datetime) -> dict[str, Any] | None:
    """The facts under which the contract's consumer reads, with a client that does all that can be asked of it; None without a dataset."""
    dataset = catalog.get(contract.dataset_slug)
    if dataset is None:
        return None
    reader = Principal(
        "cli_of_the_consumer",
        contract.consumer_id,
        frozenset(),
        frozenset(),
        frozenset({contract.id}),
        strong=True,
        expires_at=at,
        token_id="",
    )
    facts = gather(Question("receive", reader, dataset, contract.purpose, contract), people, at)
    facts["client"]["standing"] = "active"
    return facts


def affected_contracts(
    before: Mapping[str, str], after: Mapping[str, str], contracts: Sequence[ContractView], catalog: Catalog, people: People
) -> list[dict[str, Any]]:
    """The contracts for which one revision in the place of the other changes something. Raises `PolicyUnavailable`."""
    at = now()
    facts = {each.id: made for each in contracts if (made := reader_facts(each, catalog, people, at)) is not None}
    asked = [each for each in contracts if each.id in facts]
    with both_sides(before, after) as sides:
        pairs = sides.ask([facts[each.id] for each in asked])
    return [
        {
            "contract": each.id,
            "dataset": each.dataset_slug,
            "purpose": each.purpose,
            "provider": each.provider_id,
            "consumer": each.consumer_id,
            "change": what,
        }
        for each, pair in zip(asked, pairs, strict=True)
        if (what := change_of(*pair)) is not None
    ]


def change_of(before: Answer, after: Answer) -> str | None:
    """`gains`, `loses`, `changes` (other obligations), or None where all stays as it is for the recipient."""
    if before["allow"] != after["allow"]:
        return "gains" if after["allow"] else "loses"
    return "changes" if before["obligations"] != after["obligations"] else None


def fields_changed(before: Answer, after: Answer) -> dict[str, Any]:
    """Which fields come, which go, and which pass in another way: {gained, lost, changed: [{pointer, before, after}]}."""
    one, other = _ways(before), _ways(after)
    return {
        "gained": sorted(set(other) - set(one)),
        "lost": sorted(set(one) - set(other)),
        "changed": [
            {"pointer": pointer, "before": one[pointer], "after": other[pointer]}
            for pointer in sorted(set(one) & set(other))
            if one[pointer] != other[pointer]
        ],
    }


def _ways(answer: Answer) -> dict[str, dict[str, Any]]:
    return {
        each["pointer"]: {name: value for name, value in each.items() if name not in {"pointer", "standing"}}
        for each in answer["obligations"]
        if "pointer" in each and each["kind"] not in {"drop", "row_filter"}
    }


def _answers(batch: Sequence[Mapping[str, Any]], side: RegoProcess) -> list[Any]:
    return side.evaluate_all(RULE, batch, BATCH_S)


def _document(said: Any) -> Answer:
    try:
        return checked(said, "").document
    except PolicyUnavailable:
        return NO_ANSWER
