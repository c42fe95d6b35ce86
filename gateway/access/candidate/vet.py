"""Vet: everything that must hold of a candidate before persons agree on it. It runs in child processes, never in the deciding engine.

In steps, each of which needs the one before; of a step all findings are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.access.bundle import BundleUnreadable, served
from gateway.access.candidate import opa_binary
from gateway.access.candidate.answers import TooSlow, ask, differences, fail_open, unusable
from gateway.access.candidate.house_rules import ENTRYPOINT_FILE, house_rules
from gateway.access.candidate.opa_binary import OpaFailed
from gateway.access.candidate.questions import Facts, questions
from gateway.access.candidate.references import references
from gateway.access.candidate.sheets import DatasetFacts, vet_against_datasets
from gateway.access.candidate.syntax import read_module
from gateway.access.decision import PolicyUnavailable
from gateway.access.rego_process import RegoProcess, require_library
from gateway.access.revisions import modules_of
from gateway.access.vetting import Finding, vet_sheets, vet_text, vet_trees

TEST_S = 2.0
TESTS_S = 8.0
_TEST = re.compile(r"^(test_\w+) if\b", re.MULTILINE)
_PACKAGE = re.compile(r"^package (\S+)", re.MULTILINE)
_PARSED = re.compile(r"--> ([\w/.-]+):(\d+)(?::\d+)?")


@dataclass(frozen=True, slots=True)
class Vetted:
    """What came of it: `findings` if it is refused, and what it was put to; `not_done` says what could not be."""

    findings: Sequence[Finding]
    engines: Sequence[str] = ()
    tests: int = 0
    inputs: int = 0
    not_done: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        return {"engines": list(self.engines), "tests": self.tests, "inputs": self.inputs, "not_done": list(self.not_done)}


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is vetted, and against what: `recorded` facts, the datasets as they are, and the OPA program if there is one."""

    files: Mapping[str, str]
    datasets: Mapping[str, DatasetFacts]
    recorded: Sequence[Facts]
    opa: Path | None


def vet_candidate(candidate: Candidate) -> Vetted:
    """Raises `PolicyUnavailable` if the embedded engine is not installed."""
    require_library()
    modules = modules_of(candidate.files)
    try:
        sheets = _sheets(candidate.files)
    except BundleUnreadable as error:
        return Vetted([Finding(str(error).partition(" ")[0], 1, "is not JSON", "Mend the syntax.")])
    rego = {path: text for path, text in candidate.files.items() if path.endswith(".rego")}
    findings = [*vet_text(rego), *vet_sheets(sheets), *vet_against_datasets(sheets, candidate.datasets)]
    if findings:
        return Vetted(findings)
    try:
        process, trees = RegoProcess.loaded(modules, {"exchange": {"rules": sheets}})
    except PolicyUnavailable as error:
        return Vetted([_unread(str(error))])
    try:
        return _vet_loaded(candidate, process, trees)
    finally:
        process.end()


def _vet_loaded(candidate: Candidate, process: RegoProcess, trees: list[dict[str, Any]]) -> Vetted:
    tests = {path: text for path, text in candidate.files.items() if path.endswith("_test.rego")}
    read = [read_module(tree) for tree in trees]
    findings = [*vet_trees(trees), *house_rules(read, tests), *references(read)]
    opa = candidate.opa
    if opa is None:
        findings = findings or run_tests(candidate.files)
        return Vetted(findings) if findings else _vet_answers(candidate, process, None, None)
    try:
        with opa_binary.unpacked(candidate.files) as folder:
            seen = {(each.file, each.line) for each in findings}
            findings += [each for each in opa_binary.check(opa, folder) if (each.file, each.line) not in seen]
            findings += opa_binary.unformatted(opa, folder)
            findings = findings or run_tests(candidate.files)
            findings = findings or opa_binary.failing_tests(opa, folder) or opa_binary.uncovered(opa, folder)
            return Vetted(findings) if findings else _vet_answers(candidate, process, opa, folder)
    except OpaFailed as error:
        return Vetted([Finding(ENTRYPOINT_FILE, 1, f"OPA gave up on it: {error}", "Look for what does not end, or takes too much memory.")])


