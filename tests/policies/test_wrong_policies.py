"""Wrong policies, each named for what is wrong with it, and refused for that: in its file, at its line, and for nothing else.

Each folder holds what is laid over the shipped policies, and in `refused.json` where and why it is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.access.candidate.answers import differences
from gateway.access.candidate.questions import questions
from gateway.access.candidate.vet import Candidate, vet_candidate
from tests.policies.shipped import files, parts

WRONG = sorted(path for path in (Path(__file__).parent / "wrong").iterdir() if path.is_dir())
FAIL_OPEN = {"default", "missing_fact", "negation", "typo_in_its_package", "failing_builtin", "partial_rule", "empty_set"}


def laid_over(folder: Path) -> dict[str, str]:
    wrong = [path for path in folder.rglob("*") if path.is_file() and path.name != "refused.json"]
    return files() | {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in wrong}


def expected(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "refused.json").read_text("utf-8"))
    return document


def judge(folder: Path, opa: Path | None) -> None:
    why = expected(folder)
    findings = vet_candidate(Candidate(laid_over(folder), {}, [], opa)).findings
    assert (findings[0].file, findings[0].line) == (why["file"], why["line"])
    assert [str(each) for each in findings if why["says"] not in each.message] == []
    assert all(each.hint for each in findings)


@pytest.mark.parametrize("folder", [path for path in WRONG if "needs" not in expected(path)], ids=lambda path: path.name)
def test_a_wrong_policy_is_refused_by_the_embedded_engine_for_what_is_wrong_with_it(folder: Path) -> None:
    judge(folder, None)


@pytest.mark.parametrize("folder", [path for path in WRONG if "needs" in expected(path)], ids=lambda path: path.name)
def test_a_policy_that_only_opa_finds_wrong_is_refused(folder: Path, opa_binary: Path) -> None:
    judge(folder, opa_binary)


def test_the_ways_to_fail_open_are_all_among_them() -> None:
    names = {path.name for path in WRONG}
    assert {f"open_by_a_{way}" for way in FAIL_OPEN - {"negation", "empty_set"}} | {"open_by_negation", "open_by_an_empty_set"} <= names
    assert len(names) >= 15


def test_the_shipped_policies_pass_with_both_engines(opa_binary: Path) -> None:
    vetted = vet_candidate(Candidate(files(), {}, [], opa_binary))
    assert [str(each) for each in vetted.findings] == []
    assert vetted.engines == ("embedded", "opa")
    assert vetted.not_done == ()
    assert (vetted.tests, vetted.inputs > 500) == (92, True)


def test_the_shipped_policies_pass_without_opa_and_it_is_said_what_was_not_done() -> None:
    vetted = vet_candidate(Candidate(files(), {}, [], None))
    assert [str(each) for each in vetted.findings] == []
    assert "comparison of both engines" in vetted.not_done


def test_a_question_that_the_engines_answer_differently_is_a_finding() -> None:
    asked = questions(parts()[1]["exchange"]["rules"], [])[:3]
    yes = {"allow": True, "reasons": [_reason("a_ground")], "obligations": [], "until": None}
    no = {"allow": False, "reasons": [_reason("a_reason")], "obligations": [], "until": None}
    (finding,) = differences(asked, [yes, no, yes], [yes, no, no])
    assert (finding.file, finding.line) == ("checks/purpose/purpose.rego", 59)
    assert "embedded yes (a_ground), OPA no (a_reason)" in finding.message


def _reason(code: str) -> dict[str, Any]:
    rule = {"title": "A rule", "file": "checks/purpose/purpose.rego", "line": 59, "legal_ground": "A law"}
    return {"code": code, "title": {"en": "A reason.", "fr": "Une raison."}, "rule": rule}
