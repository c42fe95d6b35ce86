"""Publish, decide, deliver, prove: the whole line, on both sets of engines."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from connectors.client import Client, ProblemError
from tests.e2e.district import FOOTFALL, District, pulled, visit
from tests.gateway import Gateway


def test_consumer_receives_the_named_fields_under_a_pseudonym(district: District, consumer: Client) -> None:
    district.consent("ada")
    contract = district.contract(consumer)
    district.publish(visit("ada", 1), visit("ada", 2))

    events = [event for event in pulled(consumer, contract) if event["id"].startswith("ada-")]

    assert [event["data"]["dwell_seconds"] for event in events] == [300, 300]
    for event in events:
        assert set(event["data"]) == {"zone", "at", "visitor", "dwell_seconds", "synthetic"}
        assert event["data"]["at"] == event["time"] == "2026-11-23T12:00:00Z"
        assert event["contract"] == contract
        assert event["dataset"] == FOOTFALL
    pseudonyms = {event["data"]["visitor"] for event in events}
    assert len(pseudonyms) == 1
    assert not pseudonyms & {"ada"}


def test_two_contracts_see_different_pseudonyms_of_one_person(district: District, consumer: Client, gateway: Gateway) -> None:
    district.consent("bea")
    other = gateway.partner("Another start-up")
    district.publish(visit("bea"))

    seen = [
        {event["data"]["visitor"] for event in pulled(reader, district.contract(reader)) if event["id"].startswith("bea-")}
        for reader in (consumer, other)
    ]

    assert all(len(pseudonyms) == 1 for pseudonyms in seen)
    assert seen[0] != seen[1]


def test_only_events_of_people_who_consented_pass(district: District, consumer: Client) -> None:
    district.consent("carl")
    contract = district.contract(consumer)
    district.publish(visit("carl"), visit("dora"))

    names = {event["id"].split("-")[0] for event in pulled(consumer, contract)}

    assert "carl" in names
    assert "dora" not in names


def test_events_from_before_the_consent_do_not_pass(district: District, consumer: Client) -> None:
    district.publish(visit("emil", 1))
    time.sleep(0.01)
    district.consent("emil")
    time.sleep(0.01)
    district.publish(visit("emil", 2))

    mine = [event["id"][:6] for event in pulled(consumer, district.contract(consumer)) if event["id"].startswith("emil-")]

    assert mine == ["emil-2"]


def test_every_delivered_event_fits_the_schema_of_its_contract(district: District, consumer: Client) -> None:
    import jsonschema_rs

    district.consent("fay")
    district.publish(visit("fay"))
    contract = district.contract(consumer)
    schema = consumer.get(f"/v1/contracts/{contract}/schema")

    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    events = pulled(consumer, contract)

    assert events
    for event in events:
        assert event["dataschema"].endswith(f"/v1/contracts/{contract}/schema")
        assert validator.is_valid(event["data"])


def test_a_purpose_that_the_rule_sheet_does_not_cover_is_refused_before_anybody_is_asked(district: District, consumer: Client) -> None:
    with pytest.raises(ProblemError) as refused:
        consumer.post("/v1/contracts", {"dataset": FOOTFALL, "purpose": "advertising"})

    assert refused.value.code == "policy_denied"
    assert district.provider.get("/v1/contracts")["items"] == [
        contract for contract in district.provider.get("/v1/contracts")["items"] if contract["purpose"] != "advertising"
    ]


def test_withdrawn_consent_stops_delivery_of_that_subject_in_an_open_stream(district: District, consumer: Client) -> None:
    going, staying = district.consent("gus"), district.consent("hal")
    assert staying
    contract = district.contract(consumer)
    heard: list[tuple[str, float]] = []
    ready = threading.Event()

    def listen() -> None:
        for message in consumer.stream(contract, cursor="latest"):
            ready.set()
            if message.kind == "event":
                heard.append((message.data["id"], time.monotonic()))
            if message.kind == "end" or (heard and heard[-1][0].startswith("hal-99")):
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    time.sleep(0.5)
    district.publish(visit("gus", 1), visit("hal", 1))
    assert ready.wait(10)
    answer = district.provider.post(f"/v1/consents/{going}/withdraw")
    returned = time.monotonic()
    district.publish(visit("gus", 2), visit("hal", 2))
    district.publish(visit("gus", 3), visit("hal", 99))
    listener.join(15)

    assert answer["state"] == "withdrawn"
    assert any(name.startswith("gus-1") for name, _ in heard)
    assert any(name.startswith("hal-99") for name, _ in heard)
    assert [name for name, at in heard if name.startswith("gus-") and at > returned + 0.2] == []
    assert not any(name.startswith(("gus-2", "gus-3")) for name, _ in heard)


def test_a_stream_ends_with_the_reason_when_its_contract_is_suspended(district: District, consumer: Client) -> None:
    contract = district.contract(consumer)
    ended: list[dict[str, Any]] = []

    def listen() -> None:
        ended.extend(message.data for message in consumer.stream(contract, cursor="latest") if message.kind == "end")

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    time.sleep(0.5)
    district.provider.post(f"/v1/contracts/{contract}/suspend", {"reason": "audit", "note": "A question is open."})
    listener.join(10)

    assert [problem["code"] for problem in ended] == ["contract_not_in_force"]
    with pytest.raises(ProblemError) as refused:
        pulled(consumer, contract)
    assert refused.value.code == "contract_not_in_force"


def test_a_cursor_resumes_without_gap_or_double(district: District, consumer: Client) -> None:
    district.consent("ida")
    contract = district.contract(consumer)
    district.publish(*(visit("ida", number) for number in range(30)))

    seen: list[str] = []
    cursor = None
    while True:
        page = next(consumer.pull(contract, cursor=cursor, limit_bytes=2000))
        seen += [event["id"] for event in page.events if event["id"].startswith("ida-")]
        cursor = page.next_cursor
        if not page.events:
            break

    assert len(seen) == len(set(seen)) == 30


def test_the_receipt_of_a_delivery_is_in_the_audit_log(district: District, consumer: Client, gateway: Gateway) -> None:
    district.consent("jon")
    contract = district.contract(consumer)
    district.publish(visit("jon"))
    page = next(consumer.pull(contract))

    found = gateway.operator().get("/v1/audit/entries", contract=contract, kind="release")["items"]

    assert page.audit_entry.startswith("sha-256=:")
    assert [item["entry"]["closed"]["events"] for item in found] == [len(page.events)]
    assert all(item["entry"]["decision"].startswith("dec_") for item in found)
    mine = consumer.get("/v1/audit/entries", contract=contract, kind="release")["items"]
    assert len(mine) == 1
    assert "opening" not in mine[0] or mine[0]["opening"] is None


def test_a_refusal_names_a_decision_that_the_refused_and_the_auditor_can_read(
    district: District, consumer: Client, gateway: Gateway
) -> None:
    with pytest.raises(ProblemError) as refused:
        consumer.post("/v1/contracts", {"dataset": FOOTFALL, "purpose": "advertising"})
    decision = refused.value.members["decision_id"]

    for reader in (consumer, gateway.operator()):
        made = reader.get(f"/v1/decisions/{decision}")
        assert made["allow"] is False
        assert "purpose_not_covered" in [reason["code"] for reason in made["reasons"]]
        assert made["facts"]["purpose"]["code"] == "advertising"
    with pytest.raises(ProblemError) as hidden:
        district.provider.get(f"/v1/decisions/{decision}")
    assert hidden.value.code == "not_found"
