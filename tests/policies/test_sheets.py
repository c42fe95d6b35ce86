"""The rule sheets that ship fit their schema, and the schema refuses what the engines and the lens do not understand."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema_rs
import pytest

from gateway.access.answer import checked
from gateway.access.decision import ENFORCED, PROMISED
from gateway.access.vetting import vet_sheets
from gateway.resources import SCHEMAS
from tests.policies.shipped import facts, parts


def schema(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text("utf-8"))
    return document


def sheet(**terms: Any) -> dict[str, Any]:
    changed = copy.deepcopy(schema("rule-sheet")["examples"][0])
    changed["rules"][0] |= terms
    return {changed["dataset"]: changed}


def test_every_shipped_sheet_fits_the_schema() -> None:
    sheets = parts()[1]["exchange"]["rules"]
    assert vet_sheets(sheets) == []
    assert "port-credit-footfall" in sheets


@pytest.mark.parametrize("name", ["rule-sheet", "policy-input", "decision"])
def test_every_schema_is_valid_and_its_examples_fit(name: str) -> None:
    document = schema(name)
    jsonschema_rs.meta.validate(document)
    assert document["examples"]
    for example in document["examples"]:
        jsonschema_rs.validate(document, example)


def test_a_sheet_that_fits_is_not_refused() -> None:
    whole = {"rows": {"/zone": ["a", 1, True]}, "rate_limit": {"events": 10, "per": "PT1S"}, "attribution": "City", "onward_transfer": True}
    assert vet_sheets(sheet(**whole)) == []


@pytest.mark.parametrize(
    "terms",
    [
        {"consent": "perhaps"},
        {"purposes": []},
        {"recipients": ["everybody"]},
        {"keep": {"zone": "as_is"}},
        {"keep": {"/zone": "blur"}},
        {"keep": {"/zone": {"generalise": 0}}},
        {"keep": {"/zone": {"generalise": 0.5}}},
        {"keep": {"/zone": {"generalise": 10, "mask": 1}}},
        {"keep": {"/at": {"time_bucket": "PT0S"}}},
        {"keep": {"/at": {"time_bucket": "P1M"}}},
        {"keep": {"/at": {"time_bucket": "15 minutes"}}},
        {"keep": {}},
        {"drop": ["/note"]},
        {"rows": {"/zone": "north"}},
        {"rows": {"/zone": [1.5]}},
        {"rate_limit": {"events": 0, "per": "PT1S"}},
        {"retain": "PT"},
        {"onward_transfer": "no"},
        {"suppress_below": 5},
    ],
    ids=str,
)
def test_a_rule_that_nobody_could_carry_out_is_refused(terms: dict[str, Any]) -> None:
    assert vet_sheets(sheet(**terms)) != []


def test_a_sheet_under_another_name_than_its_datasets_is_refused() -> None:
    (only,) = sheet().values()
    assert [str(finding) for finding in vet_sheets({"elsewhere": only})] == [
        "rules/elsewhere.json:1: the sheet is of another dataset than its file's name says",
    ]


def test_the_answers_schema_names_each_obligation_of_the_closed_list_with_its_standing() -> None:
    standing: dict[str, str] = {}
    for shape in schema("decision")["$defs"]["obligation"]["oneOf"]:
        kind = shape["properties"]["kind"]
        kinds = kind.get("enum") or [kind["const"]]
        standing |= dict.fromkeys(kinds, shape["properties"]["standing"]["$ref"].removeprefix("#/$defs/"))
    assert {kind for kind, how in standing.items() if how == "enforced"} == ENFORCED
    assert {kind for kind, how in standing.items() if how == "promised"} == PROMISED


def test_the_example_of_the_answer_is_an_answer() -> None:
    assert checked(schema("decision")["examples"][0], "pol_1").document["allow"] is False


def test_the_example_of_the_facts_names_every_fact() -> None:
    defined = schema("policy-input")
    assert set(facts()) == set(defined["properties"])
    for name in ("client", "organization", "dataset", "purpose", "contract"):
        assert set(facts()[name]) == set(defined["$defs"][name]["properties"])
