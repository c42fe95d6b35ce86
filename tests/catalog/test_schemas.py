from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from gateway.catalog import examples
from gateway.catalog.compatibility import breaks
from gateway.catalog.schemas import MAX_BYTES, describe, property_at, vet
from gateway.errors import Invalid
from tests.catalog.rooms import Rooms

OBJECT: dict[str, Any] = {"type": "object"}


def doubling(levels: int) -> dict[str, Any]:
    """A schema of a few lines that compares one value with 2 ** levels subschemas."""
    steps = {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]} for n in range(levels)}
    return OBJECT | {"$ref": "#/$defs/a0", "$defs": steps | {f"a{levels}": {"type": "string"}}}


def chain(links: int) -> dict[str, Any]:
    steps: dict[str, Any] = {f"a{n}": {"$ref": f"#/$defs/a{n + 1}"} for n in range(links)}
    return OBJECT | {"$ref": "#/$defs/a0", "$defs": steps | {f"a{links}": {}}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return OBJECT | schema


REFUSED: dict[str, tuple[Any, str]] = {
    "not an object": ({"type": "array"}, "/schema/type"),
    "another dialect": (OBJECT | {"$schema": "http://json-schema.org/draft-07/schema#"}, "/schema/$schema"),
    "not a schema": (OBJECT | {"properties": {"a": {"type": "strung"}}}, "/schema/properties/a/type"),
    "remote reference": (OBJECT | {"properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}}, "/schema/properties/a/$ref"),
    "reference to a file": (OBJECT | {"allOf": [{"$ref": "file:///etc/passwd"}]}, "/schema/allOf/0/$ref"),
    "dangling reference": (OBJECT | {"$ref": "#/$defs/nothing"}, "/schema/$ref"),
    "reference to what is no schema": (OBJECT | {"enum": [{}], "$ref": "#/enum/0"}, "/schema/$ref"),
    "reference to itself": (OBJECT | {"anyOf": [{"$ref": "#"}]}, "/schema/anyOf/0"),
    "reference in a circle": (
        OBJECT | {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}},
        "/schema/$defs/a/items",
    ),
    "dynamic reference": (OBJECT | {"$dynamicRef": "#x"}, "/schema/$dynamicRef"),
    "inner identifier": (OBJECT | {"properties": {"a": {"$id": "http://elsewhere.test/"}}}, "/schema/properties/a/$id"),
    "doubling references": (doubling(40), "/schema"),
    "long chain of references": (chain(4000), "/schema"),
    "lookahead": (OBJECT | {"properties": {"a": {"pattern": "^(?=a)a"}}}, "/schema/properties/a/pattern"),
    "backreference": (OBJECT | {"patternProperties": {r"(a)\1": {}}}, r"/schema/patternProperties/(a)\1"),
    "huge repetition": (OBJECT | {"properties": {"a": {"pattern": "((a{999}){999}){999}"}}}, "/schema/properties/a/pattern"),
    "many patterns": (OBJECT | {"properties": {f"p{n}": {"pattern": "a"} for n in range(201)}}, "/schema"),
    "deep": (nested(20), "/schema"),
    "ten thousand deep": (nested(5000), "/schema"),
    "large": (OBJECT | {"description": "x" * MAX_BYTES}, "/schema"),
    "not a number": (OBJECT | {"minimum": float("nan")}, "/schema"),
    "half a character": (OBJECT | {"title": "\ud800"}, "/schema"),
    "bad identifier": (OBJECT | {"$id": "not a uri"}, "/schema"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_schema_that_could_do_harm_is_refused_with_the_place(name: str) -> None:
    document, pointer = REFUSED[name]
    began = time.monotonic()
    with pytest.raises(Invalid) as refused:
        vet(document)
    assert refused.value.members["errors"][0]["pointer"] == pointer
    assert time.monotonic() - began < 1.0


def test_nothing_is_ever_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        with pytest.raises(Invalid):
            vet(OBJECT | {"properties": {"a": {"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/schema"}}})
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "(x+x+)+y", r"^(\w+\s?)*$"])
def test_catastrophic_pattern_takes_no_time(pattern: str) -> None:
    validator = vet(OBJECT | {"properties": {"a": {"type": "string", "pattern": pattern}}})
    began = time.monotonic()
    validator.is_valid({"a": "a" * 100_000 + "!"})
    assert time.monotonic() - began < 1.0


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    vet(OBJECT | {"properties": {"$ref": {"type": "string"}, "$anchor": {"type": "string"}, "properties": {"type": "object"}}})


def test_errors_name_places_and_never_values() -> None:
    validator = vet(examples.SCHEMA)
    errors = describe(validator, {"at": "yesterday-secret", "zone": "z" * 61, "visitor": 7, "more": 1})
    assert {error["pointer"] for error in errors} == {"", "/at", "/zone", "/visitor"}
    assert "secret" not in json.dumps(errors)
    assert len(describe(vet(OBJECT | {"additionalProperties": {"type": "string"}}), {str(n): n for n in range(100)})) == 20


def test_a_property_is_found_through_references() -> None:
    schema = OBJECT | {
        "properties": {"a": {"$ref": "#/$defs/x"}},
        "required": ["a"],
        "$defs": {"x": {"properties": {"b/c": {"type": "string"}}}},
    }
    assert property_at(schema, "/a/b~1c") == ({"type": "string"}, False)
    assert property_at(schema, "/a/c") is None


INNER = OBJECT | {"properties": {"x": {"enum": [1, 2]}}}


def closed(required: tuple[str, ...] = ("a",), **properties: Any) -> dict[str, Any]:
    return OBJECT | {"additionalProperties": False, "required": list(required), "properties": {"a": {"type": "string"}} | properties}


@pytest.mark.parametrize(
    ("mode", "before", "new", "pointers"),
    [
        ("backward", closed(), closed(b={"type": "integer"}), []),
        ("forward", closed(), closed(b={"type": "integer"}), ["/properties/b"]),
        ("full", closed(), closed(b={"type": "integer"}), ["/properties/b"]),
        ("none", closed(), closed(("b",), b={"type": "integer"}), []),
        ("backward", closed(), closed(("a", "b"), b={"type": "integer"}), ["/required/b"]),
        ("backward", closed(b={}), closed(), ["/properties/b"]),
        ("forward", closed(b={}), closed(), []),
        ("backward", closed(b={"type": "integer"}), closed(b={"type": "number"}), []),
        ("backward", closed(b={"type": "number"}), closed(b={"type": "integer"}), ["/properties/b"]),
        ("backward", closed(b=INNER), closed(b=INNER | {"properties": {"x": {"const": 1}}}), ["/properties/b/properties/x"]),
        ("backward", OBJECT, OBJECT | {"properties": {"a": {"type": "string"}}}, ["/properties/a"]),
        ("backward", closed(b={"maxLength": 5}), closed(b={"$ref": "#/$defs/b"}) | {"$defs": {"b": {"maxLength": 9}}}, []),
    ],
)  # fmt: skip
def test_new_version_keeps_what_the_mode_promises(mode: str, before: dict[str, Any], new: dict[str, Any], pointers: list[str]) -> None:
    assert [broken["pointer"] for broken in breaks(mode, before, new)] == pointers


def test_schema_version_is_published_or_told_what_it_breaks(rooms: Rooms) -> None:
    rooms.register("footfall", schema=closed(zone={"type": "string"}))
    bia = rooms.as_("bia")
    broken = rooms.http.post("/v1/datasets/footfall/schemas", json={"schema": closed(("a", "b"), zone={}, b={})}, headers=bia)
    assert (broken.status_code, broken.json()["code"]) == (409, "incompatible_schema")
    assert [error["pointer"] for error in broken.json()["errors"]] == ["/schema/required/b"]
    tag = rooms.http.get("/v1/datasets/footfall").headers["ETag"]
    made = rooms.http.post("/v1/datasets/footfall/schemas", json={"schema": closed(zone={}, b={})}, headers=bia)
    assert (made.status_code, made.json()["number"]) == (201, 2)
    assert rooms.http.get(made.headers["Location"]).json() == made.json()
    read = rooms.http.get("/v1/datasets/footfall")
    assert (read.json()["schema_version"], read.json()["schema"]) == (2, closed(zone={}, b={}))
    assert read.headers["ETag"] != tag
    view = rooms.catalog.get("footfall")
    assert view is not None
    assert view.fits({"a": "x", "b": 1})
    assert rooms.change_kinds() == ["dataset_created", "schema_published"]
    assert rooms.http.get("/v1/datasets/footfall/schemas/3").status_code == 404


def test_new_version_keeps_the_fields_that_the_dataset_names(rooms: Rooms) -> None:
    rooms.register("footfall", "personal", compatibility="none")
    answer = rooms.http.post("/v1/datasets/footfall/schemas", json={"schema": closed()}, headers=rooms.as_("bia"))
    assert answer.status_code == 422
    assert answer.json()["errors"][0] == {"pointer": "/schema", "detail": "/visitor: names no property of the schema"}
