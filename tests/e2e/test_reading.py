"""The three forms in which events are read, and what a browser may ask from another origin."""

from __future__ import annotations

import json
import time
import zlib
from typing import Any

import pytest

from connectors.client import Client
from gateway.streams.blocks import BLOCK_EVENTS
from tests.e2e.district import FOOTFALL, District
from tests.e2e.listener import Listener, until
from tests.e2e.open_data import Numbers
from tests.e2e.wire import NDJSON, SSE, problem, send
from tests.gateway import Gateway


def lines_of(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


def test_lines_come_with_the_cursor_after_each_flush(numbers: Numbers, reader: Client) -> None:
    contract = numbers.contract(reader)
    numbers.publish(1, 2, 3)

    answer = send(reader, "GET", f"/v1/contracts/{contract}/events", contract=contract, headers={"Accept": NDJSON})

    assert answer.headers["content-type"] == NDJSON
    assert answer.headers["cache-control"] == "no-store"
    *events, first, last = lines_of(answer)
    assert [event["data"]["n"] for event in events] == [1, 2, 3]
    assert first["audit_entry"] == answer.headers["audit-entry"]
    assert set(last) == {"next_cursor"}
    for cursor in (first["next_cursor"], last["next_cursor"]):
        assert numbers.pulled(reader, contract, cursor=cursor) == []


def test_lines_wait_for_what_comes(numbers: Numbers, reader: Client) -> None:
    answer = send(reader, "GET", numbers.path, params={"wait": 1}, headers={"Accept": NDJSON})

    assert [set(line) for line in lines_of(answer)] == [{"next_cursor"}]
    assert 0.9 < answer.elapsed.total_seconds() < 5


def test_a_page_waits_for_the_first_event_and_no_longer(numbers: Numbers, reader: Client) -> None:
    with Listener(reader, numbers.slug) as listener:
        began = time.monotonic()
        empty = send(reader, "GET", numbers.path, params={"wait": 1})
        assert empty.json() == []
        assert 0.9 < time.monotonic() - began < 5
        numbers.publish(1)
        listener.wait_for(1)
    assert numbers.pulled(reader, cursor=empty.headers["next-cursor"], wait=1) == [1]


def test_a_page_names_the_next(numbers: Numbers, reader: Client) -> None:
    numbers.publish(*range(10))

    answer = send(reader, "GET", numbers.path, params={"limit_bytes": 1})

    assert [event["data"]["n"] for event in answer.json()] == [0]
    cursor = answer.headers["next-cursor"]
    assert answer.headers["link"] == f'<{numbers.gateway.url}{numbers.path}?cursor={cursor}>; rel="next"'
    assert answer.headers["audit-entry"].startswith("sha-256=:")


def test_a_stream_has_a_cursor_and_a_receipt_for_each_flush_and_resumes(numbers: Numbers, reader: Client) -> None:
    contract = numbers.contract(reader)
    numbers.publish(1, 2)
    with Listener(reader, contract) as listener:
        listener.wait_for(2)
        until(lambda: bool(listener.receipts), "the receipt")
        cursor = listener.cursor
    numbers.publish(3)

    assert listener.receipts[0]["events"] == 2
    assert listener.receipts[0]["audit_entry"] == listener.headers["audit-entry"]
    assert listener.headers["x-accel-buffering"] == "no"
    assert listener.headers["cache-control"] == "no-store"
    for how in ({"cursor": cursor}, {"headers": {"Last-Event-ID": cursor}}, {"headers": {"Last-Event-ID": cursor}, "cursor": "earliest"}):
        with Listener(reader, contract, **how) as resumed:
            resumed.wait_for(3)
            assert resumed.numbers == [3]


@pytest.fixture
def one_full(gateway: Gateway) -> Numbers:
    """Two partitions: three blocks of events in the first, and in the other the one whose number is next."""
    numbers = Numbers(gateway, {"partitions": 2, "key_pointer": "/key"})
    full, other = (next(key for key in "abcdefgh" if zlib.crc32(key.encode()) % 2 == partition) for partition in (0, 1))
    for first in range(0, 3 * BLOCK_EVENTS, BLOCK_EVENTS):
        numbers.publish(*range(first, first + BLOCK_EVENTS), key=full)
    numbers.publish(3 * BLOCK_EVENTS, key=other)
    return numbers


def test_a_full_partition_keeps_a_stream_from_no_other(one_full: Numbers, reader: Client) -> None:
    with Listener(reader, one_full.slug, cursor="earliest") as subscriber:
        until(lambda: len(subscriber.numbers) == 3 * BLOCK_EVENTS + 1)

    assert subscriber.numbers.index(3 * BLOCK_EVENTS) <= BLOCK_EVENTS


def test_a_full_partition_keeps_pages_from_no_other(one_full: Numbers, reader: Client) -> None:
    got = one_full.pulled(reader)

    assert sorted(got) == list(range(3 * BLOCK_EVENTS + 1))
    assert got.index(3 * BLOCK_EVENTS) <= BLOCK_EVENTS
    assert one_full.pulled(reader) == got


@pytest.mark.parametrize("accept", ["image/png", "application/xml", "application/json;q=0", "x"])
def test_another_form_is_not_acceptable(numbers: Numbers, reader: Client, accept: str) -> None:
    problem(send(reader, "GET", numbers.path, headers={"Accept": accept}), "not_acceptable")


def test_a_browser_is_told_so_by_a_page(numbers: Numbers, reader: Client) -> None:
    answer = send(reader, "GET", numbers.path, headers={"Accept": "text/html"})
    assert answer.status_code == 406
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("*/*", "application/cloudevents-batch+json"),
        ("application/json", "application/cloudevents-batch+json"),
        ("text/html, application/*;q=0.1", "application/cloudevents-batch+json"),
        (f"{NDJSON};q=0.9, application/json;q=0.1", NDJSON),
        (f"{SSE};q=nan, {NDJSON};q=0.2", NDJSON),
    ],
)
def test_the_best_of_what_is_acceptable_is_given(numbers: Numbers, reader: Client, accept: str, given: str) -> None:
    assert send(reader, "GET", numbers.path, headers={"Accept": accept}).headers["content-type"] == given


