"""Bad days of the log: what was acknowledged is there afterwards, and subscribers hear all of it without doing anything."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from gateway.streams.kafka_log import KafkaLog
from gateway.streams.log import EventLog
from gateway.streams.recover import APART_S
from gateway.streams.sqlite_log import SQLiteLog
from tests.e2e.listener import Listener, until
from tests.e2e.open_data import Numbers, numbered
from tests.e2e.test_bad_cursors import dataset_of
from tests.e2e.wire import BATCH, SSE, problem, send
from tests.engines import Kafka
from tests.faults.publisher import Publisher, in_order
from tests.gateway import Gateway

NewGateway = Callable[..., Gateway]
MEBIBYTE = 1024 * 1024
PARTITIONED = {"partitions": 3, "key_pointer": "/key"}


def covered(numbers: Numbers) -> dict[int, set[int]]:
    """By partition, the offsets that a publish entry names, as the provider may know."""
    found: dict[int, set[int]] = {}
    for kind in ("publish", "publish_recovered"):
        after = ""
        while after is not None:
            given = {"after": after} if after else {}
            page = numbers.provider.get("/v1/audit/entries", dataset=numbers.slug, kind=kind, limit=500, **given)
            for item in page["items"]:
                for partition, (first, end) in item["opening"]["grant"].items():
                    found.setdefault(int(partition), set()).update(range(first, end))
            after = page["next"]
    return found


async def ends_of(log: EventLog, topic: str, partitions: int) -> dict[int, int]:
    await log.start()
    try:
        return {partition: (await log.bounds(topic, partition))[1] for partition in range(partitions)}
    finally:
        await log.stop()


def ends(numbers: Numbers) -> dict[int, int]:
    """By partition, the offset after the last record. The embedded log is read with its gateway stopped."""
    dataset, gateway = dataset_of(numbers), numbers.gateway
    if gateway.engines.real is not None:
        return asyncio.run(ends_of(KafkaLog(gateway.engines.real.kafka.bootstrap), dataset.topic, dataset.partitions))
    gateway.stop()
    try:
        return asyncio.run(ends_of(SQLiteLog(gateway.folder / "log.db"), dataset.topic, dataset.partitions))
    finally:
        gateway.start()


def every_offset_is_named(numbers: Numbers) -> bool:
    named = covered(numbers)
    return all(set(range(end)) <= named.get(partition, set()) for partition, end in ends(numbers).items())


def test_a_gateway_killed_while_events_are_published_loses_nothing_acknowledged(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway, PARTITIONED)
    with Publisher(numbers) as publisher:
        for _ in range(2):
            publisher.wait_for_more(60)
            gateway.kill()
            gateway.start()
        publisher.wait_for_more()

    found = numbers.pulled(numbers.provider)
    assert set(publisher.acknowledged) <= set(found)
    assert in_order(found)
    until(lambda: every_offset_is_named(numbers), "an entry for every position")
    assert "internal_error" not in publisher.refused


def test_positions_without_an_entry_get_one_when_the_gateway_starts(new_gateway: NewGateway) -> None:
    """As after a crash between the log's acknowledgement and the entry."""
    gateway = new_gateway()
    numbers = Numbers(gateway)
    numbers.publish(1, 2)
    dataset = dataset_of(numbers)
    gateway.kill()
    asyncio.run(_append(gateway, dataset.topic, [numbered(3) | {"schemaversion": 1}, numbered(4) | {"schemaversion": 1}]))
    gateway.start()

    until(lambda: len(_recovered(numbers)) == 1, "the entry")
    assert _recovered(numbers)[0]["opening"]["grant"] == {"0": [2, 4]}
    assert numbers.pulled(gateway.client()) == [1, 2, 3, 4]
    numbers.publish(5)
    gateway.stop()
    gateway.start()
    time.sleep(1.5)
    assert len(_recovered(numbers)) == 1


def test_replicas_that_find_the_same_positions_without_an_entry_write_one(new_gateway: NewGateway, kafka: Kafka) -> None:
    first = new_gateway()
    numbers = Numbers(first)
    numbers.publish(1)
    dataset = dataset_of(numbers)
    first.kill()
    asyncio.run(_append(first, dataset.topic, [numbered(2) | {"schemaversion": 1}]))
    replicas = [first, *(Gateway(first.engines, first.folder / f"beside-{number}", beside=first) for number in range(2))]
    try:
        with ThreadPoolExecutor(3) as starting:
            list(starting.map(Gateway.start, replicas))
        until(lambda: len(_recovered(numbers)) > 0, "the entry")
        time.sleep(APART_S + 2)  # in which the others have looked too
        assert [entry["opening"]["grant"] for entry in _recovered(numbers)] == [{"0": [1, 2]}]
    finally:
        for replica in replicas[1:]:
            replica.close()


