"""A form changes of a rule what it shows, and nothing else; what it leaves empty lets nothing pass."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.vetting import vet_sheets
from gateway.console.rule_forms import NEW_RULE, decoded, encoded, how_told, rule_of
from gateway.console.words import Say

RULE: dict[str, Any] = {
    "purposes": ["transit-planning", "advertising"],
    "recipients": ["approved_organizations", "org_01kaqv8f7e9n3p5r7t9w1y3a5c"],
    "consent": "required",
    "keep": {"/zone": "as_is", "/at": {"time_bucket": "PT15M"}, "/dwell": {"generalise": 60}, "/visitor": {"pseudonymise": "P7D"}},
    "rows": {"/zone": ["east"]},
    "retain": "P90D",
    "onward_transfer": False,
}
FORM = {
    "keep./visitor": "pseudonymise:P7D",
    "keep./dwell": "generalise:60",
    "keep./at": "time_bucket:PT15M",
    "keep./zone": "as_is",
    "retain": "90",
    "legal_reference": "",
    "legal_ground": "",
    "consent": "required",
    "organizations": "",
    "recipient.org_01kaqv8f7e9n3p5r7t9w1y3a5c": "on",
    "recipient.approved_organizations": "on",
    "purpose.advertising": "on",
    "purpose.transit-planning": "on",
}


def test_form_that_changes_nothing_gives_the_same_rule_in_the_same_order() -> None:
    made = rule_of(FORM, RULE)
    assert made == RULE
    assert list(made["keep"]) == list(RULE["keep"])


def test_form_without_a_purpose_takes_that_purpose_out_and_nothing_else() -> None:
    made = rule_of({name: value for name, value in FORM.items() if name != "purpose.advertising"}, RULE)
    assert made == RULE | {"purposes": ["transit-planning"]}


def test_field_that_does_not_pass_is_not_named() -> None:
    made = rule_of(FORM | {"keep./visitor": ""}, RULE)
    assert "/visitor" not in made["keep"]


def test_rule_that_names_no_field_is_refused_and_does_not_let_all_pass() -> None:
    made = rule_of({"purpose.research": "on", "recipient.anyone": "on", "consent": "required"}, NEW_RULE)
    assert made["keep"] == {}
    sheet = {"dataset": "a", "legal_ground": "consent", "legal_reference": "x", "default": "deny", "rules": [made]}
    assert [finding.pointer for finding in vet_sheets({"a": sheet})] == ["/rules/0/keep"]


def test_period_that_is_no_number_of_days_stays() -> None:
    assert rule_of(FORM | {"retain": ""}, RULE | {"retain": "PT12H"})["retain"] == "PT12H"
    assert "retain" not in rule_of(FORM | {"retain": ""}, RULE)


@pytest.mark.parametrize(
    "how", ["as_is", "pseudonymise", {"pseudonymise": "P1D"}, {"time_bucket": "PT15M"}, {"generalise": 10}, {"mask": 4}]
)
def test_each_way_to_pass_goes_through_a_form_and_has_words(how: Any) -> None:
    assert decoded(encoded(how)) == how
    for language in ("en", "fr"):
        assert how_told(encoded(how), Say(language))


@pytest.mark.parametrize("way", ["shown_to_all", "generalise:²", "time_bucket:soon", "pseudonymise:P1Y", "mask:"])
def test_what_is_no_way_to_pass_is_refused_by_the_sheet_and_shown_as_it_was_entered(way: str) -> None:
    made = rule_of(FORM | {"keep./zone": way}, RULE)
    sheet = {"dataset": "a", "legal_ground": "consent", "legal_reference": "x", "default": "deny", "rules": [made]}
    assert vet_sheets({"a": sheet})
    assert how_told(encoded(made["keep"]["/zone"]), Say("en")) == way.removesuffix(":") or way.startswith(("mask", "generalise"))
