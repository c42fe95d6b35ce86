"""The row of the barrier: how long a withdrawal takes at three replicas under load, and that nothing forbidden comes after it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import Any

from consent.records import ANY_RECIPIENT
from tests.benchmarks import material
from tests.benchmarks.generator import run
from tests.benchmarks.measured import Measured, percentile
from tests.benchmarks.place import AT_ONCE, Place
from tests.benchmarks.stage import LIVE, Stage
from tests.gateway import Gateway

REPLICAS = 3
STREAMS = 100
WITHDRAWALS = 1000
TOKENS = {"EXCHANGE_TOKEN_LIFETIME_S": "3600"}
"""Longer than the row."""


def withdraw(stage: Stage) -> Measured:
    """One withdrawal after another, at each replica in turn, while events of those who withdraw go to a hundred streams."""
    with ExitStack() as ending:
        replicas: list[Gateway] = []
        for number in range(REPLICAS):
            first = replicas[0] if replicas else None
            replicas.append(Gateway(stage.engines, stage.folder / f"replica-{number}", TOKENS, beside=first))
            ending.callback(replicas[-1].close)
        place = Place(replicas[0], [LIVE], stage.say)
        for replica in replicas[1:]:
            replica.start()
        place.dataset(LIVE, personal=True)
        stage.say(f"{WITHDRAWALS:,} people consent, each by a call of their own")
        plan = {
            "addresses": [["127.0.0.1", replica.port] for replica in replicas],
            "people": _people(place),
            "subscribers": [[each.contract, each.token] for each in place.terms(LIVE, STREAMS)],
            "path": f"/v1/datasets/{LIVE}/events",
            "token": place.token(place.provider),
        }
        stage.say(f"{WITHDRAWALS:,} withdrawals at {REPLICAS} replicas with {STREAMS} streams")
        result = run("withdrawals", plan)
    took = result["took_ms"]
    note = f"p50 {median(took):.0f} ms, slowest {max(took):.0f} ms; {result['deliveries'] / result['seconds']:,.0f} deliveries/s meanwhile"
    return Measured({"withdraw_p99_ms": percentile(took, 0.99), "forbidden_after_withdraw": result["forbidden"]}, note)


def _people(place: Place) -> list[tuple[str, str]]:
    """Who will withdraw: identifier and consent."""
    asked: dict[str, Any] = {"dataset": LIVE, "purposes": [material.PURPOSE], "recipients": [ANY_RECIPIENT]}
    shown = place.provider.post("/v1/notices-of-consent", asked | material.NOTICE)
    said = asked | {"notice": {"id": shown["id"], "version": shown["version"], "language": "en"}, "given_by": "subject"}
    # Nobody of those whom `Place.dataset` has asked.
    people = [material.subject(material.SUBJECTS + number) for number in range(WITHDRAWALS)]
    with ThreadPoolExecutor(AT_ONCE) as calls:
        consents = calls.map(lambda person: str(place.provider.post("/v1/consents", said | {"subject": person})["id"]), people)
        return list(zip(people, consents, strict=True))
