from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from datetime import datetime

import jsonschema_rs
import pytest

from connectors.cloudevent import Event
from connectors.samples import SLUGS, dataset, schema
from connectors.sources import business_directory, council_calendar, footfall, miway_stops, transit_feed

FOOTFALL_DIGEST = "0f08a405e4e7ef69"


def everything(slug: str) -> Iterator[Event]:
    if slug == "business-directory":
        return itertools.chain(business_directory.events(2019), business_directory.events(2022))
    if slug == "port-credit-footfall":
        return itertools.islice(footfall.events(seed=7), 2000)
    return {"miway-stops": miway_stops.events, "council-calendar": council_calendar.events, "transit-feed": transit_feed.events}[slug]()


def in_bytes(events: Iterator[Event]) -> bytes:
    return b"\n".join(json.dumps(event, sort_keys=True).encode() for event in events)


@pytest.mark.parametrize("slug", SLUGS)
def test_every_event_fits_its_schema(slug: str) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema(slug), validate_formats=True, offline=True)
    count = 0
    for event in everything(slug):
        validator.validate(event["data"])
        count += 1
    assert count >= 99


@pytest.mark.parametrize("slug", SLUGS)
def test_every_event_is_a_cloudevent_with_an_identifier_of_its_own(slug: str) -> None:
    seen = set()
    for event in everything(slug):
        assert event["specversion"] == "1.0"
        assert event["source"].startswith("https://")
        assert event["type"]
        if "time" in event:
            assert datetime.fromisoformat(event["time"]).tzinfo is not None
        seen.add((event["source"], event["id"]))
    assert len(seen) == sum(1 for _ in everything(slug))


@pytest.mark.parametrize("slug", SLUGS)
def test_a_dataset_document_speaks_both_languages_and_names_its_licence(slug: str) -> None:
    document = dataset(slug)
    assert document["slug"] == slug
    for member in ("title", "description"):
        assert set(document[member]) == {"en", "fr"}
        assert document[member]["en"] != document[member]["fr"]
    assert set(document["licence"]) == {"id", "url", "attribution"}
    assert jsonschema_rs.meta.is_valid(document["schema"])
    assert document["schema"]["additionalProperties"] is False


@pytest.mark.parametrize("slug", SLUGS)
def test_pointers_of_a_dataset_lead_to_members_of_its_schema(slug: str) -> None:
    document = dataset(slug)
    pointers = [document["key_pointer"], *document.get("personal_pointers", []), *filter(None, [document.get("subject_pointer")])]
    assert {pointer.removeprefix("/") for pointer in pointers} <= set(document["schema"]["properties"])


def test_both_editions_of_the_directory_read_the_same_though_their_columns_drifted() -> None:
    old = {business["id"]: business for business in business_directory.rows(2019)}
    new = {business["id"]: business for business in business_directory.rows(2022)}
    assert len(old) == 676
    assert len(new) == 757
    assert set(old) <= set(new)
    for member in ("sector", "area", "building"):
        assert any(member in business for business in old.values())
        assert any(member in business for business in new.values())
    texts = [text for business in [*old.values(), *new.values()] for text in business.values() if isinstance(text, str)]
    assert all(text and text == text.strip() for text in texts)


def test_stops_have_numbers_where_the_file_has_spaces() -> None:
    stop = next(miway_stops.events())["data"]
    assert (stop["id"], stop["latitude"], stop["longitude"]) == ("0001", 43.535249, -79.663644)
    assert sum(1 for _ in miway_stops.events()) == 4089


def test_replay_gives_changed_trips_only_with_its_timing_compressed() -> None:
    steps = list(transit_feed.replay(speed=60))
    assert [round(wait, 2) for wait, _ in steps] == [0.0, 1.0, 1.0, 1.15, 1.0]
    last: dict[str, object] = {}
    for _, events in steps:
        for event in events:
            assert last.get(event["data"]["trip_id"]) != event["data"]
            last[event["data"]["trip_id"]] = event["data"]
    assert 0 < sum(len(events) for _, events in steps[1:]) < 4 * len(steps[0][1])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    once, again, other = (in_bytes(itertools.islice(footfall.events(seed), 500)) for seed in (7, 7, 8))
    assert once == again
    assert once != other
    assert hashlib.sha256(once).hexdigest().startswith(FOOTFALL_DIGEST)


def test_invented_visitors_say_so_in_every_event_and_in_the_title() -> None:
    assert all(event["data"]["synthetic"] is True for event in everything("port-credit-footfall"))
    assert "synthetic" in dataset("port-credit-footfall")["title"]["en"]


def test_invented_visitors_come_to_real_businesses_of_port_credit() -> None:
    real = {business["name"] for business in business_directory.rows(2022) if business["district"] == "port-credit"}
    assert {event["data"]["business"] for event in everything("port-credit-footfall")} <= real