async def _append(gateway: Gateway, topic: str, events: list[dict[str, Any]]) -> None:
    real = gateway.engines.real
    log: EventLog = KafkaLog(real.kafka.bootstrap) if real else SQLiteLog(gateway.folder / "log.db")
    await log.start()
    await log.append(topic, 0, [(b"key", orjson.dumps(event)) for event in events])
    await log.stop()


def _recovered(numbers: Numbers) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = numbers.provider.get("/v1/audit/entries", dataset=numbers.slug, kind="publish_recovered")["items"]
    return items


def test_a_broker_killed_loses_nothing_acknowledged_and_streams_go_on_by_themselves(new_gateway: NewGateway, kafka: Kafka) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway, PARTITIONED)
    with Listener(numbers.provider, numbers.slug) as listener, Publisher(numbers) as publisher:
        publisher.wait_for_more(60)
        kafka.kill()
        time.sleep(0.5)
        assert send(gateway.client(), "GET", "/readyz").json()["parts"]["log"] == "away"
        kafka.start()
        publisher.wait_for_more(60)
        publisher.stop()
        until(lambda: set(publisher.acknowledged) <= set(listener.numbers), "the stream has heard all")

        assert not listener.gone.is_set()
        assert in_order(listener.numbers)
    assert set(publisher.refused) <= {"log_unavailable", "partly_appended"}
    assert set(publisher.acknowledged) <= set(numbers.pulled(numbers.provider))
    until(lambda: every_offset_is_named(numbers), "an entry for every position")


def test_without_its_broker_the_gateway_starts_says_so_and_serves_the_control_plane(new_gateway: NewGateway, kafka: Kafka) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway)
    numbers.publish(1)
    gateway.stop()
    kafka.kill()
    gateway.start()

    assert send(gateway.client(), "GET", "/readyz").status_code == 200
    assert send(gateway.client(), "GET", "/readyz").json()["parts"]["log"] == "away"
    made = numbers.provider.post("/v1/contracts", {"dataset": numbers.slug, "purpose": "research"})
    assert made["state"] == "proposed"
    with ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        answers = [
            pool.submit(_publish, numbers, 2),
            pool.submit(send, numbers.provider, "GET", numbers.path),
            pool.submit(send, numbers.provider, "GET", numbers.path, params={"cursor": "latest"}, headers={"Accept": SSE}),
        ]
        for answer in answers:
            problem(answer.result(), "log_unavailable")
        assert time.monotonic() - began < 14
    kafka.start()
    # What the log remembers is held against the database before anything is delivered.
    until(lambda: send(numbers.provider, "GET", numbers.path).status_code == 200, "the log")
    assert numbers.pulled(numbers.provider) == [1]
    numbers.publish(3)
    assert numbers.pulled(numbers.provider) == [1, 3]


def test_a_full_disk_refuses_events_and_nothing_else(new_gateway: NewGateway) -> None:
    """The kernel lets no file of the gateway grow beyond a size, as a quota or a full disk would. Kafka's disk is not the gateway's."""
    gateway = new_gateway()
    numbers = Numbers(gateway)
    acknowledged = 0
    with Listener(numbers.provider, numbers.slug) as listener:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (8 * MEBIBYTE, resource.RLIM_INFINITY))
        answer = _publish(numbers, 0)
        while answer.status_code == 201 and acknowledged < (60 if gateway.engines.real is None else 3):
            acknowledged += 1
            answer = _publish(numbers, acknowledged)
        if gateway.engines.real is None:
            problem(answer, "log_unavailable")
            problem(_publish(numbers, 99), "log_unavailable")
            assert numbers.pulled(numbers.provider) == list(range(acknowledged))
            assert send(gateway.client(), "GET", "/readyz").status_code == 200
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        until(lambda: _publish(numbers, 100).status_code == 201, "space is back")
        listener.wait_for(100)
        assert listener.numbers[:acknowledged] == list(range(acknowledged))
    gateway.kill()
    gateway.start()
    found = numbers.pulled(numbers.provider)
    assert found[:acknowledged] == list(range(acknowledged))
    assert 100 in found


def _publish(numbers: Numbers, number: int) -> Any:
    content = orjson.dumps([numbered(number, text="x" * 600_000)])
    return send(numbers.provider, "POST", numbers.path, content=content, headers={"Content-Type": BATCH})
