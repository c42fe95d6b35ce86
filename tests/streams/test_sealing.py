"""Sealed fields between the log and the lens: what is sealed, what is opened, for whom, and what happens without the key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from consent.erasure import erase
from consent.sealing import Broken, KeyAway, is_sealed
from gateway.access.lens import compile_shape
from gateway.errors import ExchangeError, Invalid
from gateway.streams.sealing import opening_of, seal_fields
from tests.streams.sealed import KEEP_AGE, KEEP_ZONE, Sealing, dataset, stored, visit


@pytest.fixture
def sealing(tmp_path: Path) -> Iterator[Sealing]:
    made = Sealing(tmp_path)
    yield made
    made.database.close()


def test_a_sealed_field_is_stored_sealed_and_opened_again_by_another_process(sealing: Sealing) -> None:
    of = dataset("/age", "/address")
    (record,) = sealing.seal(of, visit(sealing.ann, age=41, zone="harbour", address={"city": "Mississauga", "street": "Lakeshore"}))
    assert is_sealed(record.event["data"]["age"])
    assert is_sealed(record.event["data"]["address"])
    assert b"Lakeshore" not in record.value
    assert record.event["data"]["zone"] == "harbour"
    opened = sealing.open(of, record, KEEP_AGE, {"kind": "keep", "pointer": "/address/city"})
    assert opened == {"visitor": sealing.ann, "age": 41, "zone": "harbour", "address": {"city": "Mississauga", "street": "Lakeshore"}}
    assert is_sealed(record.event["data"]["age"]), "what the block holds stays sealed"


def test_a_field_within_an_object_is_sealed_alone(sealing: Sealing) -> None:
    of = dataset("/address/street")
    with_street, without, elsewhere = sealing.seal(
        of, visit(sealing.ann, address={"city": "M", "street": "Lakeshore"}), visit(sealing.ann, address={"city": "M"}), visit(sealing.ann)
    )
    assert with_street.event["data"]["address"]["city"] == "M"
    assert is_sealed(with_street.event["data"]["address"]["street"])
    assert without.event["data"]["address"] == {"city": "M"}
    assert "address" not in elsewhere.event["data"]
    keep = {"kind": "keep", "pointer": "/address/street"}
    assert sealing.open(of, with_street, keep)["address"] == {"city": "M", "street": "Lakeshore"}
    assert sealing.open(of, without, keep)["address"] == {"city": "M"}


def test_null_is_sealed_too(sealing: Sealing) -> None:
    of = dataset("/age")
    (record,) = sealing.seal(of, visit(sealing.ann, age=None))
    assert is_sealed(record.event["data"]["age"])
    assert sealing.open(of, record, KEEP_AGE)["age"] is None


def test_what_was_stored_before_the_dataset_asked_passes_as_it_is(sealing: Sealing) -> None:
    assert sealing.open(dataset("/age"), stored(visit(sealing.ann, age=41)), KEEP_AGE)["age"] == 41


@pytest.mark.parametrize(
    ("obligations", "classification", "needed"),
    [
        ((KEEP_ZONE,), "personal", False),
        ((KEEP_ZONE, {"kind": "keep", "pointer": "/address/city"}), "personal", True),
        ((KEEP_ZONE, {"kind": "mask", "pointer": "/address/street", "keep_last": 1}), "personal", True),
        ((KEEP_ZONE, {"kind": "keep", "pointer": "/address/city"}, {"kind": "drop", "pointer": "/address"}), "personal", False),
        ((KEEP_ZONE, {"kind": "row_filter", "pointer": "/address/city", "values": ["M"]}), "personal", True),
        ((KEEP_ZONE, {"kind": "row_filter", "pointer": "/zone", "values": ["M"]}), "personal", False),
        ((), "personal", False),
        ((), "internal", True),
        (({"kind": "drop", "pointer": "/address"},), "internal", False),
        (({"kind": "drop", "pointer": "/address/city"},), "internal", True),
        (({"kind": "consent_filter"}, KEEP_ZONE), "internal", False),
    ],
)
def test_a_field_is_opened_only_if_the_lens_needs_it(
    sealing: Sealing, obligations: tuple[dict[str, Any], ...], classification: str, needed: object
) -> None:
    opening = opening_of(obligations, dataset("/address", classification=classification), sealing.keys)
    assert (opening is not None) is needed


def test_a_view_renders_what_is_opened_as_the_lens_says(sealing: Sealing) -> None:
    of = dataset("/age", "/address")
    obligations = ({"kind": "generalise", "pointer": "/age", "step": 10},)
    (record,) = sealing.seal(of, visit(sealing.ann, age=41, address={"city": "M"}))
    opening = opening_of(obligations, of, sealing.process())
    assert opening is not None
    keys = asyncio.run(opening.keys_for([record[:2]]))
    made = opening.render(compile_shape(obligations, of), record.event, record.value, record.sref, 0, keys)
    assert made is not None
    assert orjson.loads(made[0] + b"}")["data"] == {"age": 40}


def test_another_persons_key_does_not_open_what_was_moved_to_them(sealing: Sealing) -> None:
    of = dataset("/age")
    ann, bob = sealing.seal(of, visit(sealing.ann, age=41), visit(sealing.bob, age=17))
    bob.event["data"]["age"] = ann.event["data"]["age"]
    with pytest.raises(Broken):
        sealing.open(of, bob, KEEP_AGE)


def test_a_sealed_value_that_was_changed_or_moved_to_another_field_is_broken(sealing: Sealing) -> None:
    of = dataset("/age", "/zone")
    (record,) = sealing.seal(of, visit(sealing.ann, age=41, zone="harbour"))
    data = record.event["data"]
    data["age"], data["zone"] = data["zone"], data["age"]
    with pytest.raises(Broken):
        sealing.open(of, record, KEEP_AGE)


def test_without_its_key_a_value_is_broken(sealing: Sealing) -> None:
    of = dataset("/age")
    (record,) = sealing.seal(of, visit(sealing.ann, age=41))
    with sealing.database.transaction() as session:
        erase(session, sealing.ann, change=1)
    with pytest.raises(Broken):
        sealing.open(of, record, KEEP_AGE)


def test_a_lost_key_encryption_key_opens_nothing_and_seals_nothing(sealing: Sealing) -> None:
    of = dataset("/age")
    (record,) = sealing.seal(of, visit(sealing.ann, age=41))
    (sealing.folder / "keys.json").rename(sealing.folder / "lost.json")
    for kek in ("", "A" * 43):  # none at all, and another one
        keys = sealing.process(kek)
        with pytest.raises(KeyAway):
            sealing.open(of, record, KEEP_AGE, keys=keys)
        with pytest.raises(ExchangeError) as refused:
            asyncio.run(seal_fields(keys, of, [visit(sealing.ann, age=41)]))
        assert (refused.value.code, refused.value.status) == ("sealing_unavailable", 503)


def test_nothing_is_sealed_for_who_was_erased_meanwhile(sealing: Sealing) -> None:
    with sealing.database.transaction() as session:
        erase(session, sealing.ann, change=1)
    with pytest.raises(ExchangeError) as refused:
        asyncio.run(seal_fields(sealing.keys, dataset("/age"), [visit(sealing.ann, age=41)]))
    assert refused.value.code == "sealing_unavailable"


def test_forgotten_keys_are_read_again_if_they_still_exist(sealing: Sealing) -> None:
    of = dataset("/age")
    ann, bob = sealing.seal(of, visit(sealing.ann, age=41), visit(sealing.bob, age=17))
    with sealing.database.transaction() as session:
        erase(session, sealing.ann, change=1)
    assert sealing.open(of, ann, KEEP_AGE, keys=sealing.keys)["age"] == 41, "it is in memory still"
    sealing.keys.forget({sealing.ann, sealing.bob})
    assert sealing.open(of, bob, KEEP_AGE, keys=sealing.keys)["age"] == 17
    with pytest.raises(Broken):
        sealing.open(of, ann, KEEP_AGE, keys=sealing.keys)


def test_a_key_that_was_being_read_during_the_erasure_is_not_kept(sealing: Sealing) -> None:
    of = dataset("/age")
    (record,) = sealing.seal(of, visit(sealing.ann, age=41))
    reader = sealing.process()
    sealing.erased.add(sealing.ann)  # the change is applied before the row that was read arrives
    assert asyncio.run(reader.to_open("visits", [sealing.ann]))
    with sealing.database.transaction() as session:
        erase(session, sealing.ann, change=1)
    with pytest.raises(Broken):
        sealing.open(of, record, KEEP_AGE, keys=reader)


def test_a_value_nested_too_deep_to_be_written_does_not_fit(sealing: Sealing) -> None:
    def nested(deep: int) -> Any:
        return [nested(deep - 1)] if deep else 1

    def most_that_is_written(deep: int = 1) -> int:
        try:
            orjson.dumps(visit(sealing.ann, address=nested(deep + 1)))
        except orjson.JSONEncodeError:
            return deep
        return most_that_is_written(deep + 1)

    most = most_that_is_written()
    (record,) = sealing.seal(dataset("/address"), visit(sealing.ann, address=nested(most)))
    orjson.dumps(sealing.open(dataset("/address"), record, {"kind": "keep", "pointer": "/address"}))
    with pytest.raises(Invalid) as refused:
        sealing.seal(dataset("/address"), visit(sealing.ann, address=nested(most + 1)))
    assert refused.value.code == "event_does_not_fit"
