"""Documents of the control plane that are wrong: each is told where, and none is a 500."""

from __future__ import annotations

import secrets
import socket
from typing import Any

import pytest

from connectors.client import Client
from tests.e2e.district import FOOTFALL, District
from tests.e2e.open_data import SCHEMA, Numbers, document
from tests.e2e.wire import pointers, problem, send
from tests.gateway import Gateway

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="session")
def provider(gateway: Gateway) -> Client:
    return gateway.partner("Department", kind="department")


def schema_refused(provider: Client, schema: Any) -> dict[str, Any]:
    return problem(send(provider, "POST", "/v1/datasets", body=document(f"refused-{secrets.token_hex(4)}", schema=schema)), "invalid_body")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b'{"slug": "a"} {}', b"nul", b'{"a": NaN}', b'{"\\ud800": 1}'])
def test_what_is_not_json_is_invalid(provider: Client, content: bytes) -> None:
    answer = send(provider, "POST", "/v1/datasets", content=content, headers={"Content-Type": "application/json"})

    problem(answer, "invalid_body")


@pytest.mark.parametrize("content", [b"[]", b'"text"', b"1", b"null"])
def test_json_that_is_no_object_is_invalid(provider: Client, content: bytes) -> None:
    answer = send(provider, "POST", "/v1/datasets", content=content, headers={"Content-Type": "application/json"})

    problem(answer, "invalid_body")


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]
)
def test_a_document_of_another_media_type_is_not_taken(provider: Client, media_type: str) -> None:
    answer = send(provider, "POST", "/v1/datasets", content=b'{"slug": "a"}', headers={"Content-Type": media_type})

    problem(answer, "unsupported_media_type")


def test_a_body_over_one_mebibyte_is_refused_by_its_length(provider: Client) -> None:
    answer = send(provider, "POST", "/v1/datasets", content=b" " * (MEBIBYTE + 1), headers={"Content-Type": "application/json"})

    problem(answer, "body_too_large")


def test_a_body_over_one_mebibyte_is_refused_as_it_comes(provider: Client) -> None:
    assert provider.credentials is not None
    token = provider.credentials.token(provider.http)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = provider.http.post("/v1/datasets", content=iter([b" " * 65536] * 17), headers=headers)

    problem(answer, "body_too_large")


def test_an_unknown_member_is_named(provider: Client) -> None:
    wrong = document("has-more") | {"extra": 1}
    wrong["licence"] |= {"colour": "red"}

    told = problem(send(provider, "POST", "/v1/datasets", body=wrong), "invalid_body")

    assert set(pointers(told)) == {"/extra", "/licence/colour"}


def test_a_value_of_another_type_is_not_guessed(provider: Client) -> None:
    told = problem(
        send(provider, "POST", "/v1/datasets", body=document("wrong", partitions="2", title={"en": 1, "fr": True})), "invalid_body"
    )

    assert set(pointers(told)) == {"/partitions", "/title/en", "/title/fr"}


@pytest.mark.parametrize(
    "path", ["/v1/datasets", "/v1/contracts", f"/v1/datasets/{FOOTFALL}", "/v1/audit/entries", "/v1/purposes", "/v1/me"]
)
def test_an_unknown_query_parameter_is_refused(district: District, path: str) -> None:
    told = problem(send(district.provider, "GET", path, params={"colour": "red"}), "invalid_body")

    assert pointers(told) == ["?colour"]


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/v1/datasets", {"limit": "0"}),
        ("/v1/datasets", {"limit": "501"}),
        ("/v1/datasets", {"limit": "many"}),
        ("/v1/contracts", {"state": "broken"}),
        ("/v1/audit/entries", {"since": "yesterday"}),
        ("/v1/audit/entries", {"since": "2026-11-23T12:00:00"}),
    ],
)
def test_a_query_parameter_that_does_not_fit_is_named(district: District, path: str, parameters: dict[str, str | int]) -> None:
    told = problem(send(district.provider, "GET", path, params=parameters), "invalid_body")

    assert pointers(told) == [f"?{next(iter(parameters))}"]


