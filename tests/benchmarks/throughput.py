"""Rows that divide one rate by another: both sides in the same run, in turn, and the median of the ratios.

A first round of both does not count: Kafka compiles itself while it works.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from tests.benchmarks.generator import rate
from tests.benchmarks.measured import Measured
from tests.benchmarks.place import PARTITIONS, Terms
from tests.benchmarks.stage import PUBLISHED, PULLED, STREAMED, Stage

ROUNDS = 6
"""As many with the one side first as with the other."""
PUBLISHED_EVENTS = 60_000
PULLED_EVENTS = 120_000
STREAMED_EVENTS = 20_000
FANOUT = 100
DISTINCT_BATCHES = 20


def publish_batch_vs_producer(stage: Stage) -> Measured:
    """Batches of 100 over 8 connections, against `KafkaProducer.send` in a loop; one partition each, an open dataset."""
    stage.dataset(PUBLISHED, personal=False, partitions=1)
    topic = stage.topic(partitions=1)
    plan = stage.publishing(PUBLISHED, batches=PUBLISHED_EVENTS // 100, distinct=DISTINCT_BATCHES)
    peer = {"does": "produce", "bootstrap": stage.bootstrap, "topic": topic, "events": PUBLISHED_EVENTS}
    return ratio(stage, "publish_batch_vs_producer", lambda: rate("publish", plan), lambda: rate("kafka", peer))


def pull_vs_consumer(stage: Stage) -> Measured:
    """Enforced pull of 8 partitions over 8 connections, against `KafkaConsumer.poll` of the same topic."""
    stage.dataset(PULLED, personal=True)
    stage.backlog(PULLED, PULLED_EVENTS)
    [terms] = stage.terms(PULLED, 1)
    plan = {"address": stage.address, "path": terms.path, "token": terms.token, "partitions": PARTITIONS, "events": PULLED_EVENTS}
    topic = stage.topic_of(PULLED)
    peer = {"does": "consume", "bootstrap": stage.bootstrap, "topic": topic, "partitions": PARTITIONS, "events": PULLED_EVENTS}
    return ratio(stage, "pull_vs_consumer", lambda: rate("pull", plan), lambda: rate("kafka", peer))


def sse_fanout_100(stage: Stage) -> Measured:
    """A hundred subscribers of one contract, against one."""
    _streamed(stage)
    [terms] = stage.terms(STREAMED, 1)
    return _fanout(stage, "sse_fanout_100", [terms] * FANOUT)


def sse_fanout_100_contracts(stage: Stage) -> Measured:
    """A hundred subscribers, each with a contract and pseudonyms of its own, against one."""
    _streamed(stage)
    return _fanout(stage, "sse_fanout_100_contracts", stage.terms(STREAMED, FANOUT))


def _streamed(stage: Stage) -> None:
    stage.dataset(STREAMED, personal=True)
    stage.backlog(STREAMED, STREAMED_EVENTS)


def _fanout(stage: Stage, name: str, terms: list[Terms]) -> Measured:
    def deliveries(of: list[Terms]) -> float:
        subscribers = [[each.path, each.token] for each in of]
        return rate("subscribe", {"address": stage.address, "subscribers": subscribers, "events": STREAMED_EVENTS})

    return ratio(stage, name, lambda: deliveries(terms), lambda: deliveries(terms[:1]))


def ratio(stage: Stage, name: str, ours: Callable[[], float], theirs: Callable[[], float], rounds: int = ROUNDS) -> Measured:
    """The median of so many rounds of both, after one that does not count."""
    stage.say(f"{name}: warming up: {ours():,.0f}/s against {theirs():,.0f}/s")
    pairs: list[tuple[float, float]] = []
    for number in range(1, rounds + 1):
        # In turn, so that whatever goes on growing or cooling down counts for both alike.
        pairs.append((ours(), theirs()) if number % 2 else (theirs(), ours())[::-1])
        stage.say(f"{name}: round {number} of {rounds}: {pairs[-1][0]:,.0f}/s against {pairs[-1][1]:,.0f}/s")
    ratios = [a / b for a, b in pairs]
    rates = f"{median(a for a, _ in pairs):,.0f}/s against {median(b for _, b in pairs):,.0f}/s"
    return Measured({name: median(ratios)}, f"{rates}, {min(ratios):.2f} to {max(ratios):.2f}")
