from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.catalog.rooms import ISSUER, Rooms


def test_contract_is_there_for_its_parties_and_those_who_oversee_only(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.propose()
    for below in ("", "/text", "/schema", "/asyncapi.json"):
        path = f"/v1/contracts/{contract['id']}{below}"
        sees = {name: rooms.http.get(path, headers=rooms.as_(name)).status_code for name in rooms.people.principals}
        assert sees == {"city": 200, "bia": 200, "mobility": 200, "stranger": 404, "officer": 200, "officer in person": 200, "auditor": 200}
    for verb in ("sign", "suspend", "resume", "end"):
        body = {"text_digest": contract["text_digest"]} if verb == "sign" else {}
        path = f"/v1/contracts/{contract['id']}/{verb}"
        assert rooms.http.post(path, json=body, headers=rooms.as_("stranger")).status_code == 404
        assert rooms.http.post(path, json=body, headers=rooms.as_("auditor")).json()["code"] == "role_missing"
    listed = {
        name: len(rooms.http.get("/v1/contracts", headers=rooms.as_(name)).json()["items"]) for name in ("bia", "stranger", "auditor")
    }
    assert listed == {"bia": 1, "stranger": 0, "auditor": 1}
    assert rooms.http.get(f"/v1/contracts/{contract['id']}").status_code == 401


def test_contracts_are_listed_by_state_and_dataset(rooms: Rooms) -> None:
    rooms.register("footfall")
    rooms.register("stops")
    active, proposed = rooms.active(), rooms.propose("stops")

    def ids(query: str) -> list[str]:
        return [item["id"] for item in rooms.http.get(f"/v1/contracts?{query}", headers=rooms.as_("bia")).json()["items"]]

    assert ids("state=active") == [active["id"]]
    assert ids("dataset=stops") == [proposed["id"]]
    assert ids("limit=1") == [active["id"]]
    assert ids(f"limit=1&after={active['id']}") == [proposed["id"]]
    for query in ("state=broken", "dataset=No%20Slug", "limit=0"):
        assert rooms.http.get(f"/v1/contracts?{query}", headers=rooms.as_("bia")).status_code == 422


def test_schema_and_asyncapi_are_of_what_the_contract_receives(rooms: Rooms, asyncapi_errors: Callable[[str], list[str]]) -> None:
    rooms.register("footfall", "personal")
    contract = rooms.propose()
    path = f"/v1/contracts/{contract['id']}"
    schema = rooms.http.get(f"{path}/schema", headers=rooms.as_("mobility"))
    assert schema.headers["Content-Type"] == "application/schema+json"
    assert schema.json()["properties"].keys() == {"zone"}
    document = rooms.http.get(f"{path}/asyncapi.json", headers=rooms.as_("mobility")).json()
    assert document["channels"]["events"]["address"] == f"{path}/events"
    assert document["servers"]["exchange"]["host"] == ISSUER.removeprefix("http://")
    assert document["components"]["schemas"]["data"]["properties"] == {"zone": {"$ref": "#/components/schemas/data/$defs/zone"}}
    assert asyncapi_errors(json.dumps(document)) == []


def test_reader_waits_until_the_state_is_another(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.propose()
    path = f"/v1/contracts/{contract['id']}?wait=20&state=proposed"
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(rooms.http.get(path, headers=rooms.as_("mobility")).json()))
    waiting.start()
    time.sleep(0.3)
    assert answers == []
    began = time.monotonic()
    rooms.sign(contract)
    waiting.join(10)
    assert answers[0]["state"] == "active"
    assert time.monotonic() - began < 5
    assert rooms.http.get(path, headers=rooms.as_("mobility")).json()["state"] == "active"


def test_wait_ends_after_its_seconds(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.propose()
    began = time.monotonic()
    answer = rooms.http.get(f"/v1/contracts/{contract['id']}?wait=1&state=proposed", headers=rooms.as_("mobility"))
    assert answer.json()["state"] == "proposed"
    assert 0.9 < time.monotonic() - began < 4


@pytest.mark.parametrize(
    "query", ["wait=31&state=proposed", "wait=-1&state=proposed", "wait=1", "wait=1&state=unheard-of", "wait=x&state=proposed"]
)
def test_wait_that_makes_no_sense_is_refused(rooms: Rooms, query: str) -> None:
    rooms.register("footfall")
    contract = rooms.propose()
    assert rooms.http.get(f"/v1/contracts/{contract['id']}?{query}", headers=rooms.as_("mobility")).status_code == 422


def test_five_hundred_who_wait_hold_no_thread_and_are_let_go_at_the_end(rooms: Rooms) -> None:
    rooms.register("footfall")
    contract = rooms.propose()

    async def wait_all() -> float:
        before = threading.active_count()
        waiting = [asyncio.create_task(rooms.contracts.wait_while(contract["id"], "proposed", 30)) for _ in range(500)]
        await asyncio.sleep(0.1)
        assert threading.active_count() == before
        assert not any(task.done() for task in waiting)
        began = time.monotonic()
        rooms.contracts.stop()
        await asyncio.gather(*waiting)
        return time.monotonic() - began

    assert asyncio.run(wait_all()) < 2
