"""The first half of the story: open data, which anybody may read, and a standing offer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain

from connectors import replayer
from connectors.cloudevent import Event, rfc3339
from connectors.samples import dataset
from connectors.sources import business_directory, council_calendar, miway_stops
from gateway.cli.demo.cast import Cast

REPLAY_SPEED = 240.0
"""How many times faster than it was recorded the transit feed is replayed."""
CONTRACT_LIFE = timedelta(days=180)


def open_datasets(cast: Cast) -> dict[str, int]:
    """The department opens four datasets and publishes them; returns how many events went into each."""
    screen = cast.screen
    screen.act("A department opens its datasets")
    published = {
        "business-directory": _publish(cast, "business-directory", chain(business_directory.events(2019), business_directory.events(2022))),
        "miway-stops": _publish(cast, "miway-stops", miway_stops.events()),
        "council-calendar": _publish(cast, "council-calendar", council_calendar.events()),
    }
    with screen.line(_title("transit-feed")):
        cast.provider.post("/v1/datasets", dataset("transit-feed"))
    published["transit-feed"] = 0
    for snapshot in replayer.replay(cast.provider, "transit-feed", speed=REPLAY_SPEED):
        screen.calls(f"a snapshot {snapshot.after:.0f} s after the one before: {snapshot.changed} trips changed")
        published["transit-feed"] += sum(batch.accepted for batch in snapshot.published)
    return published


def anybody_reads(cast: Cast, published: dict[str, int]) -> None:
    """No token, no client, no contract: open data is open."""
    screen = cast.screen
    screen.act("Anybody reads what is open, without a token")
    with screen.line("the catalogue, for everyone"):
        listed = cast.anybody.get("/v1/datasets")["items"]
    screen.claim(
        {entry["slug"] for entry in listed} >= set(published), "the four datasets stand in the catalogue, each with its city in the title"
    )
    with screen.line("the business directory, from its first event on"):
        pages = list(cast.anybody.pull("business-directory", cursor="earliest"))
    events = [event for page in pages for event in page.events]
    screen.claim(len(events) == published["business-directory"], f"all {len(events)} events of the directory came, in {len(pages)} pages")
    ours = [event["data"] for event in events if event["data"].get("district") == "port-credit"]
    screen.note(f"{len(ours)} of them are in Port Credit, for example {ours[0]['name']}, {ours[0]['street_number']} {ours[0]['street']}")


def take_up_an_offer(cast: Cast, published: dict[str, int]) -> tuple[str, str]:
    """The provider signs in advance, the start-up takes it up and reads at once; returns the offer and the contract."""
    screen = cast.screen
    screen.act("A standing offer: the provider signs in advance, the start-up reads at once")
    with screen.line("whoever is approved may plan transit with this, its whole history too"):
        offer = cast.provider.post(
            "/v1/datasets/transit-feed/offers",
            {
                "purpose": "transit-planning",
                "terms": {"en": "Name the source. No warranty.", "fr": "Citer la source. Sans garantie."},
                "max_validity": "P365D",
                "max_history": "all",
                "to": ["approved_organizations"],
            },
        )
    with screen.line("the start-up takes the offer up, with history: all"):
        contract = cast.consumer.post("/v1/contracts", terms("transit-feed", "transit-planning", history="all") | {"offer": offer["id"]})
    screen.claim(contract["state"] == "active", "the contract is active at once: nobody had to be asked")
    with screen.line("and reads what was there before it existed"):
        events = [event for page in cast.consumer.pull(contract["id"]) for event in page.events]
    screen.claim(len(events) == published["transit-feed"], f"all {len(events)} trip updates came")
    screen.claim({event["contract"] for event in events} == {contract["id"]}, "each says under which contract it was delivered")
    return str(offer["id"]), str(contract["id"])


def terms(slug: str, purpose: str, *, history: str = "none") -> dict[str, str]:
    """A proposal for half a year from now on."""
    now = datetime.now(UTC)
    return {
        "dataset": slug,
        "purpose": purpose,
        "valid_from": rfc3339(now),
        "valid_until": rfc3339(now + CONTRACT_LIFE),
        "history": history,
    }


def _publish(cast: Cast, slug: str, events: Iterable[Event]) -> int:
    with cast.screen.line(_title(slug)):
        cast.provider.post("/v1/datasets", dataset(slug))
    made = list(events)
    with cast.screen.line(f"{len(made)} events, each acknowledged by the log and in the audit log"):
        accepted = _accepted(cast, slug, made)
    cast.screen.claim(accepted == len(made), f"the exchange acknowledged all {accepted}")
    return accepted


def _accepted(cast: Cast, slug: str, events: list[Event]) -> int:
    return sum(batch.accepted for batch in cast.provider.publish(slug, events))


def _title(slug: str) -> str:
    return f'open: "{dataset(slug)["title"]["en"]}"'
