"""A resident with the provider's code sees who received something about them; both parties are told what happened to their contract."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx2

from connectors.client import Client
from tests.e2e.district import FOOTFALL, District, pulled, visit
from tests.gateway import READER, Gateway

PATIENCE_S = 15.0
ZONE = "port-credit-nhd-east"


def session_of(district: District, gateway: Gateway, visitor: str) -> dict[str, str]:
    """What opens a person's answers, from the code that the provider gave them."""
    code = district.provider.post("/v1/subjects/codes", {"dataset": FOOTFALL, "subject": visitor})["code"]
    opened = httpx2.post(f"{gateway.url}/v1/subjects/sessions", json={"code": code})
    assert opened.status_code == 201, opened.text
    return {"Authorization": f"Bearer {opened.json()['token']}"}


def ask(gateway: Gateway, what: str, headers: dict[str, str]) -> Any:
    answer = httpx2.get(f"{gateway.url}/v1/subjects/self/{what}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def received(gateway: Gateway, headers: dict[str, str], contract: str, events: int) -> dict[str, Any]:
    """What the person is told of this contract, once so many events are written down."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = [item for item in ask(gateway, "disclosures", headers)["items"] if item["contract"] == contract]
        if sum(item["events"] for item in found) >= events or time.monotonic() > deadline:
            assert sum(item["events"] for item in found) == events
            disclosed: dict[str, Any] = found[0]
            return disclosed
        time.sleep(0.2)


def test_a_person_sees_who_received_their_events_by_pull_and_by_stream(district: District, consumer: Client, gateway: Gateway) -> None:
    mine, other = f"person-{secrets.token_hex(4)}", f"person-{secrets.token_hex(4)}"
    district.consent(mine)
    district.consent(other)
    contract = district.contract(consumer)
    district.publish(visit(mine, 1, zone=ZONE), visit(mine, 2, zone=ZONE), visit(other, 1, zone=ZONE))
    delivered = [event["id"] for event in pulled(consumer, contract)]
    assert len([name for name in delivered if name.startswith(mine)]) == 2
    for message in consumer.stream(contract, cursor="earliest"):
        if message.kind == "event" and message.data["id"].startswith(other):
            break

    headers = session_of(district, gateway, mine)
    told = received(gateway, headers, contract, events=4)

    assert told["recipient"]["id"] == consumer.get(f"/v1/contracts/{contract}")["consumer"]
    assert (told["dataset"], told["purpose"]) == (FOOTFALL, "transit-planning")
    assert gateway.operator().get(f"/v1/decisions/{told['decision']}")["allow"]
    export = ask(gateway, "export", headers)
    assert [found["state"] for found in export["consents"]] == ["given"]
    assert mine not in str(export)
    assert other not in str(export)


def test_what_was_withheld_is_disclosed_to_nobody(district: District, consumer: Client, gateway: Gateway) -> None:
    shared, silent = f"person-{secrets.token_hex(4)}", f"person-{secrets.token_hex(4)}"
    district.consent(shared)
    contract = district.contract(consumer)
    district.publish(visit(shared, zone=ZONE), visit(silent, zone=ZONE))
    pulled(consumer, contract)
    received(gateway, session_of(district, gateway, shared), contract, events=1)

    assert ask(gateway, "disclosures", session_of(district, gateway, silent))["items"] == []


def test_what_left_before_a_stop_is_disclosed_after_it(new_gateway: Callable[..., Gateway]) -> None:
    mine, gateway = f"person-{secrets.token_hex(4)}", new_gateway()
    district, consumer = District(gateway), gateway.partner("Start-up", scopes=READER)
    district.consent(mine)
    contract = district.contract(consumer)
    district.publish(visit(mine, zone=ZONE))
    pulled(consumer, contract)
    gateway.stop()
    gateway.start()

    assert received(gateway, session_of(district, gateway, mine), contract, events=1)["contract"] == contract


def test_both_parties_read_in_their_feeds_what_the_other_did(district: District, consumer: Client) -> None:
    contract = district.contract(consumer)
    district.provider.post(f"/v1/contracts/{contract}/suspend", {"reason": "A question is open."})
    feeds = [feed(client, contract) for client in (district.provider, consumer)]

    assert feeds == [["contract.proposed"], ["contract.active", "contract.suspended"]]


def feed(client: Client, contract: str) -> list[str]:
    """The types of the notices about this contract."""
    found: list[str] = []
    cursor = "earliest"
    while True:
        page = client.request("GET", "/v1/notices", params={"cursor": cursor})
        found += [notice["type"] for notice in page.json() if notice["data"].get("contract") == contract]
        if not page.json():
            return found
        cursor = page.headers["Next-Cursor"]
