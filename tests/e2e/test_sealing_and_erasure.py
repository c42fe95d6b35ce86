"""Sealed fields and erasure from end to end: nothing in clear in the log, nothing without the key, nobody left to find."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from connectors.client import Client, ProblemError
from gateway.catalog.models import Dataset
from gateway.setup import rotate_kek
from gateway.streams.kafka_log import KafkaLog
from gateway.streams.log import EventLog
from gateway.streams.sqlite_log import SQLiteLog
from tests.e2e.district import FOOTFALL, District, dataset_document, pulled, visit
from tests.gateway import READER, Gateway

SEALED = ["/at", "/age_band"]
"""The lens needs the one, for its time bucket, and never the other."""


class SealedDistrict(District):
    """A district whose footfall is stored with sealed fields."""

    def __post_init__(self) -> None:
        self.provider = self.gateway.partner("Port Credit BIA")
        self.provider.post("/v1/datasets", dataset_document(FOOTFALL) | {"sealed_pointers": SEALED})
        self.notice = self.new_notice()

    def erase(self, visitor: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.provider.post("/v1/subjects/erase", {"dataset": FOOTFALL, "subject": visitor})
        return answer


@pytest.fixture
def sealed(new_gateway: Callable[..., Gateway]) -> SealedDistrict:
    return SealedDistrict(new_gateway())


def stored(gateway: Gateway) -> list[dict[str, Any]]:
    """The footfall as it stands in the log."""
    database = gateway.database()
    with database.reading() as session:
        topic, partitions = session.execute(select(Dataset.topic, Dataset.partitions).where(Dataset.slug == FOOTFALL)).one()
    database.close()
    settings = gateway.settings()
    event_log: EventLog
    event_log = KafkaLog(settings.log_url.removeprefix("kafka://")) if settings.log_url else SQLiteLog(settings.data_dir / "log.db")

    async def read() -> list[dict[str, Any]]:
        await event_log.start()
        fetched = [await event_log.fetch(topic, partition, 0, max_bytes=1 << 20, wait_ms=0) for partition in range(partitions)]
        await event_log.stop()
        return [json.loads(value) for part in fetched for _, _, _, value in part.records]

    return asyncio.run(read())


def counted(gateway: Gateway, name: str) -> float:
    """A counter of the footfall."""
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics/", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f'{name}{{dataset="{FOOTFALL}"'))


def of(name: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["id"].startswith(f"{name}-")]


def test_sealed_fields_stand_in_the_log_sealed_and_reach_the_lens_in_clear(sealed: SealedDistrict) -> None:
    consumer = sealed.gateway.partner("Start-up", scopes=READER)
    sealed.consent("ada")
    sealed.publish(visit("ada"))

    (event,) = stored(sealed.gateway)
    (seen,) = pulled(consumer, sealed.contract(consumer))

    assert all(set(event["data"][pointer[1:]]) == {"sealed", "ct"} for pointer in SEALED)
    assert "25-34" not in json.dumps(event)
    assert event["data"]["zone"] == "port-credit-nhd-east"
    assert seen["data"]["at"] == "2026-11-23T12:00:00Z"
    assert "age_band" not in seen["data"]


def test_what_does_not_fit_in_clear_is_refused_before_it_is_sealed(sealed: SealedDistrict) -> None:
    with pytest.raises(ProblemError) as refused:
        sealed.publish(visit("bea", age_band="ancient"))
    assert refused.value.code == "event_does_not_fit"
    with pytest.raises(ProblemError) as refused:
        sealed.publish(visit("bea", age_band={"sealed": "x", "ct": "x"}))
    assert refused.value.code == "event_does_not_fit"


def test_an_erased_person_reaches_nobody_whatever_the_ground_and_comes_back_as_somebody_else(sealed: SealedDistrict) -> None:
    startup = sealed.gateway.partner("Start-up", scopes=READER)
    department = sealed.gateway.partner("Statistics", kind="department", scopes=READER)
    for name in ("carl", "dora"):
        sealed.consent(name)
    sealed.publish(visit("carl"), visit("dora"))
    by_consent, by_statute = sealed.contract(startup), sealed.contract(department, "official-statistics")
    before = of("carl", pulled(startup, by_consent))
    assert before
    assert of("carl", pulled(department, by_statute))

    answer = sealed.erase("carl")
    assert (answer["state"], answer["found"], answer["told"]) == ("erased", True, 2)
    for reader, contract in ((startup, by_consent), (department, by_statute)):
        events = pulled(reader, contract)
        assert of("dora", events)
        assert not of("carl", events)
    assert counted(sealed.gateway, "exchange_events_withheld_total") > 0

    sealed.publish(visit("carl", 2))
    assert not of("carl", pulled(startup, by_consent)), "a new subject, without consent"
    sealed.consent("carl")
    time.sleep(0.01)
    sealed.publish(visit("carl", 3))
    (after,) = of("carl", pulled(startup, by_consent))
    assert after["id"].startswith("carl-3")
    assert after["data"]["visitor"] != before[0]["data"]["visitor"]
    assert sealed.erase("carl")["found"]
    assert not sealed.erase("carl")["found"]


def test_recipients_are_told_by_the_name_that_they_know_and_acknowledge(sealed: SealedDistrict) -> None:
    startup, other = (sealed.gateway.partner(name, scopes=READER) for name in ("Start-up", "Nothing received"))
    sealed.consent("emil")
    contract = sealed.contract(startup)
    sealed.contract(other)
    sealed.publish(visit("emil"))
    (seen,) = pulled(startup, contract)

    assert sealed.erase("emil")["told"] == 1

    (notice,) = [notice for notice in startup.get("/v1/notices") if notice["type"] == "erasure.requested"]
    assert notice["data"]["contract"] == contract
    assert notice["data"]["pseudonyms"] == [seen["data"]["visitor"]]
    startup.post(f"/v1/notices/{notice['id']}/acknowledge")
    assert not [notice for notice in other.get("/v1/notices") if notice["type"] == "erasure.requested"]


def test_an_erased_persons_events_stop_in_an_open_stream(sealed: SealedDistrict) -> None:
    consumer = sealed.gateway.partner("Start-up", scopes=READER)
    for name in ("gus", "hal"):
        sealed.consent(name)
    contract = sealed.contract(consumer)
    heard: list[str] = []
    ready, done = threading.Event(), threading.Event()

    def listen() -> None:
        for message in consumer.stream(contract, cursor="latest"):
            ready.set()
            if message.kind == "event":
                heard.append(message.data["id"])
                if message.data["id"].startswith("hal-9"):
                    done.set()
                    return

    threading.Thread(target=listen, daemon=True).start()
    time.sleep(0.5)
    sealed.publish(visit("gus", 1), visit("hal", 1))
    assert ready.wait(10)
    deadline = time.monotonic() + 10
    while not any(name.startswith("gus-1") for name in heard) and time.monotonic() < deadline:
        time.sleep(0.02)
    sealed.erase("gus")
    sealed.publish(visit("gus", 2), visit("hal", 9))

    assert done.wait(15)
    assert any(name.startswith("gus-1") for name in heard)
    assert not any(name.startswith("gus-2") for name in heard)


def test_without_the_key_encryption_key_nothing_is_sealed_or_opened_and_nothing_fails(sealed: SealedDistrict) -> None:
    gateway = sealed.gateway
    consumer = gateway.partner("Start-up", scopes=READER)
    sealed.consent("ida")
    sealed.publish(visit("ida", 1))
    contract = sealed.contract(consumer)
    assert pulled(consumer, contract)

    key_file = gateway.settings().resolved_key_file
    whole = key_file.read_text()
    entries = [entry for entry in json.loads(whole)["keys"] if entry["use"] != "key_encryption"]
    gateway.stop()
    key_file.write_text(json.dumps({"v": 1, "keys": entries}))
    gateway.start()

    assert pulled(consumer, contract) == []
    assert counted(gateway, "exchange_events_unopened_total") >= 1
    with pytest.raises(ProblemError) as refused:
        sealed.provider.publish(FOOTFALL, [visit("ida", 2)], attempts=1)
    assert (refused.value.code, refused.value.status) == ("sealing_unavailable", 503)

    key_file.write_text(whole)  # it comes back, and nobody needs to be told
    sealed.publish(visit("ida", 3))
    assert {event["id"][:5] for event in pulled(consumer, contract)} == {"ida-1", "ida-3"}


def test_rotating_the_key_encryption_key_stops_nobody(sealed: SealedDistrict) -> None:
    gateway = sealed.gateway
    consumer = gateway.partner("Start-up", scopes=READER)
    for name in ("jo", "kim"):
        sealed.consent(name)
    sealed.publish(visit("jo", 1))
    contract = sealed.contract(consumer)
    assert pulled(consumer, contract)

    rotated = rotate_kek(gateway.settings())
    assert (rotated.rewrapped, rotated.lost) == (1, 0)
    sealed.publish(visit("jo", 2), visit("kim", 1))
    assert len(pulled(consumer, contract)) == 3
    again = rotate_kek(gateway.settings())
    assert (again.rewrapped, again.lost) == (2, 0)
    assert again.key != rotated.key

    gateway.stop()
    gateway.start()
    assert len(pulled(consumer, contract)) == 3


def test_an_open_dataset_has_nothing_to_erase_from(sealed: SealedDistrict) -> None:
    document = dataset_document("miway-stops")
    sealed.provider.post("/v1/datasets", document)
    refused: Client = sealed.provider
    with pytest.raises(ProblemError) as told:
        refused.post("/v1/subjects/erase", {"dataset": "miway-stops", "subject": "x"})
    assert told.value.code == "invalid_body"
