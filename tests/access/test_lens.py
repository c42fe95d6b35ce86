"""The lens: what obligations let pass of an event, and what its schema says of that."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import orjson
import pytest

from gateway.access.fields import Refusal, Unfit
from gateway.access.lens import Lens, compile_shape, received
from gateway.catalog.directory import DatasetView
from tests.catalog.view import dataset_view

SECRETS = {"sref-1": b"1" * 32, "sref-2": b"2" * 32}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "visitor": {"type": "string"},
        "at": {"type": "string", "format": "date-time"},
        "zone": {"type": "string"},
        "dwell": {"type": "integer"},
        "phone": {"type": ["string", "null"]},
        "place": {"type": "object", "properties": {"name": {"type": "string"}, "unit": {"type": "string"}}, "required": ["name"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["visitor", "at"],
}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "https://counters.example/1",
    "type": "visit",
    "time": "2026-11-23T12:07:31.25Z",
    "partitionkey": "someone",
    "schemaversion": 1,
    "data": {
        "visitor": "sref-1",
        "at": "2026-11-23T12:07:31.25Z",
        "zone": "east",
        "dwell": 312,
        "phone": "+19055550123",
        "place": {"name": "Café", "unit": "2"},
        "tags": ["a"],
    },
}


def keep(pointer: str) -> dict[str, Any]:
    return {"kind": "keep", "pointer": pointer, "standing": "enforced"}


def pseudonymise(period: str | None = None) -> dict[str, Any]:
    return {"kind": "pseudonymise", "pointer": "/visitor", "period": period, "standing": "enforced"}


def dataset(
    classification: str = "personal", schemas: dict[int, dict[str, Any]] | None = None, subject: str | None = "/visitor"
) -> DatasetView:
    members = {"slug": "footfall", "subject_pointer": subject, "subject_scheme": "opaque" if subject else None}
    return dataset_view(schemas or {1: SCHEMA}, classification=classification, **members)


def seen(obligations: list[dict[str, Any]], of: DatasetView | None = None, event: dict[str, Any] = EVENT, key: bytes = b"k" * 32) -> Any:
    """What a contract with these obligations receives of the event."""
    shape = compile_shape(tuple(obligations), of or dataset())
    rendered = shape.render(event, orjson.dumps(event), 0)
    if rendered is None:
        return None
    lens = Lens(shape, key, {"dataset": "footfall", "contract": "con_1"})
    return orjson.loads(lens.fill(rendered, event["data"].get("visitor"), SECRETS))


def test_what_is_not_named_does_not_pass() -> None:
    assert seen([keep("/zone")])["data"] == {"zone": "east"}
    assert seen([])["data"] == {}


def test_a_new_field_of_the_schema_reaches_nobody() -> None:
    wider = SCHEMA | {"properties": SCHEMA["properties"] | {"income": {"type": "integer"}}}
    event = EVENT | {"schemaversion": 2, "data": EVENT["data"] | {"income": 1}}

    assert seen([keep("/zone")], dataset(schemas={1: SCHEMA, 2: wider}), event)["data"] == {"zone": "east"}


def test_an_extension_attribute_that_nobody_named_does_not_pass_with_personal_data() -> None:
    assert "partitionkey" not in seen([keep("/zone")])
    assert seen([], dataset("open", subject=None))["partitionkey"] == "someone"


def test_a_subject_never_passes_as_it_is() -> None:
    for obligation in (keep("/visitor"), {"kind": "mask", "pointer": "/visitor", "keep_last": 4}):
        with pytest.raises(Refusal):
            compile_shape((obligation,), dataset())
    assert "visitor" not in seen([], dataset("internal"))["data"]
    assert "visitor" not in seen([{"kind": "drop", "pointer": "/zone"}], dataset("internal"))["data"]


def test_only_the_subject_is_pseudonymised() -> None:
    with pytest.raises(Refusal):
        compile_shape(({"kind": "pseudonymise", "pointer": "/zone", "period": None},), dataset())


def test_an_object_of_personal_data_is_kept_by_its_leaves_only() -> None:
    with pytest.raises(Refusal):
        compile_shape((keep("/place"),), dataset())
    assert seen([keep("/place/name")])["data"] == {"place": {"name": "Café"}}
    assert seen([keep("/tags")])["data"] == {"tags": ["a"]}


def test_an_obligation_that_the_lens_does_not_know_is_refused() -> None:
    with pytest.raises(Refusal):
        compile_shape(({"kind": "encrypt", "pointer": "/zone"},), dataset())


def test_pseudonyms_are_the_same_within_a_contract_and_different_between_contracts_and_people() -> None:
    def pseudonym(visitor: str = "sref-1", key: bytes = b"k" * 32) -> str:
        return str(seen([pseudonymise()], event=EVENT | {"data": EVENT["data"] | {"visitor": visitor}}, key=key)["data"]["visitor"])

    assert pseudonym() == pseudonym()
    assert len({pseudonym(), pseudonym("sref-2"), pseudonym(key=b"l" * 32)}) == 3
    assert len(pseudonym()) == 22


def test_a_pseudonym_with_a_period_changes_with_the_epoch_of_the_event() -> None:
    def in_month(time: str) -> str:
        return str(seen([pseudonymise("P30D")], event=EVENT | {"time": time})["data"]["visitor"])

    assert in_month("2026-11-01T00:00:00Z") == in_month("2026-11-02T00:00:00Z")
    assert in_month("2026-11-01T00:00:00Z") != in_month("2026-12-25T00:00:00Z")


def test_an_event_of_an_unknown_subject_does_not_fit() -> None:
    shape = compile_shape((pseudonymise(),), dataset())
    rendered = shape.render(EVENT, orjson.dumps(EVENT), 0)
    assert rendered is not None
    with pytest.raises(Unfit):
        Lens(shape, b"k" * 32, {}).fill(rendered, "erased", SECRETS)


@pytest.mark.parametrize(
    ("obligation", "name", "becomes"),
    [
        ({"kind": "time_bucket", "pointer": "/at", "period": "PT15M"}, "at", "2026-11-23T12:00:00Z"),
        ({"kind": "time_bucket", "pointer": "/at", "period": "P1D"}, "at", "2026-11-23T00:00:00Z"),
        ({"kind": "time_bucket", "pointer": "/at", "period": "PT0.5S"}, "at", "2026-11-23T12:07:31Z"),
        ({"kind": "generalise", "pointer": "/dwell", "step": 60}, "dwell", 300),
        ({"kind": "mask", "pointer": "/phone", "keep_last": 4}, "phone", "********0123"),
        ({"kind": "mask", "pointer": "/zone", "keep_last": 4}, "zone", "****"),
    ],
)
def test_what_each_obligation_makes_of_a_field(obligation: dict[str, Any], name: str, becomes: Any) -> None:
    assert seen([obligation])["data"] == {name: becomes}


def test_the_time_attribute_is_as_coarse_as_the_coarsest_bucket_of_the_data() -> None:
    assert seen([{"kind": "time_bucket", "pointer": "/at", "period": "PT1H"}])["time"] == "2026-11-23T12:00:00Z"


def test_a_row_filter_holds_other_rows_back() -> None:
    rows = {"kind": "row_filter", "pointer": "/zone", "values": ["west"]}
    assert seen([keep("/zone"), rows]) is None
    assert seen([keep("/zone"), rows | {"values": ["east"]}])["data"] == {"zone": "east"}


def test_a_row_filter_on_one_does_not_pass_true() -> None:
    rows = {"kind": "row_filter", "pointer": "/dwell", "values": [1]}
    assert seen([rows], event=EVENT | {"data": EVENT["data"] | {"dwell": True}}) is None
    assert seen([rows], event=EVENT | {"data": EVENT["data"] | {"dwell": 1}}) is not None


@pytest.mark.parametrize("data", [{"dwell": "long"}, {"dwell": True}, {"at": "yesterday"}, {"at": 5}, {"phone": 5}])
def test_a_field_of_another_type_than_its_obligation_needs_does_not_fit(data: dict[str, Any]) -> None:
    obligations: list[dict[str, Any]] = [
        {"kind": "generalise", "pointer": "/dwell", "step": 60},
        {"kind": "time_bucket", "pointer": "/at", "period": "PT15M"},
        {"kind": "mask", "pointer": "/phone", "keep_last": 4},
    ]
    with pytest.raises(Unfit):
        seen(obligations, event=EVENT | {"data": EVENT["data"] | data})


def test_open_data_passes_whole_with_what_the_exchange_adds() -> None:
    event = {name: value for name, value in EVENT.items() if name != "partitionkey"}
    assert seen([], dataset("open", subject=None), event) == event | {"dataset": "footfall", "contract": "con_1"}


def test_a_drop_takes_a_field_out_of_internal_data_at_any_depth() -> None:
    obligations = [{"kind": "drop", "pointer": "/place/unit"}, {"kind": "drop", "pointer": "/phone"}]
    got = seen(obligations, dataset("internal", subject=None))["data"]
    assert got["place"] == {"name": "Café"}
    assert "phone" not in got
    assert EVENT["data"]["place"] == {"name": "Café", "unit": "2"}


@pytest.mark.parametrize("classification", ["personal", "internal"])
@pytest.mark.parametrize(
    "obligations",
    [
        [],
        [keep("/zone"), keep("/place/name"), keep("/tags"), pseudonymise()],
        [
            {"kind": "time_bucket", "pointer": "/at", "period": "PT15M"},
            {"kind": "generalise", "pointer": "/dwell", "step": 60},
            {"kind": "mask", "pointer": "/phone", "keep_last": 4},
        ],
        [keep("/zone"), {"kind": "drop", "pointer": "/zone"}],
        [{"kind": "drop", "pointer": "/place/unit"}],
    ],
)
def test_every_event_fits_the_schema_of_what_is_received(classification: str, obligations: list[dict[str, Any]]) -> None:
    of = dataset(classification)
    schema = received(tuple(obligations), of)
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)

    for data in (EVENT["data"], {"visitor": "sref-2", "at": "2026-01-01T00:00:00Z", "phone": None}):
        got = seen(obligations, of, EVENT | {"data": data})["data"]
        assert validator.is_valid(got), (got, schema)
    if classification == "personal":
        assert schema["additionalProperties"] is False


def test_the_received_schema_covers_every_schema_version_of_the_dataset() -> None:
    older = SCHEMA | {"properties": SCHEMA["properties"] | {"zone": {"type": "integer"}}}
    of = dataset(schemas={1: older, 2: SCHEMA})
    validator = jsonschema_rs.Draft202012Validator(received((keep("/zone"),), of))

    assert validator.is_valid(seen([keep("/zone")], of, EVENT | {"data": EVENT["data"] | {"zone": 5}})["data"])
    assert validator.is_valid(seen([keep("/zone")], of, EVENT | {"schemaversion": 2})["data"])
