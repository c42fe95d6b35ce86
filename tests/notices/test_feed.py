"""The feed of an organization: told in the transaction of what happened, in the order of the changes, to be acknowledged in time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jsonschema_rs
import orjson
import pytest

from gateway.contracts.unacknowledged import REASON, any_overdue, suspend_overdue
from gateway.database import now
from gateway.notices.feed import MOST, forget_old, notify
from gateway.notices.models import Notice
from gateway.resources import SCHEMAS
from gateway.streams.cursor import Cursor, Cursors
from tests.catalog.rooms import Rooms

WEEK = timedelta(days=7)


def read(rooms: Rooms, name: str, **parameters: Any) -> Any:
    return rooms.http.get("/v1/notices", params=parameters, headers=rooms.as_(name))


def told(rooms: Rooms, name: str) -> list[str]:
    return [notice["type"] for notice in read(rooms, name).json()]


def tell(rooms: Rooms, name: str = "mobility", **members: Any) -> str:
    with rooms.database.transaction() as session:
        return notify(session, rooms.organization(name), "schema.published", {"dataset": "footfall", "number": 2}, **members).id


def ask_to_erase(rooms: Rooms, name: str = "mobility") -> str:
    data = {"dataset": "footfall", "provider": rooms.organization("bia")}
    with rooms.database.transaction() as session:
        return notify(session, rooms.organization(name), "erasure.requested", data, must_acknowledge_by=now() + WEEK).id


def acknowledge(rooms: Rooms, notice: str, name: str = "mobility") -> Any:
    return rooms.http.post(f"/v1/notices/{notice}/acknowledge", headers=rooms.as_(name))


def suspend_due(rooms: Rooms) -> int:
    with rooms.database.transaction() as session:
        return suspend_overdue(session, now() + WEEK)


def state(rooms: Rooms, contract: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = rooms.http.get(f"/v1/contracts/{contract['id']}", headers=rooms.as_("auditor")).json()
    return document


def test_each_party_is_told_what_the_other_did_to_their_contract(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.active()
    rooms.move(contract, "suspend", "bia", reason="Counters are replaced.")
    rooms.move(contract, "resume", "bia")
    rooms.move(contract, "end", "mobility")
    assert told(rooms, "bia") == ["contract.proposed", "contract.ended"]
    assert told(rooms, "mobility") == ["contract.active", "contract.suspended", "contract.active"]
    suspended = read(rooms, "mobility").json()[1]["data"]
    assert (suspended["contract"], suspended["dataset"], suspended["state"]) == (contract["id"], "footfall", "suspended")
    assert suspended["reason"] == "Counters are replaced."
    assert read(rooms, "bia").json()[-1]["data"]["ended_reason"] == "by_consumer"


def test_both_parties_are_told_what_the_officer_did_and_nobody_else(rooms: Rooms) -> None:
    rooms.register("footfall")
    rooms.move(rooms.active(), "suspend", "officer")
    assert told(rooms, "bia")[-1] == told(rooms, "mobility")[-1] == "contract.suspended"
    assert told(rooms, "stranger") == told(rooms, "officer") == []


def test_who_is_both_sides_of_a_contract_is_told_nothing(rooms: Rooms) -> None:
    rooms.register("footfall")
    rooms.sign(rooms.propose(by="bia"))
    assert told(rooms, "bia") == []


def test_a_schema_version_is_told_to_those_with_a_contract_that_has_not_ended(rooms: Rooms) -> None:
    dataset = rooms.register("footfall")
    rooms.active()
    rooms.move(rooms.propose(by="stranger"), "end", "stranger")
    body = {"schema": dataset["schema"] | {"description": "The same, explained."}}
    assert rooms.http.post("/v1/datasets/footfall/schemas", json=body, headers=rooms.as_("bia")).status_code == 201
    last = read(rooms, "mobility").json()[-1]
    assert (last["type"], last["data"]) == ("schema.published", {"dataset": "footfall", "number": 2})
    assert "schema.published" not in told(rooms, "stranger") + told(rooms, "bia")


def test_what_was_not_done_is_not_told(rooms: Rooms) -> None:
    def fail() -> None:
        with rooms.database.transaction() as session:
            notify(session, rooms.organization("mobility"), "schema.published", {"dataset": "footfall", "number": 2})
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - its own
        fail()
    assert told(rooms, "mobility") == []


def test_a_notice_fits_its_schema(rooms: Rooms) -> None:
    schema = orjson.loads((SCHEMAS / "notice.json").read_bytes())
    fits = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    rooms.register("footfall")
    rooms.active()
    acknowledge(rooms, ask_to_erase(rooms))
    found = read(rooms, "mobility").json() + schema["examples"]
    assert [error.message for notice in found for error in fits.iter_errors(notice)] == []
    assert {"mustacknowledgeby", "acknowledgedat"} <= set(found[1])


def test_a_cursor_goes_on_where_the_answer_before_ended(rooms: Rooms) -> None:
    sent = [tell(rooms) for _ in range(MOST + 3)]
    first = read(rooms, "mobility")
    second = read(rooms, "mobility", cursor=first.headers["next-cursor"])
    assert [notice["id"] for notice in first.json() + second.json()] == sent
    assert f"cursor={first.headers['next-cursor']}" in first.headers["link"]
    third = read(rooms, "mobility", cursor=second.headers["next-cursor"])
    assert third.json() == []
    latest = read(rooms, "mobility", cursor="latest")
    assert latest.json() == []
    later = tell(rooms)
    for answer in (third, latest):
        assert [notice["id"] for notice in read(rooms, "mobility", cursor=answer.headers["next-cursor"]).json()] == [later]


def test_notices_of_transactions_at_once_appear_behind_what_was_read(rooms: Rooms) -> None:
    seen: list[str] = []
    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(tell, rooms) for _ in range(40)]
        cursor = "earliest"
        while not all(done.done() for done in writing) or len(seen) < len(writing):
            page = read(rooms, "mobility", cursor=cursor)
            seen += [notice["id"] for notice in page.json()]
            cursor = page.headers["next-cursor"]
    assert len(seen) == len(set(seen)) == 40
    assert seen == [notice["id"] for notice in read(rooms, "mobility").json()]


@pytest.mark.parametrize("of", ["bia", "another key", "nonsense"])
def test_a_cursor_of_another_feed_is_refused(rooms: Rooms, of: str) -> None:
    tell(rooms, "bia")
    cursor = read(rooms, "bia").headers["next-cursor"] if of == "bia" else "A" * 40 if of == "nonsense" else cursor_of_contract(rooms)
    answer = read(rooms, "mobility", cursor=cursor)
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")


def cursor_of_contract(rooms: Rooms) -> str:
    return Cursors(rooms.held.secret("cursor")).seal(Cursor("con_1", "", {0: 0}))


def test_a_waiting_call_is_answered_by_the_next_notice(rooms: Rooms) -> None:
    cursor = read(rooms, "mobility", cursor="latest").headers["next-cursor"]
    began = time.monotonic()
    later = threading.Timer(0.3, tell, (rooms,))
    later.start()
    answer = read(rooms, "mobility", cursor=cursor, wait=20)
    later.join()
    assert len(answer.json()) == 1
    assert time.monotonic() - began < 10


def test_a_waiting_call_is_answered_empty_when_its_time_is_over(rooms: Rooms) -> None:
    answer = read(rooms, "mobility", wait=0.2)
    assert (answer.status_code, answer.json()) == (200, [])
    assert read(rooms, "mobility", cursor=answer.headers["next-cursor"]).status_code == 200


def test_many_who_wait_hold_no_thread(rooms: Rooms) -> None:
    with ThreadPoolExecutor(60) as callers:
        waiting = [callers.submit(read, rooms, "mobility", wait=20) for _ in range(60)]
        time.sleep(0.5)
        began = time.monotonic()
        assert rooms.http.get("/v1/datasets", headers=rooms.as_("bia")).status_code == 200
        assert time.monotonic() - began < 5
        tell(rooms)
        assert all(len(done.result(timeout=15).json()) == 1 for done in waiting)


@pytest.mark.parametrize(("parameters", "place"), [({"wait": 31}, "?wait"), ({"wait": -1}, "?wait"), ({"cursor": "x" * 5000}, "?cursor")])
def test_a_parameter_out_of_bounds_is_refused(rooms: Rooms, parameters: dict[str, Any], place: str) -> None:
    answer = read(rooms, "mobility", **parameters)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, place)


def test_acknowledging_again_gives_the_first_answer(rooms: Rooms) -> None:
    notice = ask_to_erase(rooms)
    first = acknowledge(rooms, notice)
    assert first.status_code == 200, first.text
    assert acknowledge(rooms, notice).json() == first.json()
    entries = rooms.audited("notice")
    assert [(entry["action"], entry["dataset"], entry["detail"]["notice"]) for entry in entries] == [("acknowledged", "footfall", notice)]


@pytest.mark.parametrize("notice", ["ntf_01kaqv8f7e9n3p5r7t9w1y3a5c", None])
def test_a_notice_of_others_is_not_there(rooms: Rooms, notice: str | None) -> None:
    answer = acknowledge(rooms, notice or ask_to_erase(rooms), "stranger")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_an_erasure_that_is_not_acknowledged_in_time_suspends_the_recipients_contracts_over_that_dataset(rooms: Rooms) -> None:
    for slug in ("footfall", "other"):
        rooms.register(slug)
    mine = rooms.active()
    other_dataset = rooms.sign(rooms.propose("other")).json()
    others = rooms.sign(rooms.propose(by="stranger")).json()
    ask_to_erase(rooms)
    with rooms.database.transaction() as session:
        assert not any_overdue(session, now())
        assert suspend_overdue(session, now()) == 0
        assert any_overdue(session, now() + WEEK)
    assert suspend_due(rooms) == 1
    suspended = state(rooms, mine)
    assert (suspended["state"], suspended["suspended_by"], suspended["reason"]) == ("suspended", "officer", REASON)
    assert state(rooms, other_dataset)["state"] == state(rooms, others)["state"] == "active"
    entry = rooms.audited("contract")[-1]
    assert (entry["action"], entry["contract"], entry["detail"]["reason"]) == ("suspended", mine["id"], "erasure_not_acknowledged")
    assert "actor" not in entry
    assert told(rooms, "bia")[-1] == told(rooms, "mobility")[-1] == "contract.suspended"
    view = rooms.contracts.get(mine["id"])
    assert view is not None
    assert view.state == "suspended"


def test_an_erasure_that_was_acknowledged_suspends_nothing(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.active()
    acknowledge(rooms, ask_to_erase(rooms))
    assert suspend_due(rooms) == 0
    assert state(rooms, contract)["state"] == "active"


def test_an_overdue_erasure_suspends_once_so_that_the_officer_decides(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.active()
    ask_to_erase(rooms)
    assert suspend_due(rooms) == 1
    assert rooms.move(contract, "resume", "bia").json()["code"] == "needs_officer"
    assert rooms.move(contract, "resume", "officer").json()["state"] == "active"
    assert suspend_due(rooms) == 0


def test_a_suspension_that_the_provider_could_lift_becomes_the_officers(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.active()
    rooms.move(contract, "suspend", "bia")
    ask_to_erase(rooms)
    assert suspend_due(rooms) == 1
    assert rooms.move(contract, "resume", "bia").json()["code"] == "needs_officer"


def test_old_notices_are_deleted_save_those_to_be_acknowledged(rooms: Rooms) -> None:
    tell(rooms)
    done, waiting = ask_to_erase(rooms), ask_to_erase(rooms)
    acknowledge(rooms, done)
    with rooms.database.transaction() as session:
        forget_old(session, now() - timedelta(days=1))
        assert session.query(Notice).count() == 3
        forget_old(session, now() + timedelta(days=1))
    assert [notice["id"] for notice in read(rooms, "mobility").json()] == [waiting]


def test_a_cursor_older_than_what_is_kept_is_told_so(rooms: Rooms) -> None:
    tell(rooms)
    cursor = read(rooms, "mobility").headers["next-cursor"]
    settings = rooms.app.state.settings
    rooms.app.state.settings = settings.model_copy(update={"notices_days": 0})
    time.sleep(1.1)  # a cursor knows its second
    answer = read(rooms, "mobility", cursor=cursor)
    rooms.app.state.settings = settings
    assert (answer.status_code, answer.json()["code"]) == (410, "cursor_expired")
    assert len(read(rooms, "mobility", cursor=answer.json()["earliest_cursor"]).json()) == 1
