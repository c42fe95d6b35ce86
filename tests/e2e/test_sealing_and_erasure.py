"""Sealed fields and erasure from end to end: nothing in clear in the log, nothing without the key, nobody left to find."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select

from connectors.client import Client, ProblemError
from consent.sealing import SubjectKey
from gateway.catalog.models import Dataset
from gateway.doctor import examine
from gateway.errors import AnotherGatewayIsLive, SettingsRefused
from gateway.keys import add_key_encryption_key
from gateway.setup import give_up_lost, rotate_kek
from gateway.streams.kafka_log import KafkaLog
from gateway.streams.log import EventLog
from gateway.streams.sqlite_log import SQLiteLog
from gateway.streams.views import AWAY_MS
from tests.e2e.district import FOOTFALL, District, dataset_document, pulled, visit
from tests.e2e.listener import Listener, until
from tests.e2e.wire import NDJSON, SSE, problem, send
from tests.gateway import READER, Gateway

SEALED = ["/at", "/age_band"]
"""The lens needs the one, for its time bucket, and never the other."""


@dataclass
class SealedDistrict(District):
    """A district whose footfall is stored with sealed fields."""

    sealed: list[str] = field(default_factory=lambda: SEALED)

    def __post_init__(self) -> None:
        self.provider = self.gateway.partner("Port Credit BIA")
        self.provider.post("/v1/datasets", dataset_document(FOOTFALL) | {"sealed_pointers": self.sealed})
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


@contextmanager
def key_away(gateway: Gateway) -> Iterator[None]:
    """The gateway started again without its key-encryption key, which comes back at the end; nobody needs to be told."""
    key_file = gateway.settings().resolved_key_file
    whole = key_file.read_text()
    document = json.loads(whole)
    entries = [entry for entry in document["keys"] if entry["use"] != "key_encryption"]
    gateway.stop()
    key_file.write_text(json.dumps(document | {"keys": entries}))
    gateway.start()
    yield
    key_file.write_text(whole)
    time.sleep(AWAY_MS / 1000)  # after which it is looked for again


def test_without_the_key_encryption_key_nothing_is_sealed_opened_or_passed_over(sealed: SealedDistrict) -> None:
    gateway = sealed.gateway
    consumer = gateway.partner("Start-up", scopes=READER)
    sealed.consent("ida")
    sealed.publish(visit("ida", 1))
    contract = sealed.contract(consumer)
    assert pulled(consumer, contract)

    with key_away(gateway):
        for accept in ("application/cloudevents-batch+json", NDJSON, SSE):
            told = send(consumer, "GET", f"/v1/contracts/{contract}/events", contract=contract, headers={"Accept": accept})
            problem(told, "sealing_unavailable")
        assert counted(gateway, "exchange_keys_away_total") >= 1
        assert counted(gateway, "exchange_events_unopened_total") == 0
        (finding,) = (finding for finding in examine(gateway.settings()) if finding.part == "sealing")
        assert not finding.well
        with pytest.raises(ProblemError) as refused:
            sealed.provider.publish(FOOTFALL, [visit("ida", 2)], attempts=1)
        assert (refused.value.code, refused.value.status) == ("sealing_unavailable", 503)

    sealed.publish(visit("ida", 3))
    assert {event["id"][:5] for event in pulled(consumer, contract)} == {"ida-1", "ida-3"}


@pytest.fixture
def half_sealed(new_gateway: Callable[..., Gateway]) -> tuple[SealedDistrict, Client, str]:
    """Lea's first visit stands in the log in clear, her second one sealed; with a reader and its contract."""
    district = SealedDistrict(new_gateway(), sealed=[])
    district.consent("lea")
    district.publish(visit("lea", 1))
    dataset = f"/v1/datasets/{FOOTFALL}"
    etag = district.provider.request("GET", dataset).headers["ETag"]
    district.provider.patch(dataset, {"sealed_pointers": SEALED}, etag=etag)
    district.publish(visit("lea", 2))
    consumer = district.gateway.partner("Start-up", scopes=READER)
    return district, consumer, district.contract(consumer)


def visits(events: list[dict[str, Any]]) -> list[str]:
    return [event["id"][:5] for event in events]


