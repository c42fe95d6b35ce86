"""The table of OWASP ASVS 5.0 V10 in `docs/security.md` names every requirement of the chapter, and files that are there."""

from __future__ import annotations

import re

from gateway.resources import ROOT

SECTIONS = {1: 2, 2: 3, 3: 5, 4: 16, 5: 5, 6: 2, 7: 3}
"""How many requirements each section has."""


def rows() -> list[list[str]]:
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| 10.")]


def test_every_requirement_is_answered_once() -> None:
    named = [found for row in rows() for found in re.findall(r"10\.\d+\.\d+", row[0])]
    assert sorted(named) == sorted(f"10.{section}.{number}" for section, count in SECTIONS.items() for number in range(1, count + 1))


def test_what_is_met_names_a_file_and_a_test_and_what_is_not_says_why() -> None:
    for requirement, _level, files, tests, remark in rows():
        assert bool(files) == bool(tests), requirement
        assert files or remark.startswith(("not applicable", "not yet")), requirement


def test_the_files_that_are_named_are_there() -> None:
    named = {path for row in rows() for cell in row for path in re.findall(r"`([\w/]+\.py)`", cell)}
    assert len(named) > 20
    assert {path for path in named if not (ROOT / path).is_file()} == set()
