"""The heart of the story: a resident holds a receipt, withdraws by the code in it, and is heard of no more, on any replica."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from itertools import islice
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from connectors.sources import footfall as visits
from gateway.cli.demo.cast import Cast
from gateway.cli.demo.footfall import BATCH, PATIENCE_SECONDS, SLUG, Footfall, shown, shown_by_rule, streams
from gateway.cli.demo.listener import Listener

WHO, ANOTHER = visits.visitor(0), visits.visitor(1)
CURL_SECONDS = 20


def a_visitor_holds_a_receipt(cast: Cast, known: Footfall) -> None:
    """Anybody can check it by the exchange's public keys; the withdrawal code stands in it."""
    screen = cast.screen
    screen.act("One of them, an invented resident, holds a receipt")
    with screen.line("the public keys of the exchange, for whoever wants to check a receipt"):
        keys = cast.anybody.get("/oauth/jwks")
    said = read_receipt(known.receipts[WHO], keys)
    screen.claim(said, "the exchange has signed it, as any program for JWS can check")
    about = said["pii_processing"]
    screen.note(f"{about['dataset']}, for {', '.join(purpose['code'] for purpose in about['purposes'])}, to Lakeshore Mobility")
    screen.note(f"withdrawal code {about['withdrawal']['code']}")
    screen.claim(
        about["withdrawal"]["code"] == known.consents[WHO], "the withdrawal code stands in it: it withdraws this consent and nothing else"
    )
    screen.claim(about["recipients"] == [cast.consumer_id], "and so does who receives")
    screen.claim(WHO not in json.dumps(said), "but not whose it is: only its holder knows")


def a_visitor_withdraws(cast: Cast, known: Footfall, listeners: list[Listener]) -> str:
    """One visitor's events stop in all open streams, while others go on; returns under which name those of `ANOTHER` come."""
    screen = cast.screen
    screen.act("The resident withdraws consent, in the middle of the stream")
    pseudonym, another = (_pseudonym(cast, known, listeners, who) for who in (WHO, ANOTHER))
    url = str(cast.readers[-1].http.base_url).rstrip("/")
    answer = _withdraw(cast, url, known.consents.pop(WHO))
    screen.claim(answer.get("state") == "withdrawn", f"withdrawn at {answer.get('effective_at')}, without an account")
    barrier = answer["barrier"]
    confirmed = f"{barrier['replicas']} replicas have" if barrier["replicas"] != 1 else "1 replica has"
    screen.claim(
        barrier["replicas"] == len(cast.readers),
        f"when that came, {confirmed} confirmed that nothing more leaves; it took {barrier['waited_ms']} ms",
    )
    _others_go_on(cast, known, listeners, pseudonym)
    with screen.line("the start-up reads everything again, from the start"):
        again = [event for page in cast.consumer.pull(known.contract, cursor="earliest") for event in page.events]
    screen.claim(all(event["data"]["visitor"] != pseudonym for event in again), "what that visitor did before is withheld too")
    with screen.line("the operator sees who is live, and how long it took"):
        standing = cast.operator.get("/v1/replicas")
    live = [replica for replica in standing["items"] if replica["state"] == "live"]
    screen.claim(
        len(live) == len(cast.readers), f"{len(live)} live, the slowest withdrawal or other barrier {standing['barriers']['slowest_ms']} ms"
    )
    return another


def _pseudonym(cast: Cast, known: Footfall, listeners: list[Listener], who: str) -> str:
    """Publish one visit of one visitor and see under which name it arrives."""
    one = next(event for event in known.visits if event["data"]["visitor"] == who)
    seen = [len(listener.events) for listener in listeners]
    with cast.screen.line("one visit of one visitor"):
        cast.provider.publish(SLUG, [one])
    for listener, before in zip(listeners, seen, strict=True):
        listener.wait_for_events(before + 1, PATIENCE_SECONDS)
    came = [listener.events[before:] for listener, before in zip(listeners, seen, strict=True)]
    cast.screen.claim(all(len(events) == 1 for events in came), f"which arrived in {streams(listeners)}")
    names = {str(events[0]["data"]["visitor"]) for events in came}
    cast.screen.claim(len(names) == 1, f"where {who} is {min(names)}, and in every other contract somebody else")
    return names.pop()


def read_receipt(receipt: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """What a receipt says, if one of these keys has signed it; else nothing."""
    try:
        signed = jws.deserialize_compact(receipt, KeySet.import_key_set({"keys": keys["keys"]}), algorithms=["ES256"])
    except JoseError:
        return {}
    said: dict[str, Any] = json.loads(signed.payload)
    return said


def _withdraw(cast: Cast, url: str, code: str) -> dict[str, Any]:
    """By the line that is printed; without curl on this machine, by the same call."""
    body = {"code": code}
    line = ["curl", "-s", "-H", "Content-Type: application/json", "-d", json.dumps(body), f"{url}/v1/consents/withdraw"]
    cast.screen.say(f"  {shlex.join(line)}")
    answer: dict[str, Any]
    if shutil.which("curl") is None:
        answer = cast.anybody.post("/v1/consents/withdraw", body)
        return answer
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=CURL_SECONDS)
    cast.screen.note(done.stdout.strip() or f"curl ended with status {done.returncode}")
    cast.screen.claim(done.returncode == 0, "one line, and the code in it, were enough")
    answer = json.loads(done.stdout)
    return answer


def _others_go_on(cast: Cast, known: Footfall, listeners: list[Listener], pseudonym: str) -> None:
    screen = cast.screen
    seen = [len(listener.events) for listener in listeners]
    sent = list(islice(known.visits, BATCH))
    expected = known.covered(sent)
    theirs = sum(event["data"]["visitor"] == WHO for event in sent)
    with screen.line(f"{len(sent)} visits more, {theirs} of them of that visitor"):
        cast.provider.publish(SLUG, sent)
    for listener, before in zip(listeners, seen, strict=True):
        listener.wait_for_events(before + len(expected), PATIENCE_SECONDS)
    fresh = [listener.events[before:] for listener, before in zip(listeners, seen, strict=True)]
    screen.claim(theirs, "that visitor came again")
    nothing = all(event["data"]["visitor"] != pseudonym for events in fresh for event in events)
    screen.claim(nothing, f"and not one of those events reached {streams(listeners)}")
    went_on = all(shown(events) == shown_by_rule(expected) for events in fresh)
    screen.claim(went_on, f"while all {len(expected)} of the others went on" + (" in each" if len(listeners) > 1 else ""))
