"""Bad days of the database: PostgreSQL gone and back, and two gateways on one database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import orjson
import psycopg

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


def has_heard_all(subscriber: Listener, publisher: Publisher) -> bool:
    return set(publisher.acknowledged) <= set(subscriber.numbers)


def test_without_its_database_the_gateway_says_so_and_comes_back_by_itself(new_gateway: NewGateway, postgres: Postgres) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway)
    reader = gateway.partner("Reader", scopes=READER)
    contract = numbers.contract(reader)
    with Listener(reader, contract) as listener, Listener(gateway.client(), numbers.slug) as anybody, Publisher(numbers) as publisher:
        publisher.wait_for_more()
        postgres.kill()
        body = {"dataset": numbers.slug, "purpose": "research"}
        problem(send(reader, "GET", "/v1/contracts"), "database_unavailable")
        problem(send(gateway.client(), "GET", "/v1/datasets"), "database_unavailable")
        problem(send(reader, "POST", "/v1/contracts", body=body), "database_unavailable")
        problem(send(reader, "POST", f"/v1/contracts/{contract}/end"), "database_unavailable")
        answer = send(numbers.provider, "POST", numbers.path, content=orjson.dumps([numbered(-1)]), headers={"Content-Type": BATCH})
        problem(answer, "audit_unavailable")
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
    gateway = new_gateway()
    district = District(gateway)
    consumer = gateway.partner("Start-up", scopes=READER)
    contract, consent = district.contract(consumer), district.consent("person-known")
    district.publish(visit("person-known", 1))
    postgres.kill()

    def publish(person: str) -> None:
        content = orjson.dumps([visit(person, 2)])
        path = f"/v1/datasets/{FOOTFALL}/events"
        answer = send(district.provider, "POST", path, content=content, headers={"Content-Type": BATCH})
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


def test_a_second_gateway_on_one_database_does_not_start(new_gateway: NewGateway) -> None:
    gateway = new_gateway()

    said = refused(gateway)

    assert "another_gateway_is_live" in said
    assert "Traceback" not in said
    assert send(gateway.client(), "GET", "/readyz").status_code == 200


def test_the_seat_of_a_gateway_that_was_killed_is_free(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    gateway.kill()

    gateway.start()

    assert send(gateway.client(), "GET", "/readyz").status_code == 200


def test_a_gateway_keeps_its_seat_when_the_database_comes_back(new_gateway: NewGateway, postgres: Postgres) -> None:
    gateway = new_gateway()
    postgres.kill()
    postgres.start()
    until(lambda: send(gateway.client(), "GET", "/readyz").status_code == 200, "the gateway is ready")
    time.sleep(0.6)

    assert "another_gateway_is_live" in refused(gateway)
    assert send(gateway.client(), "GET", "/readyz").status_code == 200


def test_a_gateway_that_lost_its_seat_to_another_ends(new_gateway: NewGateway, postgres: Postgres) -> None:
    gateway = new_gateway()
    os.kill(gateway.pid, signal.SIGSTOP)
    postgres.execute(f"SELECT pg_terminate_backend(pid) {_seats(gateway)}")
    until(lambda: not _taken(gateway, postgres), "nobody has the seat")
    second = second_gateway(gateway)
    try:
        until(lambda: second.poll() is not None or _taken(gateway, postgres), "the second gateway sits down")
        os.kill(gateway.pid, signal.SIGCONT)

        assert gateway._process is not None
        assert gateway._process.wait(10) == 3
        assert second.poll() is None
    finally:
        second.kill()
        second.communicate()


def _seats(gateway: Gateway) -> str:
    """Who sits at this gateway's database: others have one each on the same server."""
    name = gateway.database_url.rpartition("/")[2]
    return f"FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = '{name}')"


def _taken(gateway: Gateway, postgres: Postgres) -> bool:
    with psycopg.connect(postgres._address) as session:
        return session.execute(f"SELECT 1 {_seats(gateway)}".encode()).fetchone() is not None