def _vet_answers(candidate: Candidate, process: RegoProcess, opa: Path | None, folder: Path | None) -> Vetted:
    inputs = questions(_sheets(candidate.files), candidate.recorded)
    try:
        answers = ask(process, inputs)
        findings = unusable(inputs, answers) or fail_open(process, inputs, answers)
    except TooSlow as error:
        return Vetted(
            [Finding(ENTRYPOINT_FILE, 1, f"does not end on generated facts: {error}", "Look for what grows with each further value.")]
        )
    if opa is not None and folder is not None and not findings:
        findings = list(differences(inputs, answers, opa_binary.evaluate_all(opa, folder, inputs)))
    engines = ("embedded", "opa") if opa else ("embedded",)
    not_done = () if opa else ("format", "opa check", "opa test", "comparison of both engines")
    return Vetted(findings, engines, len(_tests(candidate.files)), len(inputs), not_done)


def run_tests(files: Mapping[str, str]) -> list[Finding]:
    """Tests that fail or do not end in the embedded engine; if all hold, what none of them reaches."""
    rego = {path: text for path, text in files.items() if path.endswith(".rego")}
    tests = _tests(files)
    try:
        process, _ = RegoProcess.loaded(rego, {"exchange": {"rules": _sheets(files)}})
    except PolicyUnavailable as error:
        return [_unread(str(error))]
    try:
        values, missed = process.test(list(tests), TESTS_S)
    except PolicyUnavailable as error:
        return [_which_does_not_end(files, str(error))]
    finally:
        process.end()
    failed = [
        Finding(*tests[rule], f"{rule.rsplit('.', 1)[-1]} fails", "Mend the rule, or the test if it says what you do not mean.")
        for rule, value in values.items()
        if value is not True
    ]
    return failed or [
        Finding(path, int(line), "no test reaches this", "Write a test beside it in which it matters.")
        for path, lines in sorted(missed.items())
        if not path.endswith("_test.rego")
        for line in lines
    ]


def _which_does_not_end(files: Mapping[str, str], why: str) -> Finding:
    rego = {path: text for path, text in files.items() if path.endswith(".rego")}
    for rule, place in _tests(files).items():
        process, _ = RegoProcess.loaded(rego, {"exchange": {"rules": _sheets(files)}})
        try:
            process.test([rule], TEST_S)
        except PolicyUnavailable as error:
            hint = "Look for a comprehension that grows with each further value, in what this test asks for."
            return Finding(*place, f"{rule.rsplit('.', 1)[-1]} does not end: {error}", hint)
        finally:
            process.end()
    return Finding(ENTRYPOINT_FILE, 1, f"the tests do not end together: {why}", "Look for what takes long in them.")


def _sheets(files: Mapping[str, str]) -> dict[str, Any]:
    """Rule sheets by the names of their files, whatever they say of themselves. Raises `BundleUnreadable`."""
    sheets: dict[str, Any] = served(files)[1]["exchange"]["rules"]
    return sheets


def _tests(files: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Every test rule, with file and line."""
    found = {}
    for path, text in files.items():
        package = _PACKAGE.search(text)
        if path.endswith("_test.rego") and package is not None:
            for match in _TEST.finditer(text):
                found[f"data.{package[1]}.{match[1]}"] = (path, text[: match.start()].count("\n") + 1)
    return found


def _unread(says: str) -> Finding:
    """What the parser says, at its place."""
    place = _PARSED.search(says)
    lines = [line.strip() for line in says.splitlines() if line.strip()]
    told = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
    file, line = (place[1], int(place[2])) if place else (ENTRYPOINT_FILE, 1)
    return Finding(file, line, f"cannot be read: {told}", "Mend the syntax.")
