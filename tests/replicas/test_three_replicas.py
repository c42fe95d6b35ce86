"""Three replicas on the real engines, with streams on each under load: a withdrawal is a barrier, whatever becomes of the others."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.wire import assert_calm
from tests.engines import Engines, Kafka
from tests.replicas.city import Call, City

OTHERS = 15
"""People who consent and stay with it."""
AFTERWARDS_S = 0.5
"""How long is listened after a call has returned."""


@pytest.fixture(scope="module")
def shared_city(engines: Engines, kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    with City(engines, tmp_path_factory.mktemp("three-replicas")) as city:
        consents(city, OTHERS)
        yield city
    for replica in city.replicas:
        assert_calm(replica)


@pytest.fixture
def city(shared_city: City) -> City:
    """All replicas live, all streams open, everybody in it has consented."""
    shared_city.observer.forget()
    shared_city.wait_until_well()
    return shared_city


def consents(city: City, count: int = 1) -> dict[str, str]:
    """People who consent now, and are heard of on every stream: their records by name."""
    given = {}
    for number in range(count):
        person = city.person()
        given[person] = city.consent(person, number % city.count).document["id"]
    city.wait_to_hear(given)
    return given


def assert_nothing_more(city: City, call: Call, person: str) -> None:
    """The call has passed, in its time; no byte of this person came after it, and others went on."""
    assert call.status == 200, call.document
    before = [len(subscriber.heard) for subscriber in city.reading]
    time.sleep(AFTERWARDS_S)
    city.wait_to_hear_more(before)
    assert city.observer.beyond(call.shore, person + "-") == []


def test_withdrawn_at_any_replica_is_withdrawn_at_all_when_the_call_returns(city: City) -> None:
    took = []
    for number, (person, consent) in enumerate(consents(city, 18).items()):
        call = city.withdraw(consent, number % city.count)
        assert_nothing_more(city, call, person)
        assert call.document["barrier"]["replicas"] == city.count
        took.append(call.took)
    assert sorted(took)[len(took) // 2] < 0.25
    assert max(took) < 2
    print("took", sorted(round(t * 1000) for t in took))
