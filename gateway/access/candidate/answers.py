"""What a candidate answers to generated questions: the same in both engines, always something, and no on facts that lack one."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jsonschema_rs

from gateway.access.answer import checked
from gateway.access.candidate.questions import Facts, without_each_fact
from gateway.access.decision import ENTRYPOINT, PolicyUnavailable
from gateway.access.rego_process import Failed, RegoProcess
from gateway.access.vetting import Finding
from gateway.resources import SCHEMAS

RULE = "data." + ENTRYPOINT.replace("/", ".")
BATCH = 100
BATCH_S = 5.0
MOST_STRIPPED = 25
"""Of so many allowed questions each fact is taken out in turn."""
MOST_FINDINGS = 5
_PLACE = re.compile(r"--> ([\w/.-]+\.rego):(\d+)")
_ENTRY_FILE = "main/main.rego"


class TooSlow(Exception):
    """The candidate did not answer in its time, or ended its process: `facts` are among those that it was asked."""


def ask(process: RegoProcess, inputs: Sequence[Facts]) -> list[Any]:
    """What the embedded engine says to each. Raises `TooSlow`."""
    answers: list[Any] = []
    for start in range(0, len(inputs), BATCH):
        try:
            answers += process.evaluate_all(RULE, inputs[start : start + BATCH], BATCH_S)
        except PolicyUnavailable as error:
            raise TooSlow(str(error)) from error
    return answers


def unusable(inputs: Sequence[Facts], answers: Sequence[Any]) -> list[Finding]:
    """Questions to which there is no answer of the right shape: a builtin failed, or no rule holds."""
    findings: dict[tuple[str, int], Finding] = {}
    for given, said in zip(inputs, answers, strict=True):
        finding = _unusable(given, said)
        if finding is not None:
            findings.setdefault((finding.file, finding.line), finding)
    return list(findings.values())[:MOST_FINDINGS]


def _unusable(given: Facts, said: Any) -> Finding | None:
    if isinstance(said, Failed):
        place = _PLACE.search(said.says)
        hint = "Ask for the type first, as `is_string(...)`: a builtin that fails takes the whole decision with it."
        why = said.says.strip().splitlines()[-1][:200] if said.says.strip() else ""
        file, line = (place[1], int(place[2])) if place else (_ENTRY_FILE, 1)
        return Finding(file, line, f"fails on {_told(given)}: {why}", hint)
    try:
        checked(said, "")
    except PolicyUnavailable as error:
        hint = "The rule `decision` must answer as schemas/decision.json says, whatever the facts are."
        return Finding(_ENTRY_FILE, 1, f"gives no answer on {_told(given)}: {error}", hint)
    return None


def fail_open(process: RegoProcess, inputs: Sequence[Facts], answers: Sequence[Any]) -> list[Finding]:
    """Facts that lack one, or are of the wrong type, and are allowed all the same. Raises `TooSlow`."""
    findings: dict[tuple[str, int], Finding] = {}
    allowed = [given for given, said in zip(inputs, answers, strict=True) if _allows(said)]
    for given, said in zip(inputs, answers, strict=True):
        if _allows(said) and not _fits().is_valid(given):
            pointer = next((_pointer(error) for error in _fits().iter_errors(given)), "/")
            _keep(findings, _opens(said, f"{pointer} is not as schemas/policy-input.json says"))
    right = [given for given in allowed if _fits().is_valid(given)]
    stripped = [(pointer, less) for given in right[:: max(1, len(right) // MOST_STRIPPED)] for pointer, less in without_each_fact(given)]
    for (pointer, _), said in zip(stripped, ask(process, [less for _, less in stripped]), strict=True):
        if _allows(said):
            _keep(findings, _opens(said, f"{pointer} is missing"))
    return list(findings.values())[:MOST_FINDINGS]


def differences(inputs: Sequence[Facts], embedded: Sequence[Any], opa: Sequence[Any]) -> Iterator[Finding]:
    """Questions that the two engines answer differently."""
    found = 0
    for given, one, other in zip(inputs, embedded, opa, strict=True):
        mine, theirs = _document(one), _document(other)
        if mine != theirs:
            place = _reason_place(one if isinstance(one, dict) else other)
            hint = "Write it in the part of Rego that both engines read alike: policies/README.md and docs/operations.md name it."
            yield Finding(*place, f"the engines differ on {_told(given)}: embedded {_brief(mine)}, OPA {_brief(theirs)}", hint)
            found += 1
            if found == MOST_FINDINGS:
                return


def _document(said: Any) -> Any:
    try:
        return checked(said, "").document
    except PolicyUnavailable:
        return "no answer"


def _brief(document: Any) -> str:
    if not isinstance(document, dict):
        return str(document)
    return f"{'yes' if document['allow'] else 'no'} ({', '.join(reason['code'] for reason in document['reasons'])})"


def _allows(said: Any) -> bool:
    return isinstance(said, dict) and said.get("allow") is True


def _keep(findings: dict[tuple[str, int], Finding], finding: Finding) -> None:
    findings.setdefault((finding.file, finding.line), finding)


def _opens(said: dict[str, Any], what: str) -> Finding:
    hint = "Let `proven` of the check `facts` ask for it, or the rule that allows: what is not known is not allowed."
    return Finding(*_reason_place(said), f"fails open by a missing field: it allows although {what}", hint)


def _reason_place(said: Any) -> tuple[str, int]:
    """File and line of the rule that the answer rests on, as the answer names it."""
    try:
        rule = said["reasons"][0]["rule"]
        return str(rule["file"]), int(rule["line"])
    except (KeyError, IndexError, TypeError, ValueError):
        return _ENTRY_FILE, 1


def _told(given: Facts) -> str:
    """The facts in short: identifiers of the exchange, no person's."""
    text = json.dumps(given, ensure_ascii=False, sort_keys=True)
    return text if len(text) < 900 else text[:900] + "..."


def _pointer(error: Any) -> str:
    return "/" + "/".join(str(step) for step in error.instance_path)


@functools.cache
def _fits() -> jsonschema_rs.Draft202012Validator:
    document = json.loads((SCHEMAS / "policy-input.json").read_text("utf-8"))
    return jsonschema_rs.Draft202012Validator(document, offline=True)
