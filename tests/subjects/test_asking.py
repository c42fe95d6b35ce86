"""What a person can ask: with the provider's code, once, for a quarter of an hour, about themselves and nobody else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import jsonschema_rs
import orjson
import pytest
from sqlalchemy import delete, inspect, select, text, update
from sqlalchemy.orm import Session

from consent.models import Subject
from consent.subjects import as_bytes, find, sref_of
from gateway.audit.models import AuditEntry
from gateway.contracts.models import Contract
from gateway.database import new_id, now
from gateway.resources import SCHEMAS
from gateway.subjects.codes import forget_expired
from gateway.subjects.models import Disclosure, SubjectCode, SubjectSession
from tests.city import FOOTFALL, City

ANN, BOB = "visitor-ann", "visitor-bob"
ASKED = ("consents", "disclosures", "export")


def ask_code(city: City, subject: str = ANN, client: str | None = None, dataset: str = FOOTFALL, *scopes: str) -> Any:
    body = {"dataset": dataset, "subject": subject}
    return city.http.post("/v1/subjects/codes", json=body, headers=city.as_(client or city.provider, *scopes))


def code_of(city: City, subject: str = ANN) -> str:
    answer = ask_code(city, subject)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["code"])


def open_session(city: City, code: str) -> Any:
    return city.http.post("/v1/subjects/sessions", json={"code": code})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def session_of(city: City, subject: str = ANN) -> dict[str, str]:
    answer = open_session(city, code_of(city, subject))
    assert answer.status_code == 201, answer.text
    return bearer(answer.json()["token"])


def ask(city: City, what: str, headers: dict[str, str], **parameters: Any) -> Any:
    return city.http.get(f"/v1/subjects/self/{what}", headers=headers, params=parameters)


def sref(city: City, subject: str = ANN) -> bytes:
    key = city.keys.secret("subject_index")
    with city.database.transaction() as session:
        return as_bytes(sref_of(session, key.id, key.value, city.transit, "opaque", subject))


def consent(city: City, subject: str = ANN) -> str:
    terms = {"dataset": FOOTFALL, "purposes": ["transit-planning"], "recipients": ["any_recipient"]}
    words = {"title": {"en": "Visits", "fr": "Visites"}, "text": {"en": "We share visits.", "fr": "Nous partageons les visites."}}
    provider = city.as_(city.provider)
    notice = city.http.post("/v1/notices-of-consent", json=terms | words | {"legal_ground": "consent"}, headers=provider)
    assert notice.status_code == 201, notice.text
    shown = {"id": notice.json()["id"], "version": "1", "language": "en"}
    answer = city.http.post("/v1/consents", json=terms | {"subject": subject, "given_by": "subject", "notice": shown}, headers=provider)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def contract(city: City, session: Session) -> str:
    made = Contract(
        id=new_id("con"),
        state="active",
        provider_id=city.transit,
        consumer_id=city.planner,
        dataset_slug=FOOTFALL,
        purpose="transit-planning",
        valid_from=now(),
        valid_until=now() + timedelta(days=1),
        history="none",
        text=b"",
        text_digest="",
        decision_id=new_id("dec"),
        created_at=now(),
    )
    session.add(made)
    session.flush()
    return made.id


def disclose(city: City, whose: bytes, days: int = 1) -> str:
    """Events about this subject left on so many days, three a day."""
    with city.database.transaction() as session:
        under, decision = contract(city, session), new_id("dec")
        for day in range(1, days + 1):
            session.add(
                Disclosure(
                    sref=whose,
                    day=date(2026, 11, day),
                    contract=under,
                    decision=decision,
                    dataset=FOOTFALL,
                    purpose="transit-planning",
                    events=3,
                )
            )
    return under


def test_a_person_sees_who_received_something_about_them(city: City) -> None:
    under = disclose(city, sref(city))
    disclose(city, sref(city, BOB))
    answer = ask(city, "disclosures", session_of(city))
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["items"]
    assert (found["day"], found["contract"], found["purpose"], found["events"]) == ("2026-11-01", under, "transit-planning", 3)
    assert found["recipient"] == {"id": city.planner, "name": "Planner"}
    assert found["decision"].startswith("dec_")
    assert answer.headers["cache-control"] == "no-store"


def test_a_disclosure_fits_its_schema(city: City) -> None:
    schema = orjson.loads((SCHEMAS / "disclosure.json").read_bytes())
    fits = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    disclose(city, sref(city))
    with city.database.transaction() as session:
        open_data = {"contract": "", "purpose": "", "dataset": "stops", "decision": new_id("dec")}
        session.add(Disclosure(sref=sref(city), day=date(2026, 11, 2), events=1, **open_data))
    found = ask(city, "disclosures", session_of(city)).json()["items"]
    assert len(found) == 2
    assert [error.message for document in found + schema["examples"] for error in fits.iter_errors(document)] == []


def test_disclosures_come_in_pages(city: City) -> None:
    disclose(city, sref(city), days=5)
    headers, seen = session_of(city), []
    after: dict[str, str] = {}
    while True:
        answer = ask(city, "disclosures", headers, limit=2, **after)
        seen += [found["day"] for found in answer.json()["items"]]
        if answer.json()["next"] is None:
            break
        assert answer.json()["next"] in answer.headers["link"]
        after = {"after": answer.json()["next"]}
    assert seen == [f"2026-11-0{day}" for day in range(1, 6)]


@pytest.mark.parametrize("after", ["x", "2026-13-01.con_01kaqv8f7e9n3p5r7t9w1y3a5c.dec_01kaqv8f7e9n3p5r7t9w1y3a5c", ".."])
def test_a_place_that_no_page_gave_is_refused(city: City, after: str) -> None:
    answer = ask(city, "disclosures", session_of(city), after=after)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "?after")


def test_a_person_sees_their_own_consents(city: City) -> None:
    mine = consent(city)
    consent(city, BOB)
    answer = ask(city, "consents", session_of(city))
    assert [(found["id"], found["state"]) for found in answer.json()["items"]] == [(mine, "given")]


def test_an_export_has_all_of_it_and_names_nobody(city: City) -> None:
    mine, under = consent(city), disclose(city, sref(city))
    disclose(city, sref(city, BOB))
    answer = ask(city, "export", session_of(city))
    document = answer.json()
    assert [found["id"] for found in document["consents"]] == [mine]
    assert [found["contract"] for found in document["disclosures"]] == [under]
    assert [(found["slug"], found["owner"]["name"]) for found in document["datasets"]] == [(FOOTFALL, "Transit")]
    assert "attachment" in answer.headers["content-disposition"]
    key = city.keys.secret("subject_index")
    with city.database.reading() as session:
        found = find(session, key.id, key.value, city.transit, "opaque", ANN)
    for name in (ANN, BOB, str(found)):
        assert name not in answer.text


def test_of_whom_nothing_is_known_the_answer_is_empty_and_nobody_is_minted(city: City) -> None:
    headers = session_of(city, "visitor-never-seen")
    assert ask(city, "consents", headers).json()["items"] == ask(city, "disclosures", headers).json()["items"] == []
    assert [found["slug"] for found in ask(city, "export", headers).json()["datasets"]] == [FOOTFALL]
    with city.database.reading() as session:
        assert session.query(Subject).count() == 0


def test_a_code_is_used_once(city: City) -> None:
    code = code_of(city)
    assert open_session(city, code).status_code == 201
    again = open_session(city, code)
    assert (again.status_code, again.json()["code"]) == (422, "code_invalid")


def test_of_two_who_use_a_code_at_once_one_gets_the_session(city: City) -> None:
    code = code_of(city)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: open_session(city, code).status_code, range(4)))
    assert sorted(answers) == [201, 422, 422, 422]


def test_a_code_is_read_as_people_write_it(city: City) -> None:
    code = code_of(city)
    written = " " + code.replace("-", " ").lower().replace("0", "o").replace("1", "l")
    assert open_session(city, written).status_code == 201


@pytest.mark.parametrize("code", ["", "x", "0" * 101, "AAAA-AAAA-AAAA-AAAA", "\u0000" * 16, "\u20ac" * 16])
def test_a_code_that_nobody_was_given_opens_nothing(city: City, code: str) -> None:
    answer = open_session(city, code)
    assert (answer.status_code, answer.json()["code"]) in {(422, "code_invalid"), (422, "invalid_body")}


def test_a_code_is_good_for_ten_minutes_and_a_session_for_fifteen(city: City) -> None:
    given = ask_code(city).json()
    opened = open_session(city, given["code"]).json()
    lives = [datetime.fromisoformat(answer["expires_at"]) - datetime.now(UTC) for answer in (given, opened)]
    assert [round(life.total_seconds() / 60) for life in lives] == [10, 15]

    late, headers = code_of(city), bearer(opened["token"])
    with city.database.transaction() as session:
        for table in (SubjectCode, SubjectSession):
            session.execute(update(table).values(expires_at=now()))
    assert open_session(city, late).json()["code"] == "code_invalid"
    answer = ask(city, "consents", headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
    with city.database.transaction() as session:
        forget_expired(session, now())
        assert session.query(SubjectCode).count() == session.query(SubjectSession).count() == 0
    assert ask(city, "consents", headers).json()["code"] == "token_invalid"


def test_who_tries_many_codes_is_held_back_by_address(city: City) -> None:
    answers = [open_session(city, "AAAA-AAAA-AAAA-AAAA") for _ in range(31)]
    assert {answer.status_code for answer in answers[:-1]} == {422}
    assert (answers[-1].status_code, answers[-1].json()["code"]) == (429, "rate_limited")
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_only_the_owner_of_the_dataset_gets_a_code(city: City) -> None:
    for client in (city.consumer, city.officer):
        assert ask_code(city, client=client).json()["code"] == "not_found"
    assert ask_code(city, dataset="nothing").json()["code"] == "not_found"
    assert ask_code(city, ANN, city.provider, FOOTFALL, "consents:read").json()["code"] == "scope_missing"
    assert city.http.post("/v1/subjects/codes", json={"dataset": FOOTFALL, "subject": ANN}).json()["code"] == "token_missing"


def test_a_dataset_about_nobody_has_no_codes(city: City) -> None:
    answer = ask_code(city, dataset="stops")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/dataset")


@pytest.mark.parametrize("subject", ["", "   ", "x" * 513])
def test_an_identifier_that_is_none_is_refused_without_showing_it(city: City, subject: str) -> None:
    answer = ask_code(city, subject)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/subject")


@pytest.mark.parametrize("what", ASKED)
def test_only_a_sessions_token_answers(city: City, what: str) -> None:
    client = city.as_(city.provider)
    for headers, code in (
        ({}, "token_missing"),
        (client, "token_invalid"),
        (bearer("exp_x"), "token_invalid"),
        (bearer(""), "token_invalid"),
    ):
        answer = ask(city, what, headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert "WWW-Authenticate" in answer.headers


def test_a_sessions_token_is_good_for_nothing_else(city: City) -> None:
    found = consent(city)
    assert city.http.get(f"/v1/consents/{found}", headers=session_of(city)).json()["code"] == "token_invalid"


def test_an_erased_persons_code_session_and_disclosures_are_gone(city: City) -> None:
    disclose(city, sref(city))
    headers, code = session_of(city), code_of(city)
    with city.database.transaction() as session:
        session.execute(delete(Subject).where(Subject.sref == sref_now(city, session)))
    assert ask(city, "export", headers).json()["code"] == "token_invalid"
    assert open_session(city, code).json()["code"] == "code_invalid"
    with city.database.reading() as session:
        assert session.query(Disclosure).count() == 0


def sref_now(city: City, session: Session) -> bytes:
    key = city.keys.secret("subject_index")
    return as_bytes(str(find(session, key.id, key.value, city.transit, "opaque", ANN)))


def test_neither_code_nor_token_nor_identifier_is_stored(city: City) -> None:
    code = code_of(city)
    answer = open_session(city, code_of(city))
    token = answer.json()["token"]
    stored = ""
    with city.database.reading() as session:
        for table in inspect(city.database.engine).get_table_names():
            stored += repr(session.execute(text(f'SELECT * FROM "{table}"')).all())
    assert "subject_codes" in inspect(city.database.engine).get_table_names()
    for secret in (code, code.replace("-", ""), token, ANN):
        assert secret not in stored


def test_the_audit_log_tells_that_a_code_was_given_and_used_and_to_nobody_whose_it_is(city: City) -> None:
    session_of(city)
    with city.database.reading() as session:
        rows = session.scalars(select(AuditEntry).where(AuditEntry.kind == "subject").order_by(AuditEntry.number)).all()
    entries = [orjson.loads(row.entry) for row in rows]
    assert [(entry["action"], entry["dataset"]) for entry in entries] == [("code_given", FOOTFALL), ("session_opened", FOOTFALL)]
    assert entries[0]["actor"] == city.provider
    assert set(entries[1]) == {"v", "at", "kind", "action", "dataset"}
    assert {row.provider for row in rows} == {city.transit}
