"""What is asked of policy over HTTP: decisions that would be, those that were made, and what waits for the officer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.access.office import FOOTFALL, REVISIONS, Office, an_office
from tests.e2e.district import dataset_document

DECISIONS = "/v1/decisions"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with an_office(tmp_path_factory.mktemp("asking")) as made:
        for slug in (FOOTFALL, "miway-stops"):
            made.done("POST", "/v1/datasets", "", dataset_document(slug))
        yield made


def test_what_a_decision_would_be_is_told_with_why_and_recorded_nowhere(office: Office) -> None:
    before = len(office.done("GET", DECISIONS)["items"])
    asked = office.done("POST", DECISIONS, "", {"dataset": FOOTFALL, "purpose": "advertising", "action": "propose"})
    assert (asked["id"], asked["allow"], asked["sees"]) == (None, False, None)
    codes = {reason["code"] for reason in asked["reasons"]}
    assert "purpose_not_covered" in codes
    assert {"title", "file", "line", "legal_ground"} <= set(asked["reasons"][0]["rule"])
    assert asked["revision"] == office.active()
    assert len(office.done("GET", DECISIONS)["items"]) == before


def test_open_data_is_seen_by_anybody_and_what_they_would_see_is_its_schema(office: Office) -> None:
    asked = office.done("POST", DECISIONS, "", {"dataset": "miway-stops"})
    assert (asked["action"], asked["allow"], asked["sees"]["type"]) == ("receive", True, "object")


def test_a_decision_that_was_made_is_listed_and_explained(office: Office) -> None:
    refused = office.call("POST", "/v1/contracts", "", {"dataset": FOOTFALL, "purpose": "advertising"})
    assert refused.status_code == 403
    listed = office.done("GET", f"{DECISIONS}?dataset={FOOTFALL}&allow=false")["items"]
    assert refused.json()["decision_id"] in {each["id"] for each in listed}
    found = office.done("GET", f"{DECISIONS}/{refused.json()['decision_id']}")
    assert "/purpose" in {each["pointer"] for each in found["why"]["mattered"]}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"contract": "con_01jd0000000000000000000003"}, "/contract"),
        ({"purpose": "research"}, "/dataset"),
        ({"dataset": FOOTFALL, "client": "cli_01jd0000000000000000000003"}, "/client"),
    ],
)
def test_a_question_about_what_is_not_there_says_what_is_not(office: Office, body: dict[str, str], pointer: str) -> None:
    answer = office.call("POST", DECISIONS, "", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_a_field_that_no_rule_names_and_a_dataset_without_rules_wait_for_the_officer(office: Office) -> None:
    items = office.done("GET", "/v1/policies/todos")["items"]
    fields = {each["pointer"] for each in items if each["kind"] == "field_not_named"}
    assert "/business" in fields
    assert "/zone" not in fields
    document = dataset_document(FOOTFALL) | {"slug": "counted-twice", "contact": None}
    office.done("POST", "/v1/datasets", "", {name: value for name, value in document.items() if value is not None})
    later = office.done("GET", "/v1/policies/todos")["items"]
    kinds = {each["kind"] for each in later if each["dataset"] == "counted-twice"}
    assert kinds == {"rule_sheet_missing", "dataset_incomplete"}
    assert all(set(each["title"]) == {"en", "fr"} for each in later)


def test_a_sheet_for_personal_data_needs_somebody_who_answers_for_it(office: Office) -> None:
    revision = office.draft()
    sheet = office.sheet(revision) | {"dataset": "counted-twice"}
    assert office.write(revision, "rules/counted-twice.json", sheet).status_code == 200
    answer = office.call("POST", f"{REVISIONS}/{revision}/propose")
    assert [error["detail"] for error in answer.json()["errors"]] == ["counted-twice is personal and has no contact"]


def test_a_proposal_waits_for_another_officer(office: Office) -> None:
    revision = office.draft("Coarser times")
    office.done("POST", f"{REVISIONS}/{revision}/propose")
    items = office.done("GET", "/v1/policies/todos")["items"]
    assert [each["title"]["en"] for each in items if each["revision"] == revision] == [
        "Coarser times is proposed: another person looks at a preview and approves it, or retires it."
    ]
