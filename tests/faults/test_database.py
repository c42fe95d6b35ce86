"""Bad days of the database: PostgreSQL gone and back, and two gateways on one database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import httpx2
import orjson

from connectors.client import Client
from gateway.doctor import examine
from tests.e2e.district import FOOTFALL, District, pulled, visit
from tests.e2e.listener import Listener, until
from tests.e2e.open_data import Numbers, numbered
from tests.e2e.wire import BATCH, problem, send
from tests.engines import Postgres
from tests.engines.process import free_port
from tests.faults.publisher import Publisher
from tests.faults.test_log import every_offset_is_named
from tests.gateway import READER, Gateway

NewGateway = Callable[..., Gateway]
LEASE_S = 4.0
"""Long enough for a busy machine to renew in time."""
PATIENT = "30"
"""Seconds of a lease that outlives the database's absence: the gateway sits it out, and does not end."""


def has_heard_all(subscriber: Listener, publisher: Publisher) -> bool:
    return set(publisher.acknowledged) <= set(subscriber.numbers)


def by_secret(gateway: Gateway, provider: Client) -> Client:
    """Another client of this provider's organization, whose tokens are bound to no key."""
    return gateway.another_client(provider.get("/v1/me")["organization"]["id"], strong=False)


def test_without_its_database_the_gateway_says_so_and_comes_back_by_itself(new_gateway: NewGateway, postgres: Postgres) -> None:
    gateway = new_gateway(EXCHANGE_LEASE_S=PATIENT)
    numbers = Numbers(gateway)
    reader = gateway.partner("Reader", scopes=READER)
    contract = numbers.contract(reader)
    simple = by_secret(gateway, numbers.provider)
    simple.publish(numbers.slug, [numbered(-2)])
    with Listener(reader, contract) as listener, Listener(gateway.client(), numbers.slug) as anybody, Publisher(numbers) as publisher:
        publisher.wait_for_more()
        postgres.kill()
        body = {"dataset": numbers.slug, "purpose": "research"}
        problem(send(reader, "GET", "/v1/contracts"), "database_unavailable")
        problem(send(gateway.client(), "GET", "/v1/datasets"), "database_unavailable")
        problem(send(reader, "POST", "/v1/contracts", body=body), "database_unavailable")
        problem(send(reader, "POST", f"/v1/contracts/{contract}/end"), "database_unavailable")
        # A bearer token is known from memory; the proof of a bound one is to be used up in the database.
        for publishing, code in ((simple, "audit_unavailable"), (numbers.provider, "database_unavailable")):
            answer = send(publishing, "POST", numbers.path, content=orjson.dumps([numbered(-1)]), headers={"Content-Type": BATCH})
            problem(answer, code)
        problem(send(reader, "GET", f"/v1/contracts/{contract}/events", contract=contract), "audit_unavailable")
        assert send(gateway.client(), "GET", "/livez").status_code == 200
        assert send(gateway.client(), "GET", "/readyz").status_code == 503
        heard = len(listener.numbers)
        time.sleep(0.5)
        assert len(listener.numbers) == heard
        postgres.start()

        until(lambda: send(gateway.client(), "GET", "/readyz").status_code == 200, "the gateway is ready")
        publisher.wait_for_more()
        publisher.stop()
        for subscriber in (listener, anybody):
            until(partial(has_heard_all, subscriber, publisher), "the stream has heard all")
            assert not subscriber.gone.is_set()
    assert set(publisher.refused) <= {"database_unavailable", "audit_unavailable"}
    assert send(reader, "POST", "/v1/contracts", body=body).status_code == 201
    assert set(publisher.acknowledged) <= set(numbers.pulled(reader, contract))
    until(lambda: every_offset_is_named(numbers), "an entry for every position")


