"""What the documents list is what the code has: a setting, code, metric or reason without its line fails here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.access.decision import ENFORCED, PROMISED
from gateway.errors import catalogue
from gateway.identity.roles import ROLES
from gateway.identity.scopes import SCOPES
from gateway.keys import AUDIT_LOG, KEY_ENCRYPTION, SECRET_USES, SIGNING_USES
from gateway.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
SECURITY = (ROOT / "docs" / "security.md").read_text("utf-8")


def listed(heading: str, column: int = 1) -> list[str]:
    """The names in one column of the tables under a heading, in their order."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", OPERATIONS, re.DOTALL | re.MULTILINE)
    assert section, f"docs/operations.md has no section {heading}"
    rows = [line.split("|") for line in section.group(1).splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[column])]


def metrics_of_the_code() -> set[str]:
    sources = [path.read_text("utf-8") for room in ("gateway", "consent") for path in (ROOT / room).rglob("*.py")]
    return {name for source in sources for name in re.findall(r'(?:Counter|Gauge|Histogram|Summary)\(\s*"(\w+)"', source)}


def reasons_of_the_code() -> set[str]:
    rules = [path.read_text("utf-8") for path in (ROOT / "policies").rglob("*.rego") if not path.name.endswith("_test.rego")]
    return {code for rule in rules for code in re.findall(r'"code": "(\w+)"', rule)}


@pytest.mark.parametrize(
    ("heading", "has"),
    [
        ("Settings", {f"EXCHANGE_{name.upper()}" for name in Settings.model_fields}),
        ("Keys", {*SECRET_USES, *SIGNING_USES, AUDIT_LOG, KEY_ENCRYPTION}),
        ("Metrics", metrics_of_the_code()),
        ("Scopes", set(SCOPES)),
        ("Roles", set(ROLES)),
        ("Obligations", ENFORCED | PROMISED),
        ("Error codes", set(catalogue())),
        ("Reasons of decisions", reasons_of_the_code()),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_operations_lists_what_the_code_has(heading: str, has: set[str]) -> None:
    names = listed(heading)
    assert sorted(set(names)) == sorted(has)
    assert len(set(names)) == len(names), "a name stands there twice"


def test_operations_gives_each_code_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", OPERATIONS, re.MULTILINE)
    assert {code: int(status) for code, status in rows} == {code: entry["status"] for code, entry in catalogue().items()}


def test_operations_says_which_obligations_are_promises() -> None:
    standings = dict(re.findall(r"^\| `(\w+)` \| (enforced|promised) \|", OPERATIONS, re.MULTILINE))
    assert {name for name, standing in standings.items() if standing == "promised"} == PROMISED


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda path: path.stem)
def test_a_decision_record_has_its_four_parts_on_one_page(path: Path) -> None:
    text = path.read_text("utf-8")
    parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
    assert parts == ["Context", "Decision", "Consequences", "Alternatives"]
    assert len(text.split()) < 500


def test_decision_records_are_numbered_without_gap() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def test_each_problem_is_explained_in_both_languages() -> None:
    for code, entry in json.loads((ROOT / "schemas" / "problems.json").read_text("utf-8")).items():
        for member in ("title", "explanation", "hint"):
            assert set(entry[member]) == {"en", "fr"}, code
            assert all(entry[member].values()), code


def test_what_the_security_document_names_exists() -> None:
    named = re.findall(r"`((?:gateway|consent|connectors|policies|tests|deploy)/[\w./]+?)(?:::(\w+))?`", SECURITY)
    missing = [path for path, _ in named if not (ROOT / path).exists()]
    lacking = [
        f"{path}::{test}" for path, test in named if test and path not in missing and f"def {test}(" not in (ROOT / path).read_text()
    ]
    assert (missing, lacking) == ([], [])
