"""Grants: a stream writes an entry a second while little comes, and what leaves meanwhile leaves under that."""

from __future__ import annotations

import time
from base64 import b64decode
from typing import Any

from connectors.client import Client
from gateway.keys import b64
from gateway.streams.deliver import GRANT_S
from tests.e2e.district import District, visit
from tests.e2e.listener import Listener, until
from tests.gateway import Gateway


def grants(gateway: Gateway, contract: str) -> list[dict[str, Any]]:
    """The contract's releases that grant something, oldest first; those that only close an account are not among them."""
    items = gateway.operator().get("/v1/audit/entries", contract=contract, kind="release", limit=500)["items"]
    return sorted((item for item in items if item["opening"]["grant"]), key=lambda item: item["at"])


def wait_for(listener: Listener, person: str, count: int) -> None:
    """Return once so many events about this person were heard."""
    until(lambda: heard_about(listener, person) == count, f"event {count} about {person}")


def heard_about(listener: Listener, person: str) -> int:
    return sum(event["id"].startswith(f"{person}-") for event in listener.events)


def test_events_that_come_one_by_one_leave_under_an_entry_a_second(district: District, consumer: Client, gateway: Gateway) -> None:
    district.consent("kim")
    contract = district.contract(consumer)
    began = time.monotonic()
    with Listener(consumer, contract, cursor="latest") as listener:
        for number in range(30):
            district.publish(visit("kim", number))
            wait_for(listener, "kim", number + 1)
        until(lambda: sum(receipt["events"] for receipt in listener.receipts) == 30, "the receipts")
        seconds = time.monotonic() - began
    written = grants(gateway, contract)

    assert 1 <= len(written) <= seconds + 1
    heard = {b64(b64decode(receipt["audit_entry"].removeprefix("sha-256=:").removesuffix(":"))) for receipt in listener.receipts}
    assert heard == {item["leaf_hash"] for item in written}
    until(lambda: sum(day["events"] for day in consumer.get(f"/v1/contracts/{contract}/usage")["days"]) == 30, "the account is closed")


def test_a_grant_lapses_after_a_second(district: District, consumer: Client, gateway: Gateway) -> None:
    district.consent("joe")
    contract = district.contract(consumer)
    with Listener(consumer, contract, cursor="latest") as listener:
        for number in range(2):
            district.publish(visit("joe", number))
            wait_for(listener, "joe", number + 1)
            time.sleep(GRANT_S)
    first, second = grants(gateway, contract)

    assert "closed" not in first["entry"]
    assert second["entry"]["closed"]["events"] == 1
    ((partition, last),) = second["opening"]["last"].items()
    granted_from, granted_to = first["opening"]["grant"][partition]
    assert granted_from <= last < granted_to


def test_a_grant_ends_when_a_change_forbids_something(district: District, consumer: Client, gateway: Gateway) -> None:
    district.consent("lea")
    contract = district.contract(consumer)
    with Listener(consumer, contract, cursor="latest") as listener:
        while True:
            other = district.consent("max")
            began = time.monotonic()
            before = heard_about(listener, "lea")
            district.publish(visit("lea", 1))
            wait_for(listener, "lea", before + 1)
            known = len(grants(gateway, contract))
            district.provider.post(f"/v1/consents/{other}/withdraw")
            district.publish(visit("lea", 2))
            wait_for(listener, "lea", before + 2)
            if time.monotonic() - began < 1:  # else the grant may have lapsed by itself
                break
    first, second = grants(gateway, contract)[known - 1 : known + 1]
    passed = gateway.operator().get("/v1/audit/entries", kind="barrier_passed", limit=500)["items"]

    assert first["entry"]["decision"] == second["entry"]["decision"]
    assert first["entry"]["change"] < max(item["entry"]["change"] for item in passed) <= second["entry"]["change"]