def test_nobody_who_is_new_is_published_while_the_database_is_away(new_gateway: NewGateway, postgres: Postgres) -> None:
    gateway = new_gateway(EXCHANGE_LEASE_S=PATIENT)
    district = District(gateway)
    consumer = gateway.partner("Start-up", scopes=READER)
    contract, consent = district.contract(consumer), district.consent("person-known")
    simple = by_secret(gateway, district.provider)
    simple.publish(FOOTFALL, [visit("person-known", 1)])
    postgres.kill()

    def publish(person: str) -> None:
        content = orjson.dumps([visit(person, 2)])
        path = f"/v1/datasets/{FOOTFALL}/events"
        answer = send(simple, "POST", path, content=content, headers={"Content-Type": BATCH})
        problem(answer, "database_unavailable" if person == "person-new" else "audit_unavailable")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(publish, ["person-new", "person-known"]))
    problem(send(district.provider, "POST", f"/v1/consents/{consent}/withdraw"), "database_unavailable")
    postgres.start()
    until(lambda: send(district.provider, "POST", f"/v1/consents/{consent}/withdraw").status_code == 200, "the withdrawal")
    assert pulled(consumer, contract) == []


def second_gateway(gateway: Gateway) -> subprocess.Popen[str]:
    """`exchange serve` on the same database, on ports of its own."""
    ports = {"EXCHANGE_PORT": str(free_port()), "EXCHANGE_ADMIN_PORT": str(free_port())}
    command = [sys.executable, "-m", "gateway.cli", "serve"]
    return subprocess.Popen(command, env=gateway._environment() | ports, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def refused(gateway: Gateway) -> str:
    """What the second gateway says when it does not start."""
    process = second_gateway(gateway)
    try:
        said, _ = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode not in {0, None, -9}
    return said


def test_a_second_gateway_on_one_database_starts_where_that_has_a_seat_for_it(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    if gateway.engines.real is None:
        said = refused(gateway)
        assert "another_gateway_is_live" in said
        assert "Traceback" not in said
    else:
        second = second_gateway(gateway)
        try:
            until(lambda: len(states(gateway)) == 2, "the second has joined")
        finally:
            second.terminate()
            second.communicate()
        assert second.returncode == 0
    assert send(gateway.client(), "GET", "/readyz").status_code == 200
    assert states(gateway) == ["live"]


def states(gateway: Gateway) -> list[str]:
    return [replica["state"] for replica in gateway.operator().get("/v1/replicas")["items"]]


def test_the_seat_of_a_gateway_that_was_killed_is_free(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    gateway.kill()

    gateway.start()

    assert send(gateway.client(), "GET", "/readyz").status_code == 200


def test_a_gateway_that_cannot_renew_its_lease_ends_and_another_takes_its_place(new_gateway: NewGateway, postgres: Postgres) -> None:
    gateway = new_gateway(EXCHANGE_LEASE_S=str(LEASE_S))
    first = gateway.pid
    postgres.kill()
    until(lambda: first not in gateway._children(), "it ends")
    postgres.start()

    until(lambda: answers(gateway), "the next is ready")
    assert gateway.pid != first
    # What the first held falls silent, and stands so until somebody waits for it.
    until(lambda: states(gateway).count("live") == 1, "the first is silent")
    gateway.partner("Start-up", scopes=READER)


def test_a_gateway_that_stands_still_longer_than_its_lease_never_goes_on(new_gateway: NewGateway, postgres: Postgres) -> None:
    gateway = new_gateway(EXCHANGE_LEASE_S=str(LEASE_S))
    first = gateway.pid
    os.kill(first, signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: first not in gateway._children(), "the kernel ends it")

    assert time.monotonic() - began < LEASE_S
    until(lambda: answers(gateway), "the next is ready")
    assert gateway.pid != first
    [says] = [finding for finding in examine(gateway.settings()) if finding.part == "gateway"]
    assert says.well
    assert f":{gateway.port}" in says.says


def answers(gateway: Gateway) -> bool:
    with suppress(httpx2.HTTPError):
        return send(gateway.client(), "GET", "/readyz").status_code == 200
    return False
