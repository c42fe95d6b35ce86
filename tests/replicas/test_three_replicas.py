"""Three replicas on the real engines, with streams on each under load: what forbids is a barrier, whatever becomes of the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest

from gateway.resources import POLICIES
from gateway.setup import activate_policies
from tests.dpop import bound_token
from tests.e2e.listener import until
from tests.e2e.wire import assert_calm
from tests.engines import Engines, Kafka
from tests.faults.test_policy_engine import with_rules
from tests.gateway import READER
from tests.replicas.city import Call, City, is_backed_up, is_dead
from tests.replicas.observer import Subscriber

OTHERS = 15
"""People who consent and stay with it."""
AFTERWARDS_S = 0.5
"""How long is listened after a call has returned."""
LEASE_S = 2.0


@pytest.fixture(scope="module")
def shared_city(engines: Engines, kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    with City(engines, tmp_path_factory.mktemp("three-replicas")) as city:
        city.consents(OTHERS)
        yield city
    for replica in city.replicas:
        assert_calm(replica)


@pytest.fixture
def city(shared_city: City) -> City:
    """All replicas live, all streams open and hearing."""
    shared_city.observer.forget()
    shared_city.wait_until_well()
    return shared_city


@contextmanager
def shortly(act: Callable[[], object], after_s: float) -> Iterator[None]:
    """Act in so many seconds, while what is within goes on."""
    timer = threading.Timer(after_s, act)
    timer.start()
    yield
    timer.join()


def assert_nothing_more(city: City, call: Call, person: str, *, others_go_on: bool = True) -> None:
    """The call has passed; no byte of this person came after it, and others went on."""
    assert call.status == 200, call.document
    before = [subscriber.count for subscriber in city.reading]
    time.sleep(AFTERWARDS_S)
    if others_go_on:
        city.wait_to_hear_more(before)
    assert city.observer.beyond(call.shore, person + "-") == []


def test_who_withdraws_at_any_replica_is_heard_of_at_none_when_the_call_has_returned(city: City) -> None:
    took = []
    for number, (person, consent) in enumerate(city.consents(12).items()):
        call = city.withdraw(consent, number % city.count)
        assert_nothing_more(city, call, person)
        assert call.document["barrier"]["replicas"] == city.count
        took.append(call.took)
    assert max(took) < LEASE_S


@pytest.mark.parametrize("after_s", [0, 0.02])
def test_a_killed_replica_holds_a_withdrawal_up_for_its_lease_and_lets_nothing_out(city: City, after_s: float) -> None:
    ((person, consent),) = city.consents().items()
    pid = city.replicas[1].pid
    with shortly(lambda: city.signal(1, SIGKILL), after_s):
        time.sleep(0 if after_s else 0.05)
        call = city.withdraw(consent, 0)
    assert_nothing_more(city, call, person)
    assert call.took < 2 * LEASE_S
    until(lambda: city.replicas[1].pid != pid, "the supervisor starts another")


@pytest.mark.parametrize("stopped_s", [0.3, 6.0])
def test_a_stopped_replica_confirms_when_it_goes_on_or_is_dead_when_the_call_returns(city: City, stopped_s: float) -> None:
    ((person, consent),) = city.consents().items()
    pid = city.signal(1, SIGSTOP)

    def goes_on() -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, SIGCONT)

    with shortly(goes_on, stopped_s):
        call = city.withdraw(consent, 2)
        dead = is_dead(pid)
        assert call.took < 2 * LEASE_S
        assert dead == (stopped_s > LEASE_S)
    assert_nothing_more(city, call, person)


def test_a_stalled_reader_that_reads_on_finds_nothing_that_was_withdrawn(city: City) -> None:
    ((person, consent),) = city.consents().items()
    tap = city.stall(1)
    assert tap is not None
    until(lambda: is_backed_up(tap), "its socket is full")
    call = city.withdraw(consent, 0)
    assert call.took < 2
    city.observer.read_on(tap)
    until(lambda: tap.over, "it was cut off")
    assert_nothing_more(city, call, person)
    assert tap.received == call.shore[tap]


def test_a_replica_whose_sessions_at_the_database_end_goes_on(city: City) -> None:
    ((person, consent),) = city.consents().items()
    with shortly(lambda: city.cut_sessions(2), 0.01):
        call = city.withdraw(consent, 0)
    assert_nothing_more(city, call, person)
    assert call.took < 2 * LEASE_S


def test_a_replica_that_the_database_does_not_hear_of_ends_itself_before_the_call_returns(city: City) -> None:
    ((person, consent),) = city.consents().items()
    pid = city.replicas[1].pid
    city.wires[1].cut()
    call = city.withdraw(consent, 0)
    dead = is_dead(pid)
    city.wires[1].mend()
    assert dead
    assert call.took < 2 * LEASE_S
    assert_nothing_more(city, call, person)


def other(city: City, contract: str | None = None) -> Subscriber:
    """One more subscriber, at the last replica, who hears already; under a contract of its own unless one is given."""
    made = city.subscriber(contract or city.district.contract(city.consumer), city.count - 1)
    city.observer.watch(made)
    until(lambda: made.count > 0, "it hears")
    return made


@pytest.mark.parametrize("verb", ["suspend", "end"])
def test_a_contract_that_is_stopped_at_one_replica_lets_nothing_out_at_another(city: City, verb: str) -> None:
    subscriber = other(city)
    call = city.call(0, "POST", f"/v1/contracts/{subscriber.contract}/{verb}")
    assert call.status == 200, call.document
    until(lambda: not subscriber.stays, "the stream ends")
    assert_nothing_more(city, call, "nobody")
    assert city.observer.beyond(call.shore, "", [subscriber]) == []


def test_a_client_that_is_revoked_at_one_replica_hears_nothing_at_another(city: City) -> None:
    client = city.replicas[0].another_client(city.consumer.get("/v1/me")["organization"]["id"], scopes=READER)
    contract = city.district.contract(city.consumer)
    assert client.credentials is not None
    token = bound_token(client, contract)
    subscriber = Subscriber(contract, lambda: token, city.addresses, city.count - 1)
    city.observer.watch(subscriber)
    until(lambda: subscriber.count > 0, "it hears")
    operator = city.clients[0].credentials
    assert operator is not None
    call = city.call(0, "POST", f"/v1/clients/{client.credentials.client_id}/revoke", token=operator.token(city.clients[0].http))
    assert call.status == 200, call.document
    time.sleep(AFTERWARDS_S)
    subscriber.stays = False
    assert city.observer.beyond(call.shore, "", [subscriber]) == []


def test_a_token_that_is_revoked_at_one_replica_is_good_at_no_other(city: City) -> None:
    operator = city.clients[0].credentials
    assert operator is not None
    http, secret = city.clients[0].http, city.replicas[0].made.client_secret
    form = {"grant_type": "client_credentials"}
    token = http.post("/oauth/token", data=form, auth=(operator.client_id, secret)).json()["access_token"]
    assert [city.call(number, "GET", "/v1/me", token=token).status for number in range(city.count)] == [200] * city.count
    assert http.post("/oauth/revoke", data={"token": token}, auth=(operator.client_id, secret)).status_code == 200
    assert [city.call(number, "GET", "/v1/me", token=token).status for number in range(city.count)] == [401] * city.count


def test_policies_that_are_activated_hold_at_every_replica_when_that_has_returned(city: City, tmp_path: Path) -> None:
    nothing = with_rules(tmp_path, "nothing", lambda rules: rules[1:])
    activate_policies(city.replicas[0].settings(), nothing)
    shore = city.observer.shore()
    denied = city.reading
    until(lambda: not city.reading, "every stream ends")
    activate_policies(city.replicas[0].settings(), POLICIES)
    assert city.observer.beyond(shore, "") == []
    for subscriber in denied:
        subscriber.stays = True
    city.wait_until_well()


def test_who_is_live_and_what_each_has_confirmed_can_be_seen_at_any_replica(city: City) -> None:
    ((_, consent),) = city.consents().items()
    fenced = next(item for item in city.standing()["items"] if item["id"] == city.seat(2) and item["state"] == "live")
    city.signal(2, SIGKILL)
    call = city.withdraw(consent, 0)
    city.wait_until_well()
    for found in (*(city.standing(number) for number in range(city.count)), said_by_command(city, 1)):
        live = [item for item in found["items"] if item["state"] == "live"]
        assert {item["id"] for item in live} == {city.seat(replica) for replica in range(city.count)}
        assert all(item["confirmed"] >= call.document["barrier"]["change"] for item in live)
        (gone,) = [item for item in found["items"] if item["incarnation"] == fenced["incarnation"]]
        assert (gone["state"], gone["fenced_by"]) == ("fenced", city.seat(0))
        assert found["barriers"]["last_ms"] is not None


def said_by_command(city: City, replica: int) -> dict[str, Any]:
    """What `exchange replicas --json` prints."""
    gateway = city.replicas[replica]
    names = {
        "EXCHANGE_URL": gateway.url,
        "EXCHANGE_CLIENT_ID": gateway.made.client_id,
        "EXCHANGE_CLIENT_SECRET": gateway.made.client_secret,
    }
    command = [sys.executable, "-m", "gateway.cli", "replicas", "--json"]
    said = subprocess.run(command, env=os.environ | names, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(said.stdout)
    return found
