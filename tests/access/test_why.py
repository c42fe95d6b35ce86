"""Why: what a person without Rego is told of an answer, and that each change which is told makes it yes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gateway.access.candidate.answers import RULE
from gateway.access.explain import Why, explain
from gateway.access.replay import loaded
from gateway.access.sheet_table import as_text, table
from tests.policies.shipped import facts, files, parts

Facts = dict[str, Any]


def changed(**members: Any) -> Facts:
    made = copy.deepcopy(facts())
    for name, value in members.items():
        made[name] = made[name] | value if isinstance(value, dict) and isinstance(made[name], dict) else value
    return made


def for_purpose(code: str) -> Facts:
    return changed(purpose={"code": code, "broader": []}, contract={"purpose": code})


def pointers(why: Why) -> set[str]:
    return {each["pointer"] for each in why.mattered}


def test_a_client_with_a_secret_is_told_to_come_with_a_key() -> None:
    why = explain(files(), changed(client={"strong": False}))
    assert why.would_allow[0]["en"] == "with a client that authenticates by key"
    assert why.would_allow[0]["fr"] == "avec un client qui s'authentifie par clé"
    assert pointers(why) == {"/client/strong", "/dataset/classification"}


def test_a_purpose_that_no_rule_covers_leads_to_those_that_are() -> None:
    why = explain(files(), for_purpose("advertising"))
    assert why.would_allow[0]["en"] == "for transit-planning"
    assert all(len(each["changes"]) == 1 for each in why.would_allow)
    assert pointers(why) == {"/purpose"}


def test_what_needs_several_changes_is_told_with_all_of_them_and_no_more() -> None:
    why = explain(files(), for_purpose("advertising") | {"client": facts()["client"] | {"strong": False, "contracts": []}})
    assert {len(each["changes"]) for each in why.would_allow} == {3}
    assert "with a client that authenticates by key and with a token that names the contract and for transit-planning" in {
        each["en"] for each in why.would_allow
    }


def test_a_rule_that_shares_without_a_ground_would_allow_with_consent() -> None:
    shipped = files()
    slug = facts()["dataset"]["slug"]
    sheet = parts()[1]["exchange"]["rules"][slug]
    rules = [sheet["rules"][0] | {"consent": "not_required"}]
    import json

    why = explain(shipped | {f"rules/{slug}.json": json.dumps(sheet | {"rules": rules})}, facts())
    assert [each["en"] for each in why.would_allow] == ["with consent"]
    assert [each["fr"] for each in why.would_allow] == ["avec consentement"]


def test_a_yes_rests_on_facts_and_needs_no_change() -> None:
    why = explain(files(), facts())
    assert why.would_allow == []
    assert {"/client/strong", "/contract/state", "/organization/standing", "/purpose"} <= pointers(why)


@pytest.mark.parametrize(
    "asked",
    [
        changed(client={"strong": False}),
        for_purpose("research"),
        changed(contract={"state": "ended"}),
        changed(organization={"standing": "suspended"}),
        changed(dataset={"licence_revoked": True}),
        changed(at="2029-01-01T00:00:00Z"),
        changed(contract=None, purpose=None),
    ],
    ids=["secret", "purpose", "ended", "suspended", "licence", "late", "no contract"],
)
def test_the_engine_says_yes_to_each_change_that_is_told(asked: Facts) -> None:
    why = explain(files(), asked)
    assert why.would_allow
    process = loaded(files())
    try:
        for each in why.would_allow:
            made = copy.deepcopy(asked)
            for change in each["changes"]:
                *path, last = change["pointer"].split("/")[1:]
                holder = made
                for name in path:
                    holder = holder[name]
                holder[last] = change["to"]
            # A purpose goes with the contract's, and a contract with the token that names it.
            if made["contract"] is not None and made["purpose"] is not None:
                made["contract"]["purpose"] = made["purpose"]["code"]
            if made["contract"] is not None and made["purpose"] is None:
                continue
            assert process.evaluate(RULE, made, 5)["allow"] is True, each["en"]
    finally:
        process.end()


def test_a_rule_sheet_is_a_table_in_both_languages() -> None:
    sheet = parts()[1]["exchange"]["rules"]["port-credit-footfall"]
    english, french = (as_text(table(sheet, language)) for language in ("en", "fr"))
    assert "/visitor: as a pseudonym" in english
    assert "/at: rounded down to PT15M" in english
    assert "any approved organization" in english
    assert "/visitor: sous pseudonyme" in french
    assert "ne le transmet pas" in french
    assert len(english.splitlines()) == len(french.splitlines()) > 20
