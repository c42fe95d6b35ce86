"""Rows that divide the rate of ten live streams at one place by that of the same at another, which differs in one thing.

Each side is a gateway with a database of its own, on the same engines; both are up for all rounds. What is published goes to ten
subscribers that follow, each under its own contract; the rate is that of all deliveries, publishing included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.benchmarks import crowd
from tests.benchmarks.generator import generator
from tests.benchmarks.material import BATCH, SUBJECTS
from tests.benchmarks.measured import Measured
from tests.benchmarks.place import Place, Terms
from tests.benchmarks.stage import LIVE, Stage
from tests.benchmarks.throughput import ROUNDS, ratio
from tests.gateway import Gateway

STREAMS = 10
EVENTS = 60_000
"""Of a round, which takes three seconds: in one of a single second the rate is as much chance as anything."""
DISTINCT_BATCHES = 20
PEOPLE = 1_000_000
CONTRACTS = 10_000
LOADED_S = 300.0
"""A gateway that has a million people to load takes its time until it is ready."""

Grow = Callable[[Place, list[Terms]], None]


def stream_1m_vs_1k_subjects(stage: Stage) -> Measured:
    """A million subjects, all with their consents, against a thousand; the events are about the same thousand."""

    def grow(place: Place, _terms: list[Terms]) -> None:
        stage.say(f"{PEOPLE - SUBJECTS:,} more people consent")
        crowd.people(place.gateway.database_url, LIVE, PEOPLE - SUBJECTS)

    with _streams(stage, "a million", grow) as many, _streams(stage, "a thousand") as few:
        return ratio(stage, "stream_1m_vs_1k_subjects", many, few)


def stream_10k_vs_10_contracts(stage: Stage) -> Measured:
    """Ten thousand contracts in force over the dataset, ten of them streaming, against those ten."""

    def grow(place: Place, terms: list[Terms]) -> None:
        stage.say(f"{CONTRACTS - STREAMS:,} more contracts are in force")
        crowd.contracts(place.gateway.database_url, terms[0].contract, CONTRACTS - STREAMS)

    with _streams(stage, "ten thousand", grow) as many, _streams(stage, "ten") as few:
        return ratio(stage, "stream_10k_vs_10_contracts", many, few)


def stream_with_vs_without_lease(stage: Stage) -> Measured:
    """The gateway as it is, against one that `tests.benchmarks.unleased` makes: without lease, and without account of what has left."""
    return rate_with_and_without(stage, "stream_with_vs_without_lease", ("-m", "tests.benchmarks.unleased"))


def rate_with_and_without(stage: Stage, name: str, without: tuple[str, ...], rounds: int = ROUNDS) -> Measured:
    """The gateway as it is, against the one that this program makes."""
    with _streams(stage, f"with-{name}") as whole, _streams(stage, f"without-{name}", program=without) as lacking:
        return ratio(stage, name, whole, lacking, rounds)


@contextmanager
def _streams(
    stage: Stage, name: str, grow: Grow | None = None, *, program: tuple[str, ...] = Gateway.program
) -> Iterator[Callable[[], float]]:
    """A place with ten contracts, and what measures its rate. `grow` adds to its database while the gateway does not run."""
    gateway = Gateway(stage.engines, stage.folder / name.replace(" ", "-"), ready_s=LOADED_S, program=program)
    try:
        place = Place(gateway, [LIVE], stage.say)
        place.dataset(LIVE, personal=True)
        terms = place.terms(LIVE, STREAMS)
        if grow is not None:
            gateway.stop()
            grow(place, terms)
            gateway.start()
        yield lambda: _rate(place, terms)
    finally:
        gateway.close()


def _rate(place: Place, terms: list[Terms]) -> float:
    """Deliveries a second."""
    subscribers = [[each.path, place.bound_token(each.contract)] for each in terms]
    following = {"address": place.address, "subscribers": subscribers, "events": EVENTS}
    publishing = place.publishing(LIVE, batches=EVENTS // BATCH, distinct=DISTINCT_BATCHES)
    with generator("follow", following) as follower, generator("publish", publishing) as publisher:
        follower.go()
        publisher.go()
        publisher.result()
        heard = follower.result()
    return float(heard["events"] / heard["seconds"])
