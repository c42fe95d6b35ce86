"""Mass import: all of a chunk or nothing, and each chunk once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from consent.models import ConsentRecord
from gateway.audit.models import AuditEntry
from gateway.changes import ChangeRow
from tests.city import FOOTFALL, City
from tests.consents.acts import notice_of, passes


def chunk(city: City, number: int = 0, people: int = 3, **members: Any) -> dict[str, Any]:
    usual = {
        "name": "survey",
        "chunk": number,
        "dataset": FOOTFALL,
        "purposes": ["transit-planning"],
        "recipients": ["any_recipient"],
        "given_by": "subject",
        "consents": [{"subject": f"visitor-{number}-{place}"} for place in range(people)],
    }
    return {"notice": notice_of(city)} | usual | members if "notice" not in members else usual | members


def send(city: City, body: dict[str, Any], client: str | None = None) -> Any:
    return city.http.post("/v1/consents/import", json=body, headers=city.as_(client or city.provider))


def count(city: City) -> int:
    with city.database.reading() as session:
        return session.scalar(select(func.count()).select_from(ConsentRecord)) or 0


def test_imported_consent_lets_events_pass_when_the_call_returns(city: City) -> None:
    answer = send(city, chunk(city, people=1000))
    assert answer.status_code == 201, answer.text
    assert (answer.json()["records"], answer.json()["repeated"], len(answer.json()["items"])) == (1000, False, 1000)
    assert all(passes(city, f"visitor-0-{place}") for place in (0, 500, 999))
    consent = answer.json()["items"][0]["id"]
    shown = city.http.get(f"/v1/consents/{consent}", headers=city.as_(city.provider)).json()
    assert [step["state"] for step in shown["history"]] == ["given"]


def test_an_import_is_one_change_and_one_audit_entry_a_chunk(city: City) -> None:
    change = send(city, chunk(city)).json()["change"]
    with city.database.reading() as session:
        assert session.get_one(ChangeRow, change).kind == "consents_imported"
        entry = orjson.loads(session.scalars(select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1)).one().entry)
    assert (entry["action"], entry["change"], entry["detail"]["consents"]) == ("imported", change, "3")
    assert "visitor" not in str(entry)


def test_the_same_chunk_again_does_nothing_twice(city: City) -> None:
    body = chunk(city)
    first, again = send(city, body).json(), send(city, body).json()
    assert (again["repeated"], again["items"], again["change"]) == (True, None, first["change"])
    assert count(city) == 3


def test_the_same_chunk_at_once_is_one(city: City) -> None:
    body = chunk(city)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: send(city, body), range(4)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert [answer.json().get("repeated") for answer in answers].count(False) == 1
    assert count(city) == 3


def test_another_chunk_under_the_same_number_is_refused(city: City) -> None:
    body = chunk(city)
    send(city, body)
    answer = send(city, body | {"consents": [{"subject": "visitor-else"}]})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert count(city) == 3


def test_progress_tells_where_to_go_on(city: City) -> None:
    notice = notice_of(city)
    for number in (0, 1, 3):
        send(city, chunk(city, number, notice=notice))
    told = city.http.get("/v1/consents/import/survey", headers=city.as_(city.provider)).json()
    assert told == {"name": "survey", "chunks": 3, "records": 9, "next": 2}
    assert city.http.get("/v1/consents/import/survey", headers=city.as_(city.officer)).status_code == 404


def test_codes_are_told_where_they_are_asked_for(city: City) -> None:
    items = send(city, chunk(city, codes=True)).json()["items"]
    answer = city.http.post("/v1/consents/withdraw", json={"code": items[1]["withdrawal_code"]})
    assert answer.json()["state"] == "withdrawn"
    assert [passes(city, f"visitor-0-{place}") for place in range(3)] == [True, False, True]
    assert all(item["withdrawal_code"] is None for item in send(city, chunk(city, 1)).json()["items"])


def test_imported_objections_hold_when_the_call_returns(city: City) -> None:
    notice = notice_of(city, legal_ground="notice_with_opt_out")
    answer = send(city, chunk(city, state="refused", notice=notice))
    with city.database.reading() as session:
        row = session.get_one(ChangeRow, answer.json()["change"])
    assert (row.kind, row.forbids) == ("refusals_imported", True)
    assert not passes(city, "visitor-0-1", unless_opted_out=True)


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"consents": [{"subject": "a"}, {"subject": "  "}]}, "/consents/1/subject"),
        ({"consents": [{"subject": "a"}, {"subject": "b", "valid_until": "2020-01-01T00:00:00Z"}]}, "/consents/1/valid_until"),
        ({"consents": [{"subject": "a", "state": "given"}]}, "/consents/0/state"),
        ({"consents": []}, "/consents"),
        ({"consents": [{"subject": f"{number}"} for number in range(1001)]}, "/consents"),
        ({"purposes": ["advertising"]}, "/purposes/0"),
        ({"dataset": "stops"}, "/dataset"),
        ({"name": "../etc"}, "/name"),
        ({"chunk": -1}, "/chunk"),
        ({"state": "refused", "given_by": "provider"}, "/given_by"),
    ],
)
def test_a_chunk_of_which_one_part_does_not_fit_imports_nobody(city: City, members: dict[str, Any], pointer: str) -> None:
    answer = send(city, chunk(city, **members))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert count(city) == 0


def test_only_the_owner_imports(city: City) -> None:
    body = chunk(city)
    assert [send(city, body, client).status_code for client in (city.consumer, city.officer)] == [404, 404]