def test_nothing_is_fetched_for_a_schema_that_refers_elsewhere(provider: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        elsewhere = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
        for schema in (
            SCHEMA | {"$ref": elsewhere},
            SCHEMA | {"properties": {"n": {"$ref": elsewhere + "#/a"}}},
            SCHEMA | {"$id": elsewhere, "properties": {"n": {"$ref": "other.json"}}},
            SCHEMA | {"$schema": elsewhere},
            SCHEMA | {"$dynamicRef": elsewhere},
        ):
            schema_refused(provider, schema)

        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("pattern", [r"(a+)+\1$", r"(?=a)(a|aa)+$", r"((((a{1,999}){1,999}){1,999}){1,999}){1,999}", "(" * 5000])
def test_a_pattern_that_could_take_for_ever_is_refused(provider: Client, pattern: str) -> None:
    told = schema_refused(provider, {"type": "object", "properties": {"text": {"type": "string", "pattern": pattern}}})

    assert pointers(told)[0].startswith("/schema")


def test_a_pattern_that_is_catastrophic_elsewhere_is_matched_in_linear_time(gateway: Gateway) -> None:
    schema = SCHEMA | {"properties": {"n": {"type": "integer"}, "text": {"type": "string", "pattern": "^(a|a)*$|^(a+)+$"}}}
    numbers = Numbers(gateway, {"schema": schema})

    answer = send(
        numbers.provider, "POST", numbers.path, content=_one("a" * 800_000 + "!"), headers={"Content-Type": "application/cloudevents+json"}
    )

    problem(answer, "event_does_not_fit")
    assert answer.elapsed.total_seconds() < 3


def _one(text: str) -> bytes:
    event = f'{{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {{"n": 1, "text": "{text}"}}}}'
    return event.encode()


def test_a_schema_nested_ten_thousand_deep_is_refused(provider: Client) -> None:
    levels = 10_000
    head = b'{"slug": "deep", "title": {"en": "a", "fr": "a"}, "description": {"en": "a", "fr": "a"}, "classification": "open", '
    licence = b'"licence": {"id": "CC0-1.0", "url": "https://city.example", "attribution": "City"}, "schema": '
    for opening, closing in ((b'{"not":', b"}"), (b'{"allOf":[', b"]}")):
        body = head + licence + opening * levels + b'{"type": "object"}' + closing * levels + b"}"
        answer = send(provider, "POST", "/v1/datasets", content=body, headers={"Content-Type": "application/json"})
        problem(answer, "invalid_body")


def test_a_schema_that_grows_without_end_by_its_references_is_refused(provider: Client) -> None:
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": {"type": "integer"}}

    schema_refused(provider, SCHEMA | {"$defs": doubling, "properties": {"n": {"$ref": "#/$defs/d0"}}})


@pytest.mark.parametrize(
    ("member", "value", "pointer"),
    [
        ("slug", "Not A Slug", "/slug"),
        ("slug", "a\x00b", "/slug"),
        ("retention", "P1Y", "/retention"),
        ("retention", "P1Y1D", "/retention"),
        ("retention", "P1M1D", "/retention"),
        ("retention", "P0D", "/retention"),
        ("retention", "-P1D", "/retention"),
        ("retention", "P99999999999999999D", "/retention"),
        ("partitions", 0, "/partitions"),
        ("partitions", 10**30, "/partitions"),
        ("key_pointer", "/absent", "/key_pointer"),
        ("subject_pointer", "n", "/subject_pointer"),
        ("contact", "a\x00b", "/contact"),
        ("contact", "\ud800", "/contact"),
    ],
)
def test_a_member_that_does_not_fit_is_named(provider: Client, member: str, value: Any, pointer: str) -> None:
    told = problem(send(provider, "POST", "/v1/datasets", body=document("wrong") | {member: value}), "invalid_body")

    assert pointers(told) == [pointer]


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z", "2026-11-23T12:00:00+99:00"]
)
def test_a_time_that_no_calendar_has_is_refused(district: District, time: str) -> None:
    consent = {
        "dataset": FOOTFALL,
        "subject": "person-1",
        "purposes": ["transit-planning"],
        "recipients": ["any_recipient"],
        "notice": district.notice,
        "given_by": "subject",
    }
    for member in ("valid_from", "valid_until"):
        problem(send(district.provider, "POST", "/v1/consents", body=consent | {member: time}), "invalid_body")
    problem(send(district.provider, "GET", "/v1/audit/entries", params={"since": time}), "invalid_body")


@pytest.mark.parametrize(
    "path", ["/v1/contracts/con_%00", "/v1/organizations/%00", "/v1/clients/%00", "/v1/consents/%00", "/v1/datasets/%00", "/v1/nothing"]
)
def test_a_path_that_names_nothing_is_not_found(gateway: Gateway, path: str) -> None:
    answer = send(gateway.operator(), "GET", path)

    assert answer.status_code in {404, 422}, answer.text


@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/contracts", "/v1/organizations", "/v1/clients"])
def test_a_place_in_a_list_that_no_page_gave_is_no_server_error(gateway: Gateway, path: str) -> None:
    for after in ("\x00", "\ufffd", "zzz", "%", "' OR 1=1 --"):
        assert send(gateway.operator(), "GET", path, params={"after": after}).status_code in {200, 422}


@pytest.mark.parametrize("key", ["", "a" * 256, "\x7f"])
def test_an_idempotency_key_that_is_none_is_refused(provider: Client, key: str) -> None:
    answer = send(provider, "POST", "/v1/datasets", body=document("a"), headers={"Idempotency-Key": key})

    assert answer.status_code in {400, 422}


@pytest.mark.parametrize("slug", ["%00", "a" * 5000, "absent"])
def test_a_key_for_a_path_that_names_nothing_is_no_server_error(provider: Client, slug: str) -> None:
    answer = send(provider, "POST", f"/v1/datasets/{slug}/events", body=[], headers={"Idempotency-Key": "1"})

    problem(answer, "not_found")


def test_a_method_that_a_path_does_not_have_is_named(provider: Client) -> None:
    answer = send(provider, "PUT", "/v1/datasets")

    problem(answer, "method_not_allowed")
    assert answer.headers["allow"]
