"""The second half of the story: data about people, which moves by contract, signature and consent alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import jsonschema_rs

from connectors.client import ProblemError
from connectors.cloudevent import Event, rfc3339
from connectors.samples import dataset, notice
from connectors.sources import footfall
from gateway.cli.demo.cast import Cast
from gateway.cli.demo.listener import Listener
from gateway.cli.demo.open_data import terms

SLUG = "port-credit-footfall"
SEED = 7
VISITORS = 40
CONSENTING = 20
BATCH = 200
PATIENCE_SECONDS = 15.0
KEPT = {"at", "dwell_seconds", "synthetic", "visitor", "zone"}
"""What the rule sheet of the dataset lets through for transit planning."""
BUCKET = timedelta(minutes=15)


@dataclass(slots=True)
class Footfall:
    """What the story knows of the personal stream: its contract, the withdrawal code and the receipt of each who consented, what comes."""

    contract: str
    consents: dict[str, str] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    visits: Iterator[Event] = field(default_factory=lambda: footfall.events(SEED, visitors=VISITORS))

    def covered(self, events: Iterable[Event]) -> list[Event]:
        """Those whose visitor has consented and not withdrawn."""
        return [event for event in events if event["data"]["visitor"] in self.consents]


def sign_a_contract(cast: Cast) -> Footfall:
    """The start-up proposes, policy agrees, both sides sign by key."""
    screen = cast.screen
    screen.act("Data about people: a contract that both sides sign by key")
    document = dataset(SLUG)
    with screen.line(f'personal: "{document["title"]["en"]}"'):
        cast.provider.post("/v1/datasets", document)
    with screen.line("the start-up proposes to plan transit with it; policy is asked first"):
        proposed = cast.consumer.post("/v1/contracts", terms(SLUG, "transit-planning"))
    screen.claim(proposed["state"] == "proposed", "policy would allow it, so a human is asked")
    with screen.line("the provider reads the text and signs its digest"):
        cast.provider.sign(proposed["id"])
    with screen.line("the start-up signs the same digest"):
        signed = cast.consumer.sign(proposed["id"])
    screen.claim(signed["state"] == "active", "two signatures, and the contract is active")
    return Footfall(signed["id"])


def visitors_consent(cast: Cast, known: Footfall) -> None:
    """Half of the visitors say yes; the others were not asked."""
    screen = cast.screen
    screen.act(f"{CONSENTING} of {VISITORS} visitors consent")
    with screen.line("the notice that they are shown, in English and French, word for word"):
        shown = cast.provider.post("/v1/notices-of-consent", notice(SLUG) | {"recipients": [cast.consumer_id]})
    body = {
        "dataset": SLUG,
        "purposes": ["transit-planning"],
        "recipients": [cast.consumer_id],
        "notice": {"id": shown["id"], "version": shown["version"], "language": "en"},
        "given_by": "subject",
    }
    with screen.line("to transit planning, by this start-up"):
        for number in range(CONSENTING):
            who = footfall.visitor(number)
            given = cast.provider.post("/v1/consents", body | {"subject": who})
            known.consents[who], known.receipts[who] = given["withdrawal_code"], given["receipt"]


def read_what_is_allowed(cast: Cast, known: Footfall) -> list[Listener]:
    """The start-up pulls and listens, and gets pseudonyms and the fields that it may see, of those who consented."""
    screen = cast.screen
    screen.act("The start-up reads: pseudonyms, and only the fields that it may see")
    sent = list(islice(known.visits, BATCH))
    with screen.line(f"{len(sent)} visits, of everybody"):
        cast.provider.publish(SLUG, sent)
    expected = known.covered(sent)
    with screen.line("a token that names the contract, and the events by pull"):
        got = [event for page in cast.consumer.pull(known.contract) for event in page.events]
    screen.note(f"for example {json.dumps(got[0]['data'])}" if got else "nothing came")
    screen.claim(len(got) == len(expected), f"{len(got)} of {len(sent)} came: those of visitors who consented")
    screen.claim(all(set(event["data"]) == KEPT for event in got), "each has the fields of the rule sheet; age band and business are gone")
    screen.claim(shown(got) == shown_by_rule(expected), "times are rounded to 15 minutes, visits to a minute, zones as they are")
    screen.claim("invented-visitor" not in json.dumps(got), "nobody's identifier is in what came")
    _claim_schema(cast, known, got)
    with screen.line("the same over SSE, and the stream stays open" + (", at each replica" if len(cast.readers) > 1 else "")):
        listeners = [Listener(reader, known.contract) for reader in cast.readers]
        for listener in listeners:
            listener.wait_for_events(len(expected), PATIENCE_SECONDS)
    same = all(shown(listener.events) == shown(got) for listener in listeners)
    screen.claim(same, f"the same {len(got)} events came over {streams(listeners)}")
    return listeners


def advertising_is_denied(cast: Cast) -> None:
    """Policy says no, and why, before a human is asked."""
    screen = cast.screen
    screen.act("The start-up asks for advertising")
    before = len(cast.provider.get("/v1/contracts")["items"])
    denied: ProblemError | None = None
    with screen.line("no, and why:"):
        try:
            cast.consumer.post("/v1/contracts", terms(SLUG, "advertising"))
        except ProblemError as problem:
            denied = problem
    for reason in denied.reasons if denied else []:
        screen.note(f"{reason['code']}: {reason['title']['en']} / {reason['title']['fr']}")
    screen.claim(denied and denied.code == "policy_denied" and denied.reasons, "policy denied it, with reasons")
    after = len(cast.provider.get("/v1/contracts")["items"])
    screen.claim(after == before, "the provider was not bothered: no proposal reached it")


def the_contract_is_suspended(cast: Cast, known: Footfall, listeners: list[Listener]) -> None:
    """Each stream ends, and says why."""
    screen = cast.screen
    screen.act("The provider suspends the contract")
    with screen.line("suspended"):
        cast.provider.post(f"/v1/contracts/{known.contract}/suspend", {"reason": "Quarterly review"})
    for listener in listeners:
        listener.wait(lambda stream: stream.end, PATIENCE_SECONDS)
        end: dict[str, Any] = listener.end or {}
        screen.note(f"event: end   {json.dumps({name: end.get(name) for name in ('code', 'detail')})}")
    ended = all(listener.end and listener.end.get("code") == "contract_not_in_force" for listener in listeners)
    screen.claim(ended, f"{streams(listeners)} ended with that reason")


def streams(listeners: Sized) -> str:
    """How the story names the streams that are open."""
    return "the open stream" if len(listeners) == 1 else f"the {len(listeners)} open streams"


def _claim_schema(cast: Cast, known: Footfall, got: list[dict[str, Any]]) -> None:
    with cast.screen.line("the JSON Schema of what this contract receives"):
        schema = cast.consumer.get(f"/v1/contracts/{known.contract}/schema")
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)
    cast.screen.claim(got and all(validator.is_valid(event["data"]) for event in got), "every delivered event fits it")


def shown(events: Iterable[Event]) -> list[tuple[str, str, int]]:
    """What may be compared with what was sent: all but the pseudonym."""
    return sorted((event["data"]["at"], event["data"]["zone"], event["data"]["dwell_seconds"]) for event in events)


def shown_by_rule(events: Iterable[Event]) -> list[tuple[str, str, int]]:
    """The same, as the rule sheet says that it must arrive."""
    return sorted((_bucket(event["data"]["at"]), event["data"]["zone"], event["data"]["dwell_seconds"] // 60 * 60) for event in events)


def _bucket(moment: str) -> str:
    at = datetime.fromisoformat(moment)
    return rfc3339(at - (at - datetime.min.replace(tzinfo=UTC)) % BUCKET)
