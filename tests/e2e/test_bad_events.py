"""Events that are wrong: all or nothing is appended, and the places are named by index."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from connectors.client import Client
from tests.e2e.district import FOOTFALL, District, visit
from tests.e2e.open_data import Numbers, numbered
from tests.e2e.wire import BATCH, STRUCTURED, pointers, problem, send
from tests.gateway import Gateway

MEBIBYTE = 1024 * 1024
LARGEST = 900 * 1024


@pytest.fixture(scope="module")
def numbers(gateway: Gateway) -> Numbers:
    """One for all tests here, which leave it as it is."""
    return Numbers(gateway)


@pytest.fixture(scope="module")
def reader(gateway: Gateway) -> Client:
    """One that may publish too, to datasets of its own."""
    return gateway.partner("Reader of numbers")


def published(numbers: Numbers, events: Any, media_type: str = BATCH, **params: str) -> Any:
    return send(numbers.provider, "POST", numbers.path, content=orjson.dumps(events), headers={"Content-Type": media_type}, params=params)


@pytest.mark.parametrize("media_type", [BATCH, STRUCTURED])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'["\\ud800"]', b'{"a": NaN}', b"[" * 10_000 + b"]" * 10_000])
def test_what_is_not_json_is_invalid(numbers: Numbers, media_type: str, content: bytes) -> None:
    answer = send(numbers.provider, "POST", numbers.path, content=content, headers={"Content-Type": media_type})

    problem(answer, "invalid_body")


def test_a_batch_is_an_array_and_an_event_is_an_object(numbers: Numbers) -> None:
    problem(published(numbers, numbered(1)), "invalid_body")
    for no_event in ([numbered(1)], "text", 1, None):
        problem(published(numbers, no_event, STRUCTURED), "event_does_not_fit")
    problem(published(numbers, []), "event_does_not_fit")
    problem(published(numbers, [None, 1]), "event_does_not_fit")


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "application/json", ""])
def test_events_of_another_media_type_are_not_taken(numbers: Numbers, media_type: str) -> None:
    answer = published(numbers, [numbered(1)], media_type)

    problem(answer, "unsupported_media_type")
    assert BATCH in answer.headers["accept"]


def test_the_data_of_an_event_in_binary_mode_must_be_json(numbers: Numbers) -> None:
    attributes = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}

    def sent(content: bytes, media_type: str) -> Any:
        return send(numbers.provider, "POST", numbers.path, content=content, headers=attributes | {"Content-Type": media_type})

    problem(sent(b"n=1", "application/x-www-form-urlencoded"), "unsupported_media_type")
    problem(sent(b"n=1", "application/json"), "invalid_body")
    assert sent(b'{"n": 1}', "application/json").status_code == 201


def test_a_batch_over_sixteen_mebibytes_is_refused(numbers: Numbers) -> None:
    answer = send(numbers.provider, "POST", numbers.path, content=b"[" + b" " * 16 * MEBIBYTE, headers={"Content-Type": BATCH})

    problem(answer, "body_too_large")


def test_one_event_has_at_most_900_kibibytes(numbers: Numbers) -> None:
    told = problem(published(numbers, [numbered(1), numbered(2, text="a" * LARGEST)]), "body_too_large")
    assert "Event 1" in told["detail"]

    assert published(numbers, [numbered(1, text="a" * (LARGEST - 1000))]).status_code == 201


def test_an_event_whose_key_is_as_large_as_itself_is_no_server_error(gateway: Gateway) -> None:
    keyed = Numbers(gateway, {"key_pointer": "/key", "partitions": 3})

    answer = published(keyed, [numbered(1, key="k" * (LARGEST * 2 // 3))])

    assert answer.status_code in {201, 413, 422}, answer.text


def test_an_event_that_does_not_fit_is_named_by_index_and_nothing_is_appended(gateway: Gateway, reader: Client) -> None:
    numbers = Numbers(gateway)
    events = [numbered(1), numbered(2) | {"data": {"n": "two"}}, numbered(3) | {"data": {}}, numbered(4)]

    told = problem(published(numbers, events), "event_does_not_fit")

    assert pointers(told) == ["/1/data/n", "/2/data"]
    assert "two" not in json.dumps(told)
    assert numbers.pulled(reader) == []


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"specversion": "0.3"}, "/0/specversion"),
        ({"id": ""}, "/0/id"),
        ({"source": "not a uri%%"}, "/0/source"),
        ({"type": 7}, "/0/type"),
        ({"time": "yesterday"}, "/0/time"),
        ({"datacontenttype": "text/plain"}, "/0/datacontenttype"),
        ({"extension": {"of": "objects"}}, "/0/extension"),
        ({"Upper": "case"}, "/0"),
        ({"dataset": "another"}, "/0/dataset"),
        ({"contract": "con_1"}, "/0/contract"),
        ({"schemaversion": 1}, "/0/schemaversion"),
        ({"licence": "CC0-1.0"}, "/0/licence"),
        ({"data_base64": "AA=="}, "/0"),
    ],
)
def test_an_attribute_that_does_not_fit_is_named(numbers: Numbers, members: dict[str, Any], pointer: str) -> None:
    told = problem(published(numbers, [numbered(1) | members]), "event_does_not_fit")

    assert pointers(told) == [pointer]


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type", "data"])
def test_an_attribute_that_is_missing_is_named(numbers: Numbers, missing: str) -> None:
    event = {name: value for name, value in numbered(1).items() if name != missing}

    assert pointers(problem(published(numbers, [event]), "event_does_not_fit")) == ["/0"]


def test_the_attribute_subject_is_refused_where_events_are_about_people(district: District) -> None:
    event = visit("person-subject") | {"subject": "person-subject"}
    path = f"/v1/datasets/{FOOTFALL}/events"

    answer = send(district.provider, "POST", path, content=orjson.dumps([event]), headers={"Content-Type": BATCH})

    assert "person-subject" not in problem(answer, "subject_attribute_personal")["detail"]


def test_who_an_event_is_about_stands_in_no_answer_that_refuses_it(district: District) -> None:
    path, event = f"/v1/datasets/{FOOTFALL}/events", visit("person-refused", dwell_seconds="long")

    answer = send(district.provider, "POST", path, content=orjson.dumps([event]), headers={"Content-Type": BATCH})

    problem(answer, "event_does_not_fit")
    assert "person-refused" not in answer.text


@pytest.mark.parametrize("levels", [200, 300, 900])
def test_data_nested_deep_is_taken_or_refused(numbers: Numbers, reader: Client, levels: int) -> None:
    content = b'[{"specversion": "1.0", "id": "deep", "source": "/s", "type": "t", "data": {"n": 1, "deep": %b}}]' % (
        b"[" * levels + b"]" * levels
    )

    answer = send(numbers.provider, "POST", numbers.path, content=content, headers={"Content-Type": BATCH})

    if answer.status_code != 201:
        problem(answer, "event_does_not_fit")
    assert numbers.pulled(reader)


@pytest.mark.parametrize("number", [10**30, -(2**63) - 1, 2**64, 2**53 + 1])
def test_a_large_number_is_taken_as_a_double_or_refused(gateway: Gateway, number: int) -> None:
    numbers = Numbers(gateway)
    content = json.dumps([numbered(number)]).encode()

    answer = send(numbers.provider, "POST", numbers.path, content=content, headers={"Content-Type": BATCH})

    if answer.status_code == 201:
        assert [float(found) for found in numbers.pulled(gateway.client())] == [float(number)]
    else:
        problem(answer, "event_does_not_fit")


def test_validate_only_checks_everything_and_appends_nothing(gateway: Gateway, reader: Client) -> None:
    numbers = Numbers(gateway)

    answer = published(numbers, [numbered(1)], validate_only="true")
    problem(published(numbers, [numbered(2) | {"data": {}}], validate_only="true"), "event_does_not_fit")

    assert answer.status_code == 200
    assert answer.json() == {"accepted": 0, "positions": []}
    assert "audit-entry" not in answer.headers
    assert numbers.pulled(reader) == []


def test_a_publish_repeated_under_its_key_is_answered_again_and_appended_once(gateway: Gateway, reader: Client) -> None:
    numbers = Numbers(gateway)
    content = orjson.dumps([numbered(1), numbered(2)])

    def sent(content: bytes, **params: str) -> Any:
        headers = {"Content-Type": BATCH, "Idempotency-Key": "once"}
        return send(numbers.provider, "POST", numbers.path, content=content, headers=headers, params=params)

    first, again = sent(content), sent(content)

    assert first.status_code == again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert first.json() == again.json()
    assert first.headers["audit-entry"] == again.headers["audit-entry"]
    problem(sent(orjson.dumps([numbered(3)])), "idempotency_key_reused")
    problem(sent(content, validate_only="true"), "idempotency_key_reused")
    assert numbers.pulled(reader) == [1, 2]


def test_events_for_a_dataset_of_another_organization_are_refused(numbers: Numbers, reader: Client) -> None:
    answer = send(reader, "POST", numbers.path, content=orjson.dumps([numbered(1)]), headers={"Content-Type": BATCH})

    assert problem(answer, "policy_denied")["reasons"][0]["code"] == "not_the_owner"
    nowhere = send(reader, "POST", "/v1/datasets/absent/events", content=b"[]", headers={"Content-Type": BATCH})
    problem(nowhere, "not_found")
