"""Reasons are literals in the rules; what they say of themselves is true."""

from __future__ import annotations

import json
import re

import pytest

from gateway.resources import POLICIES
from tests.policies.shipped import files

BLOCK = re.compile(
    r"# METADATA\n# title: (?P<title>[^\n]+)\n(?P<rest>(?:#[^\n]*\n)*)"
    r"(?P<head>(?:deny|grounds|refusals) contains reason if \{\n)(?P<body>(?:\t[^\n]*\n)+)\}",
)
SAID = re.compile(r'"(code|en|fr|title|file|line|legal_ground)": (?:"([^"]*)"|(\d+)|(sprintf\([^\n]*)),')


def reasons() -> list[tuple[str, int, dict[str, str]]]:
    """(file, line of the rule's head, what the reason and its annotation say) of every reason in the shipped rules."""
    found = []
    for path, text in files().items():
        if not path.endswith(".rego") or path.endswith("_test.rego"):
            continue
        for block in BLOCK.finditer(text):
            if '"code": ' not in block["body"]:
                continue
            said = {name: text_ or number or call for name, text_, number, call in SAID.findall(block["body"])}
            ground = re.search(r"^#   legal_ground: (.*)$", block["rest"], re.MULTILINE)
            said["annotated_title"] = block["title"]
            said["annotated_ground"] = ground[1] if ground else ""
            found.append((path, text[: block.start("head")].count("\n") + 1, said))
    return found


def test_every_reason_is_found_here() -> None:
    literals = sum(text.count('"code": "') for path, text in files().items() if path.endswith(".rego") and not path.endswith("_test.rego"))
    assert len(reasons()) == literals > 20


@pytest.mark.parametrize(("path", "line", "said"), reasons(), ids=[said["code"] for _, _, said in reasons()])
def test_a_reason_names_the_file_and_line_of_its_rule_and_repeats_its_metadata(path: str, line: int, said: dict[str, str]) -> None:
    assert said["file"] == path
    assert int(said["line"]) == line
    assert said["title"] == said["annotated_title"]
    assert said["annotated_ground"]
    if not said["legal_ground"].startswith("sprintf"):
        assert said["legal_ground"] == said["annotated_ground"]


@pytest.mark.parametrize("said", [said for _, _, said in reasons()], ids=[said["code"] for _, _, said in reasons()])
def test_a_reason_is_a_sentence_in_english_and_in_french(said: dict[str, str]) -> None:
    for language in ("en", "fr"):
        assert re.fullmatch(r"[A-ZÀ-Ý].{20,}\.", said[language]), said
    assert said["en"] != said["fr"]


def test_a_code_stands_for_one_reason() -> None:
    codes = [said["code"] for _, _, said in reasons()]
    assert sorted(codes) == sorted(set(codes))


def test_the_list_of_reasons_in_the_documentation_is_complete() -> None:
    text = (POLICIES / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|$", text, re.MULTILINE))
    assert rows == {said["code"]: said["en"] for _, _, said in reasons()}


def test_the_example_of_the_answer_is_a_reason_that_ships() -> None:
    schema = json.loads((POLICIES.parent / "schemas" / "decision.json").read_text("utf-8"))
    example = schema["examples"][0]["reasons"][0]
    shipped = {said["code"]: said for _, _, said in reasons()}[example["code"]]
    assert (example["title"]["en"], example["title"]["fr"]) == (shipped["en"], shipped["fr"])
    assert (example["rule"]["file"], str(example["rule"]["line"])) == (shipped["file"], shipped["line"])
