"""Notices of consent: in versions that never change, and what a new version does to old consent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema_rs
import orjson
import pytest

from consent.notices import digest_of
from gateway.resources import SCHEMAS
from tests.city import FOOTFALL, City
from tests.consents.acts import TEXT, act, content, give, given, notice_of, passes, rewrite, write


def record(city: City, consent: str) -> dict[str, Any]:
    return dict(city.http.get(f"/v1/consents/{consent}", headers=city.as_(city.provider)).json())


def test_a_notice_is_read_by_anybody_word_for_word_with_its_digest(city: City) -> None:
    made = write(city).json()
    schema = orjson.loads((SCHEMAS / "consent-notice.json").read_bytes())
    validator = jsonschema_rs.Draft202012Validator(schema)
    for path in (made["id"], f"{made['id']}/versions/1"):
        read = city.http.get(f"/v1/notices-of-consent/{path}")
        assert read.headers["access-control-allow-origin"] == "*"
        assert read.json() == made
    assert made["text"] == TEXT
    assert made["text_digest"] == {language: digest_of(text) for language, text in TEXT.items()}
    for document in (made, *schema["examples"]):
        validator.validate(document)
    example = schema["examples"][0]
    assert example["text_digest"] == {language: digest_of(text) for language, text in example["text"].items()}


def test_a_version_is_never_changed(city: City) -> None:
    first = write(city).json()
    second = rewrite(city, first["id"], text={"en": "Other words.", "fr": "D'autres mots."}).json()
    assert (second["version"], second["asks_anew"]) == ("2", False)
    assert city.http.get(f"/v1/notices-of-consent/{first['id']}/versions/1").json() == first
    assert city.http.get(f"/v1/notices-of-consent/{first['id']}").json() == second
    listed = city.http.get("/v1/notices-of-consent", params={"dataset": FOOTFALL}).json()["items"]
    assert listed == [second]


def test_a_change_of_words_carries_consent_over(city: City) -> None:
    notice = notice_of(city)
    consent = given(city, notice=notice)
    rewrite(city, notice["id"], text={"en": "Other words.", "fr": "D'autres mots."})
    assert record(city, consent)["renewal_needed"] is False
    assert passes(city)
    assert give(city, notice=notice, subject="visitor-bob").status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"purposes": ["transit-planning", "research", "advertising"]},
        {"purposes": ["transit-planning"]},
        {"covers_earlier": True},
        {"recipients": ["planner"]},
    ],
)
def test_a_change_of_purpose_or_recipient_does_not_carry_consent_over(city: City, change: dict[str, Any]) -> None:
    change = {name: [city.planner] if name == "recipients" else value for name, value in change.items()}
    notice = notice_of(city)
    consent = given(city, notice=notice)
    made = rewrite(city, notice["id"], **change).json()
    assert made["asks_anew"] is True
    shown = record(city, consent)
    assert (shown["renewal_needed"], shown["notice"]["version"], shown["purposes"]) == (True, "1", ["transit-planning"])
    assert (shown["covers_earlier"], shown["state"]) == (False, "given")
    old = give(city, notice=notice, subject="visitor-bob")
    assert old.json()["errors"][0]["pointer"] == "/notice/version"
    recipients = {"recipients": change["recipients"]} if "recipients" in change else {}
    assert give(city, notice=notice | {"version": "2"}, subject="visitor-bob", **recipients).status_code == 201


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"purposes": ["research", "advertising"]}, "/purposes/1"),
        ({"purposes": ["city-operations"]}, "/purposes/0"),
        ({"recipients": ["any_recipient"]}, "/recipients/0"),
        ({"recipients": ["transit"]}, "/recipients/0"),
    ],
)
def test_nobody_consents_to_what_they_were_not_shown(city: City, members: dict[str, Any], pointer: str) -> None:
    members = members | ({"recipients": [city.transit]} if members.get("recipients") == ["transit"] else {})
    notice = notice_of(city, recipients=[city.planner])
    answer = give(city, notice=notice, **{"recipients": [city.planner]} | members)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert not passes(city, recipient=city.planner)


def test_a_person_may_agree_to_a_part_of_a_notice(city: City) -> None:
    notice = notice_of(city)
    given(city, notice=notice, purposes=["transit-planning"], recipients=[city.planner])
    assert passes(city, recipient=city.planner)
    assert not passes(city, recipient=city.city)


@pytest.mark.parametrize(
    ("notice", "pointer"),
    [
        ({"id": "ntc_" + "0" * 26}, "/notice/id"),
        ({"version": "2"}, "/notice/version"),
        ({"version": "0"}, "/notice/version"),
        ({"version": "1.0"}, "/notice/version"),
        ({"version": "9" * 30}, "/notice/version"),
        ({"language": "de"}, "/notice/language"),
    ],
)
def test_an_unknown_notice_is_refused(city: City, notice: dict[str, str], pointer: str) -> None:
    answer = give(city, notice=notice_of(city) | notice)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"dataset": "stops"}, "/dataset"),
        ({"purposes": ["world-domination"]}, "/purposes/0"),
        ({"recipients": ["org_nobody"]}, "/recipients/0"),
        ({"text": {"en": "Only in one language."}}, "/text/fr"),
        ({"legal_ground": "because"}, "/legal_ground"),
        ({"covers_earlier": "yes"}, "/covers_earlier"),
        ({"version": "7"}, "/version"),
    ],
)
def test_a_notice_that_does_not_fit_is_refused_with_its_place(city: City, members: dict[str, Any], pointer: str) -> None:
    answer = write(city, **members)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_only_the_owner_writes_notices(city: City) -> None:
    notice = notice_of(city)["id"]
    for client in (city.consumer, city.officer):
        assert write(city, client).status_code == 404
        answer = city.http.post(f"/v1/notices-of-consent/{notice}/versions", json=content(), headers=city.as_(client))
        assert answer.status_code == 404


def test_versions_written_at_once_get_numbers_of_their_own(city: City) -> None:
    notice = notice_of(city)["id"]
    with ThreadPoolExecutor(4) as threads:
        made = [answer.json()["version"] for answer in threads.map(lambda _: rewrite(city, notice), range(4))]
    assert sorted(made) == ["2", "3", "4", "5"]


def test_an_objection_under_a_notice_with_opt_out_holds_when_the_call_returns(city: City) -> None:
    notice = notice_of(city, legal_ground="notice_with_opt_out")
    given(city, subject="visitor-bob", notice=notice)
    assert passes(city, "visitor-bob", unless_opted_out=True)
    objection = give(city, notice=notice, state="refused").json()
    assert (objection["state"], objection["legal_ground"], objection["withdrawal_code"]) == ("refused", "notice_with_opt_out", None)
    assert not passes(city, unless_opted_out=True)
    assert act(city, objection["id"], "withdraw").json()["code"] == "illegal_state"
    given(city, notice=notice)
    assert passes(city, unless_opted_out=True)
