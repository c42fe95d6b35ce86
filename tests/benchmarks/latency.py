"""Rows that say how long something takes as a client sees it."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from statistics import median
from typing import Any

from connectors.client import Client
from tests.benchmarks.generator import Generator, generator
from tests.benchmarks.material import PURPOSE
from tests.benchmarks.measured import Measured, percentile
from tests.benchmarks.place import PARTITIONS
from tests.benchmarks.stage import LIVE, OFFERED, Stage

ROUNDS = 3
RATE = 200
EVENTS = 10 * RATE
SETTLE = RATE
"""The first second of each round does not count."""
NEWCOMERS = 15


def first_event(stage: Stage) -> Measured:
    """A new consumer: token, a proposal that takes up an offer, a token for the contract, the first page of events."""
    stage.dataset(OFFERED, personal=False)
    stage.backlog(OFFERED, 1000)
    terms = {"en": "None.", "fr": "Aucune."}
    offer = {"purpose": PURPOSE, "terms": terms, "max_validity": "P365D", "max_history": "all", "to": ["approved_organizations"]}
    proposal = {"dataset": OFFERED, "purpose": PURPOSE, "history": "all"}
    proposal["offer"] = stage.provider.post(f"/v1/datasets/{OFFERED}/offers", offer)["id"]
    taken = [_newcomer(stage, proposal) for _ in range(NEWCOMERS)]
    times = [took for took, _ in taken]
    note = f"{NEWCOMERS} new consumers: {min(times):.0f} to {max(times):.0f} ms"
    return Measured({"first_event_ms": median(times), "first_event_calls": max(calls for _, calls in taken)}, note)


def _newcomer(stage: Stage, proposal: dict[str, Any]) -> tuple[float, int]:
    """(milliseconds, calls) from nothing but credentials to the first event."""
    calls: list[str] = []
    known = stage.gateway.partner("Newcomer")
    assert known.credentials is not None
    with Client(known.issuer, address=known.issuer, on_response=lambda response: calls.append(str(response.url))) as fresh:
        fresh.credentials = known.credentials
        began = time.perf_counter()
        contract = fresh.post("/v1/contracts", proposal)["id"]
        page = next(fresh.pull(contract))
        took = (time.perf_counter() - began) * 1000
    if not page.events:
        raise ValueError("the first page has no events")
    return took, len(calls)


def added_latency(stage: Stage) -> Measured:
    """From a publishing call to the event in a stream, less the same through `KafkaProducer.send` and `KafkaConsumer.poll`."""
    stage.dataset(LIVE, personal=True)
    [terms] = stage.terms(LIVE, 1)
    topic = stage.topic(partitions=PARTITIONS)
    token = stage.token(stage.provider)
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    for number in range(1, ROUNDS + 1):
        shared = {"events": EVENTS, "rate": RATE, "first": secrets.randbelow(10**9)}
        publishing = shared | {"does": "publish", "address": stage.address, "path": f"/v1/datasets/{LIVE}/events", "token": token}
        subscribing = shared | {"does": "subscribe", "address": stage.address, "path": terms.path, "token": terms.token}
        ours.append(_delays(subscribing, publishing))
        raw = shared | {"bootstrap": stage.bootstrap, "topic": topic, "partitions": PARTITIONS}
        theirs.append(_delays(raw | {"does": "consume"}, raw | {"does": "produce"}))
        stage.say(f"added_latency: round {number} of {ROUNDS}: p50 {median(ours[-1]):.1f} ms against {median(theirs[-1]):.1f} ms")
    results, said = {}, []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        with_us = median(percentile(delays, share) for delays in ours)
        without = median(percentile(delays, share) for delays in theirs)
        results[f"added_latency_ms_{name}"] = with_us - without
        said.append(f"{name} {with_us:.1f} against {without:.1f} ms")
    return Measured(results, ", ".join(said))


def _delays(receiving: dict[str, Any], sending: dict[str, Any]) -> list[float]:
    """Milliseconds from one to the other, an event each."""
    with ExitStack() as ending:
        receiver, sender = (_ready(ending, plan) for plan in (receiving, sending))
        receiver.go()
        sender.go()
        sent, arrived = sender.result()["times"], receiver.result()["times"]
    return [(came - went) * 1000 for went, came in zip(sent, arrived, strict=True)][SETTLE:]


def _ready(ending: ExitStack, plan: dict[str, Any]) -> Generator:
    return ending.enter_context(generator("latency", plan))
