from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat

from gateway.catalog import sample
from gateway.catalog.asyncapi import contract_document, dataset_document
from gateway.catalog.purposes import purpose, purposes
from gateway.catalog.schemas import vet
from gateway.errors import ExchangeError
from gateway.resources import SCHEMAS
from tests.catalog.rooms import ISSUER, Rooms
from tests.catalog.view import dataset_view

TITLE = {"en": "Stops", "fr": "Arrêts"}
ASKED_FOR = {
    "city-operations",
    "transit-planning",
    "traffic-planning",
    "official-statistics",
    "research",
    "service-provision",
    "tourism-promotion",
    "advertising",
}
SHIPPED = sorted(path.stem for path in (SCHEMAS / "datasets").glob("*.json"))
HARD: dict[str, Any] = {
    "type": "object",
    "required": ["ref", "list", "either", "extra"],
    "properties": {
        "ref": {"$ref": "#/$defs/inner"},
        "list": {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}, "minItems": 3, "maxItems": 4},
        "either": {"anyOf": [{"type": "integer", "multipleOf": 5, "minimum": 7}, {"type": "string", "format": "uuid"}]},
        "all": {"allOf": [{"type": "number", "exclusiveMinimum": 3}, {"maximum": 4}]},
        "code": {"type": "string", "pattern": r"^[^a]{3}-\d+[*+]?$", "maxLength": 12},
        "nothing": {"type": ["null", "boolean"]},
        "named": {"const": "x"},
        "seen": {"type": "string", "examples": ["seen"], "pattern": "(?:seen)"},
    },
    "$defs": {"inner": {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}, "required": ["day"]}},
}


def test_every_purpose_has_titles_a_dpv_concept_and_all_that_contain_it(rooms: Rooms) -> None:
    answer = rooms.http.get("/v1/purposes")
    items = {item["code"]: item for item in answer.json()["items"]}
    assert items.keys() > ASKED_FOR
    for item in items.values():
        assert item["iri"].startswith("https://w3id.org/dpv#")
        assert item["title"].keys() == {"en", "fr"}
        assert set(item["broader"]) < items.keys()
    assert items["stop-accessibility"]["broader"] == ["transit-planning", "city-operations"]
    assert items["transit-planning"]["broader"] == ["city-operations"]


def test_broader_purposes_are_those_of_the_broader_one() -> None:
    for found in purposes():
        parents = found.broader[:1]
        assert found.broader == parents + tuple(broader for code in parents for broader in purpose(code).broader)  # type: ignore[union-attr]
    assert purpose("world-peace") is None


@pytest.mark.parametrize("name", SHIPPED)
def test_sample_of_every_shipped_schema_fits_it(name: str) -> None:
    schema = json.loads((SCHEMAS / "datasets" / f"{name}.json").read_text("utf-8"))
    validator = vet(schema)
    events = sample.events(name, "urn:test", schema, validator.is_valid)
    assert len(events) == 20
    assert all(validator.is_valid(event["data"]) for event in events)
    assert events == sample.events(name, "urn:test", schema, validator.is_valid)


def test_sample_of_a_hard_schema_fits_it() -> None:
    events = sample.events("hard", "urn:test", HARD, vet(HARD).is_valid)
    assert len({json.dumps(event["data"]) for event in events}) == 20


def test_schema_that_nothing_fits_has_no_sample() -> None:
    impossible = {"type": "object", "required": ["a"], "properties": {"a": False}}
    with pytest.raises(ExchangeError, match="no_sample"):
        sample.events("none", "urn:test", impossible, vet(impossible).is_valid)


def test_sample_is_a_batch_of_cloudevents_that_say_they_are_synthetic(rooms: Rooms) -> None:
    rooms.register("footfall", "personal")
    answer = rooms.http.get("/v1/datasets/footfall/sample")
    assert answer.headers["Content-Type"] == "application/cloudevents-batch+json"
    for event in answer.json():
        read = JSONFormat().read(None, json.dumps(event))
        assert read.get_extension("synthetic") is True
        assert read.get_source() == f"{ISSUER}/v1/datasets/footfall/sample"


@pytest.mark.parametrize("name", [*SHIPPED, "hard"])
def test_asyncapi_of_datasets_and_contracts_is_valid(name: str, asyncapi_errors: Callable[[str], list[str]]) -> None:
    dataset = dataset_view({1: HARD if name == "hard" else json.loads((SCHEMAS / "datasets" / f"{name}.json").read_text("utf-8"))})
    assert asyncapi_errors(json.dumps(dataset_document(ISSUER, dataset))) == []
    assert asyncapi_errors(json.dumps(contract_document(ISSUER + "/below", dataset, "con_1", dataset.schema))) == []


def test_asyncapi_parser_sees_a_mistake(asyncapi_errors: Callable[[str], list[str]]) -> None:
    document = dataset_document(ISSUER, dataset_view({1: HARD}))
    document["operations"]["read"]["channel"]["$ref"] = "#/channels/nowhere"
    assert asyncapi_errors(json.dumps(document)) != []


def test_asyncapi_offers_reading_without_a_contract_of_open_data_only(rooms: Rooms) -> None:
    rooms.register("stops", "open")
    rooms.register("footfall", "internal")
    operations = {slug: rooms.http.get(f"/v1/datasets/{slug}/asyncapi.json").json()["operations"] for slug in ("stops", "footfall")}
    assert {slug: sorted(found) for slug, found in operations.items()} == {"stops": ["publish", "read"], "footfall": ["publish"]}
