"""Cursors: what is forged, another's, too old or from the future; and the places that words and times name."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from kafka import KafkaAdminClient, TopicPartition
from sqlalchemy import select

from connectors.client import Client
from gateway.catalog.models import Dataset
from gateway.keys import read_keys
from gateway.streams.cursor import Cursor, Cursors
from gateway.streams.kafka_log import KafkaLog
from tests.e2e.open_data import Numbers
from tests.e2e.wire import problem, send
from tests.gateway import Gateway


def dataset_of(numbers: Numbers) -> Dataset:
    database = numbers.gateway.database()
    try:
        with database.reading() as session:
            return session.scalars(select(Dataset).where(Dataset.slug == numbers.slug)).one()
    finally:
        database.close()


def sealed(numbers: Numbers, offset: int, *, topic_id: str | None = None) -> str:
    """A cursor of the dataset's at this offset, made with the gateway's own key."""
    key = read_keys(numbers.gateway.settings().resolved_key_file).secret("cursor")
    return Cursors(key).seal(Cursor(numbers.slug, topic_id or dataset_of(numbers).topic_id or "", {0: offset}))


def raw(cursor: str) -> bytes:
    return base64.urlsafe_b64decode(cursor + "==")


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: "x",
        lambda _: "AAAA",
        lambda _: "é" * 20,
        lambda _: "a" * 4000,
        lambda good: good[:-10],
        lambda good: text(raw(good)[:-1] + bytes([raw(good)[-1] ^ 1])),
        lambda good: text(raw(good)[:12]),
        lambda good: text(b"\xff" + raw(good)[1:]),
        lambda good: text(raw(good)[:1] + b"x" + raw(good)[2:]),
        lambda _: "2026-11-23T12:00:00",
        lambda _: "2026-13-01T00:00:00Z",
        lambda _: "Latest",
    ],
)
def test_a_forged_cursor_is_refused(numbers: Numbers, forge: Callable[[str], str]) -> None:
    good = send(numbers.gateway.operator(), "GET", numbers.path).headers["next-cursor"]

    problem(send(numbers.provider, "GET", numbers.path, params={"cursor": forge(good)}), "cursor_invalid")


def test_a_cursor_tells_no_offset_and_no_two_are_alike(numbers: Numbers) -> None:
    first, second = (sealed(numbers, 7) for _ in range(2))

    assert first != second
    assert len(first) == len(second)


def test_a_cursor_of_another_contract_or_dataset_is_refused(gateway: Gateway, numbers: Numbers, reader: Client) -> None:
    mine, other = numbers.contract(reader), numbers.contract(reader)
    numbers.publish(1)
    cursor = next(reader.pull(mine)).next_cursor

    assert next(reader.pull(mine, cursor=cursor)).events == []
    for path, contract in ((f"/v1/contracts/{other}/events", other), (numbers.path, None), (Numbers(gateway).path, None)):
        problem(send(reader, "GET", path, contract=contract, params={"cursor": cursor}), "cursor_invalid")


def test_a_cursor_beyond_the_end_says_that_the_log_went_back(numbers: Numbers) -> None:
    numbers.publish(1)

    for form in ("application/cloudevents-batch+json", "text/event-stream"):
        answer = send(numbers.provider, "GET", numbers.path, params={"cursor": sealed(numbers, 1000)}, headers={"Accept": form})
        problem(answer, "log_went_back")


def test_a_cursor_of_a_topic_that_was_made_again_is_expired(numbers: Numbers) -> None:
    numbers.publish(1, 2)

    told = problem(send(numbers.provider, "GET", numbers.path, params={"cursor": sealed(numbers, 0, topic_id="another")}), "cursor_expired")

    assert numbers.pulled(numbers.provider, cursor=told["earliest_cursor"]) == [1, 2]


def test_a_cursor_older_than_the_retention_is_expired_and_names_the_earliest(numbers: Numbers) -> None:
    before = next(numbers.provider.pull(numbers.slug)).next_cursor
    numbers.publish(1, 2, 3)
    _delete_before(numbers, 2)

    told = problem(send(numbers.provider, "GET", numbers.path, params={"cursor": before}), "cursor_expired")

    assert numbers.pulled(numbers.provider, cursor=told["earliest_cursor"]) == [3]
    assert numbers.pulled(numbers.provider) == [3]


def _delete_before(numbers: Numbers, offset: int) -> None:
    """What retention does, at once. The embedded log sweeps every five seconds; here the gateway rests while its file is swept."""
    dataset, gateway = dataset_of(numbers), numbers.gateway
    if gateway.engines.real is not None:
        admin = KafkaAdminClient(bootstrap_servers=gateway.engines.real.kafka.bootstrap)
        admin.delete_records({TopicPartition(dataset.topic, 0): offset})
        admin.close()
        return
    gateway.stop()
    with sqlite3.connect(gateway.folder / "log.db") as log:
        (number,) = log.execute("SELECT number FROM partitions WHERE topic_id = ?", (dataset.topic_id,)).fetchone()
        log.execute("UPDATE partitions SET earliest = ? WHERE number = ?", (offset, number))
        log.execute("DELETE FROM records WHERE place >= ? AND place < ?", (number << 40, number << 40 | offset))
    log.close()
    gateway.start()


def test_a_topic_that_is_gone_is_an_answer_and_no_server_error(numbers: Numbers) -> None:
    """An administrator deleted it, and made another under its name: what was in it is not what a cursor spoke of."""
    numbers.publish(1, 2)
    cursor = next(numbers.provider.pull(numbers.slug)).next_cursor
    _make_again(numbers)

    answer = send(numbers.provider, "GET", numbers.path, params={"cursor": cursor})
    assert answer.json()["code"] == "cursor_expired"
    assert answer.status_code == 410
    for params in ({}, {"cursor": "latest"}, {"cursor": "2026-11-23T12:00:00Z"}):
        assert send(numbers.provider, "GET", numbers.path, params=params).json()["code"] == "log_unavailable"
    problem(
        send(numbers.provider, "POST", numbers.path, content=b"[]", headers={"Content-Type": "application/cloudevents-batch+json"}),
        "event_does_not_fit",
    )


def _make_again(numbers: Numbers) -> None:
    dataset, gateway = dataset_of(numbers), numbers.gateway
    if gateway.engines.real is not None:
        asyncio.run(_make_again_in_kafka(gateway.engines.real.kafka.bootstrap, dataset.topic))
        return
    gateway.stop()
    with sqlite3.connect(gateway.folder / "log.db") as log:
        log.execute("UPDATE topics SET id = 'again' WHERE id = ?", (dataset.topic_id,))
        log.execute("UPDATE partitions SET topic_id = 'again' WHERE topic_id = ?", (dataset.topic_id,))
    log.close()
    gateway.start()


async def _make_again_in_kafka(bootstrap: str, topic: str) -> None:
    log = KafkaLog(bootstrap)
    await log.start()
    await log.delete_topic(topic)
    await log.ensure_topic(topic, partitions=1, retention_ms=None)
    await log.stop()
    await asyncio.sleep(1.1)  # a gateway believes what it knows of a topic for a second


def test_latest_answers_with_a_cursor_at_once(numbers: Numbers, reader: Client) -> None:
    numbers.publish(1)
    began = time.monotonic()
    answer = send(reader, "GET", numbers.path, params={"cursor": "latest", "wait": 10})

    assert answer.json() == []
    assert time.monotonic() - began < 3
    numbers.publish(2)
    assert numbers.pulled(reader, cursor=answer.headers["next-cursor"]) == [2]


def test_a_time_is_a_cursor(numbers: Numbers, reader: Client) -> None:
    numbers.publish(1)
    time.sleep(0.02)
    between = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    time.sleep(0.02)
    numbers.publish(2)

    assert numbers.pulled(reader, cursor=between) == [2]
    assert numbers.pulled(reader, cursor="2000-01-01T00:00:00Z") == [1, 2]
    assert numbers.pulled(reader, cursor="2100-01-01T00:00:00Z") == []
    assert numbers.pulled(reader, cursor="0001-01-01T00:00:00Z") == [1, 2]
    assert numbers.pulled(reader, cursor="9999-12-31T23:59:59Z") == []


def test_history_says_how_far_back_a_contract_reads(numbers: Numbers, reader: Client) -> None:
    numbers.publish(1)
    time.sleep(1.2)
    numbers.publish(2)
    time.sleep(0.01)
    contracts = {history: numbers.contract(reader, history=history) for history in ("none", "PT1S", "all", "P3000000D")}
    time.sleep(0.01)
    numbers.publish(3)

    seen = {history: numbers.pulled(reader, contract) for history, contract in contracts.items()}

    assert seen == {"none": [3], "PT1S": [2, 3], "all": [1, 2, 3], "P3000000D": [1, 2, 3]}
    # A time does not reach behind it either.
    assert numbers.pulled(reader, contracts["none"], cursor="2000-01-01T00:00:00Z") == [3]


def test_a_contract_that_begins_later_is_not_in_force(numbers: Numbers, reader: Client) -> None:
    begins = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds").replace("+00:00", "Z")
    contract = numbers.contract(reader, valid_from=begins)

    problem(send(reader, "GET", f"/v1/contracts/{contract}/events", contract=contract), "contract_not_in_force")


def test_partitions_part_what_is_read(gateway: Gateway, reader: Client) -> None:
    numbers = Numbers(gateway, {"partitions": 4, "key_pointer": "/key"})
    for number in range(40):
        numbers.publish(number, key=f"key-{number % 10}")

    parts = [numbers.pulled(reader, partitions=partitions) for partitions in ("0", "1", "2,3", "3,2,2")]

    assert sorted(parts[0] + parts[1] + parts[2]) == list(range(40))
    assert sorted(parts[3]) == sorted(parts[2])
    assert all(sorted(part) == part for part in ([n for n in found if n % 10 == 1] for found in parts))
    for wrong in ("4", "0,4", "x", "-1", "0,", "9999"):
        problem(send(reader, "GET", numbers.path, params={"partitions": wrong}), "invalid_body")


def test_a_cursor_of_some_partitions_goes_on_with_all(gateway: Gateway, reader: Client) -> None:
    numbers = Numbers(gateway, {"partitions": 2, "key_pointer": "/key"})
    for number in range(10):
        numbers.publish(number, key=f"key-{number}")
    page = next(reader.pull(numbers.slug, partitions="1"))

    rest = numbers.pulled(reader, cursor=page.next_cursor)

    assert sorted([event["data"]["n"] for event in page.events] + rest) == list(range(10))


@pytest.fixture(autouse=True)
def gateway_is_up(gateway: Gateway) -> Iterator[None]:
    """Two of these tests stop the embedded gateway for a moment."""
    yield
    assert send(gateway.client(), "GET", "/livez").status_code == 200
