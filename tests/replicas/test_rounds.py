"""A few of the rounds that `make faults` plays by the hundred."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.wire import assert_calm
from tests.engines import Engines, Kafka
from tests.replicas.city import City
from tests.replicas.rounds import Tally, play

SEED, ROUNDS = 2026, 5


def test_whatever_happens_to_replicas_nothing_withdrawn_leaves_nothing_said_is_lost_and_nobody_waits_too_long(
    engines: Engines, kafka: Kafka, tmp_path: Path
) -> None:
    tally = Tally(SEED, "")
    with City(engines, tmp_path, streams=1) as city:
        told = [*play(city, tally, 0, ROUNDS)]
        assert tally.is_clean, "\n".join(told)
    for replica in city.replicas:
        assert_calm(replica)
