"""The rows of policy: how long it takes until another revision answers everywhere, and what a preview of ten thousand decisions takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

import psycopg

from tests.benchmarks.generator import generator
from tests.benchmarks.material import events
from tests.benchmarks.measured import Measured, percentile
from tests.benchmarks.place import Place, Terms
from tests.benchmarks.stage import LIVE, Stage
from tests.gateway import Gateway
from tests.officers import AT_ONCE, Officers

REPLICAS = 3
STREAMS = 100
ACTIVATIONS = 100
FIRST = 1 + 2 * 3
"""Activations that do not count: the first after a preview, then at each replica one of each revision, which works out whom it concerns."""
PAUSE_S = 1.0
"""Between two: how long one takes beside streams is measured, not beside what all streams ask after the one before it."""
EVENTS_EACH = 0.25
"""Seconds between two events that all streams get."""
NEVER = 10**9
DECISIONS = 10_000
ENVIRONMENT = AT_ONCE | {"EXCHANGE_TOKEN_LIFETIME_S": "3600"}
# Of one decision that was made, each with another client: no two are asked as one.
_DECISIONS = """
INSERT INTO decisions SELECT (json_populate_record(d, json_build_object(
    'id', 'dec_crowd_' || lpad(i::text, 12, '0'),
    'facts', '\\x' || encode(convert_to(replace(convert_from(d.facts, 'UTF8'), d.client_id, 'cli_crowd_' || i), 'UTF8'), 'hex')))).*
FROM decisions AS d, generate_series(1, %(count)s) AS i
WHERE d.id = (SELECT id FROM decisions WHERE action = 'propose' AND client_id IS NOT NULL ORDER BY id LIMIT 1)
"""


def activate(stage: Stage) -> Measured:
    """Two revisions in turn, at each replica in turn, as the officer sees it: when it returns, it holds at all and every engine has it."""
    with ExitStack() as ending:
        replicas: list[Gateway] = []
        for number in range(REPLICAS):
            first = replicas[0] if replicas else None
            replicas.append(Gateway(stage.engines, stage.folder / f"policy-{number}", ENVIRONMENT, beside=first))
            ending.callback(replicas[-1].close)
        place = Place(replicas[0], [LIVE], stage.say)
        for replica in replicas[1:]:
            replica.start()
        place.dataset(LIVE, personal=True)
        terms = place.terms(LIVE, STREAMS)
        officers = Officers(replicas[0])
        revisions = [officers.active(), officers.agreed(officers.drafted(LIVE, assessment="Another one, of a benchmark"))]
        ending.enter_context(_streaming(place, replicas, terms))
        stage.say(f"{ACTIVATIONS} activations at {REPLICAS} replicas with {STREAMS} streams")
        took = []
        for number in range(FIRST + ACTIVATIONS):
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            answer = officers.activate(revisions[(number + 1) % 2], at=replicas[number % REPLICAS])
            took.append((time.perf_counter() - began) * 1000)
            if answer.status_code != 200:
                raise ValueError(answer.text)
    took = took[FIRST:]
    return Measured({"activate_p99_ms": percentile(took, 0.99)}, f"p50 {median(took):.0f} ms, slowest {max(took):.0f} ms")


def preview(stage: Stage) -> Measured:
    """From the call that begins it to the one that gives its result; each decision replayed through both revisions."""
    with ExitStack() as ending:
        gateway = Gateway(stage.engines, stage.folder / "preview", ENVIRONMENT)
        ending.callback(gateway.close)
        place = Place(gateway, [LIVE], stage.say)
        place.dataset(LIVE, personal=True)
        place.terms(LIVE, 1)
        with psycopg.connect(gateway.database_url.replace("+psycopg", "", 1)) as connection:
            made = connection.execute(_DECISIONS, {"count": DECISIONS}).rowcount
        officers = Officers(gateway)
        revision = officers.drafted(LIVE, rules=[])
        stage.say(f"a preview of {made:,} decisions")
        began = time.perf_counter()
        seen = officers.previewed(revision)
        took = time.perf_counter() - began
        replayed = seen["result"]["decisions"]["replayed"]
        if replayed < DECISIONS:
            raise ValueError(f"{replayed} decisions were replayed")
    return Measured({"preview_10k_s": took}, f"{seen['total']:,} evaluations by each revision")


@contextmanager
def _streaming(place: Place, replicas: list[Gateway], terms: list[Terms]) -> Iterator[None]:
    """A third of the streams at each replica, and an event to all of them now and then."""
    over = threading.Event()

    def publish() -> None:
        number = 0
        while not over.wait(EVENTS_EACH):
            place.provider.publish(LIVE, list(events(1, first=number)))
            number += 1

    with ExitStack() as ending:
        for place_of, replica in enumerate(replicas):
            subscribers = [[each.path, each.token] for each in terms[place_of::REPLICAS]]
            plan = {"address": ["127.0.0.1", replica.port], "subscribers": subscribers, "events": NEVER}
            ending.enter_context(generator("follow", plan)).go()
        publishing = threading.Thread(target=publish)
        publishing.start()
        try:
            yield
        finally:
            over.set()
            publishing.join()