def test_an_open_stream_waits_for_a_key_encryption_key_that_is_away_and_misses_nothing(
    half_sealed: tuple[SealedDistrict, Client, str],
) -> None:
    district, consumer, contract = half_sealed
    with ExitStack() as away:
        away.enter_context(key_away(district.gateway))
        with Listener(consumer, contract, cursor="earliest") as listener:
            until(lambda: visits(listener.events) == ["lea-1"], "what is in clear")
            time.sleep(1.5)
            assert visits(listener.events) == ["lea-1"]
            away.close()  # the key is back
            until(lambda: visits(listener.events) == ["lea-1", "lea-2"], "what waited for the key")
            assert listener.ended is None


def test_a_stream_ends_with_the_reason_and_resumes_before_what_the_key_encryption_key_is_missing_for(
    half_sealed: tuple[SealedDistrict, Client, str],
) -> None:
    district, consumer, contract = half_sealed
    path = f"/v1/contracts/{contract}/events"
    with key_away(district.gateway):
        page = send(consumer, "GET", path, contract=contract)
        lines = send(consumer, "GET", path, contract=contract, headers={"Accept": NDJSON})
        with Listener(consumer, contract, cursor="earliest") as listener:
            assert listener.wait_for_end()["code"] == "sealing_unavailable"
        cursors = [page.headers["Next-Cursor"], json.loads(lines.text.splitlines()[-1])["next_cursor"], listener.cursor]
        for cursor in cursors:
            problem(send(consumer, "GET", path, contract=contract, params={"cursor": cursor}), "sealing_unavailable")
    assert visits(page.json()) == visits(listener.events) == ["lea-1"]
    assert json.loads(lines.text.splitlines()[-1])["end"]["code"] == "sealing_unavailable"
    for cursor in cursors:
        assert visits(pulled(consumer, contract, cursor=cursor)) == ["lea-2"]


def test_keys_under_a_lost_key_encryption_key_are_given_up_only_with_every_gateway_stopped(
    half_sealed: tuple[SealedDistrict, Client, str],
) -> None:
    district, consumer, contract = half_sealed
    gateway = district.gateway
    with ExitStack() as lost:
        lost.enter_context(key_away(gateway))
        lost.pop_all()  # for good
    with pytest.raises((SettingsRefused, AnotherGatewayIsLive)):
        give_up_lost(gateway.settings())
    gateway.stop()
    with pytest.raises(SettingsRefused, match="there is no key-encryption key"):
        give_up_lost(gateway.settings())
    add_key_encryption_key(gateway.settings().resolved_key_file)
    time.sleep(3)  # the stopped gateway's lease
    assert give_up_lost(gateway.settings()) == 1
    assert give_up_lost(gateway.settings()) == 0
    gateway.start()

    district.publish(visit("lea", 3))
    assert visits(pulled(consumer, contract)) == ["lea-1", "lea-3"]
    assert counted(gateway, "exchange_events_unopened_total") == 1


def test_an_event_that_never_opens_counts_once_for_each_reading_that_passes_it(sealed: SealedDistrict) -> None:
    gateway = sealed.gateway
    consumers = [gateway.partner(name, scopes=READER) for name in ("Start-up", "Another")]
    for name in ("max", "nia"):
        sealed.consent(name)
    sealed.publish(visit("max", 1), visit("nia", 1))
    contracts = [sealed.contract(consumer) for consumer in consumers]
    gateway.stop()
    database = gateway.database()
    with database.transaction() as session:
        key = session.scalars(select(SubjectKey).order_by(SubjectKey.id)).first()
        assert key is not None
        key.wrapped = bytes(len(key.wrapped))
    database.close()
    gateway.start()

    with Listener(consumers[0], contracts[0], cursor="earliest") as listener:
        until(lambda: len(listener.events) == 1, "whose event opens")
        for name in ("olga", "pia", "quin"):  # each is a change after which what is on its way is judged again
            sealed.provider.post(f"/v1/consents/{sealed.consent(name)}/withdraw")
        assert counted(gateway, "exchange_events_unopened_total") == 1
    for consumer, contract in zip(consumers, contracts, strict=True):
        assert len(pulled(consumer, contract)) == 1
    assert counted(gateway, "exchange_events_unopened_total") == 3


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
