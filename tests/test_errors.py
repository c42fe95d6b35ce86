"""Problem codes: one catalogue, in both languages, and every code that the code raises stands in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import ExchangeError, Invalid, Refused, catalogue
from gateway.resources import ROOT

RAISERS = {"ExchangeError", "Invalid", "Refused"}


def raised_codes() -> Iterator[tuple[Path, str]]:
    """The literal codes that the gateway gives to its errors."""
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RAISERS:
                place = {"ExchangeError": 0, "Invalid": 1, "Refused": 2}[node.func.id]
                code = node.args[place] if len(node.args) > place else None
                if isinstance(code, ast.Constant):
                    yield path, str(code.value)


def test_every_code_that_is_raised_stands_in_the_catalogue() -> None:
    found = list(raised_codes())
    assert len(found) > 50
    assert [(path.name, code) for path, code in found if code not in catalogue()] == []


@pytest.mark.parametrize("code", sorted(catalogue()))
def test_every_code_says_what_it_means_and_what_to_do_in_both_languages(code: str) -> None:
    entry = catalogue()[code]
    # What is done and not yet known to be in force everywhere is no failure.
    assert entry["status"] in (range(400, 600) if code != "barrier_pending" else {202})
    for part in ("title", "explanation", "hint"):
        assert set(entry[part]) == {"en", "fr"}
        assert all(len(text) > 5 for text in entry[part].values())
        assert entry[part]["en"] != entry[part]["fr"]


def test_a_problem_document_has_the_members_of_rfc_9457_and_ours() -> None:
    problem = ExchangeError("stale", "Someone was faster.").problem("https://exchange.example", "/v1/contracts/con_1")
    assert problem["type"] == "https://exchange.example/problems/stale"
    assert problem["status"] == 412
    assert {"title", "detail", "instance", "code", "hint"} <= set(problem)


def test_a_refusal_names_its_decision_and_reasons() -> None:
    reasons = [{"code": "licence_revoked", "title": {"en": "The licence is revoked.", "fr": "La licence est révoquée."}}]
    problem = Refused("dec_1", reasons).problem("https://exchange.example", "/")
    assert problem["decision_id"] == "dec_1"
    assert problem["reasons"] == reasons
    assert Invalid([{"pointer": "/a", "detail": "is wrong"}]).problem("", "/")["errors"] == [{"pointer": "/a", "detail": "is wrong"}]