@pytest.mark.parametrize(
    "params", [{"wait": 31}, {"wait": -1}, {"wait": "nan"}, {"limit_bytes": 0}, {"limit_bytes": 10**9}, {"cursor": "a" * 5000}]
)
def test_a_parameter_beyond_its_bounds_is_refused(numbers: Numbers, reader: Client, params: dict[str, Any]) -> None:
    problem(send(reader, "GET", numbers.path, params=params), "invalid_body")


def test_only_what_needs_no_token_may_be_read_from_another_origin(district: District, numbers: Numbers, reader: Client) -> None:
    anybody, origin = numbers.gateway.client(), {"Origin": "https://page.example"}
    for path in ("/v1/purposes", "/v1/datasets", f"/v1/datasets/{numbers.slug}", numbers.path):
        assert send(anybody, "GET", path, headers=origin).headers["access-control-allow-origin"] == "*", path
    contract = numbers.contract(reader)
    for path in ("/v1/me", "/v1/contracts", f"/v1/contracts/{contract}", f"/v1/contracts/{contract}/events", "/v1/audit/entries"):
        answer = send(reader, "GET", path, contract=contract, headers=origin)
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers, path
    refused = send(anybody, "GET", f"/v1/datasets/{FOOTFALL}/events", headers=origin)
    assert refused.status_code == 403


@pytest.mark.parametrize("path", ["/v1/purposes", "/v1/datasets", "/livez", "/openapi.json"])
def test_head_is_get_without_a_body(gateway: Gateway, path: str) -> None:
    head, get = (send(gateway.client(), method, path) for method in ("HEAD", "GET"))

    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_and_options_of_a_stream_open_none(numbers: Numbers, reader: Client) -> None:
    for method in ("HEAD", "OPTIONS"):
        for headers in ({}, {"Accept": SSE}):
            answer = send(reader, method, numbers.path, headers=headers)
            assert answer.status_code < 500
            assert answer.elapsed.total_seconds() < 3
