"""What ends a stream, with which word, and that its cursor goes on where it ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from connectors.client import Client
from tests.e2e.listener import Listener, until
from tests.e2e.open_data import Numbers, numbered
from tests.e2e.test_bad_tokens import signed
from tests.e2e.test_limits import _deaf
from tests.e2e.wire import NDJSON, problem, send
from tests.gateway import READER, Gateway

NewGateway = Callable[..., Gateway]


@pytest.fixture
def reader(gateway: Gateway) -> Client:
    """A new one for each test: some end it."""
    return gateway.partner("Reader of numbers", scopes=READER)


def test_a_revoked_licence_ends_contracts_and_their_streams(numbers: Numbers, reader: Client) -> None:
    contract, proposed = numbers.contract(reader), reader.post("/v1/contracts", {"dataset": numbers.slug, "purpose": "research"})["id"]
    numbers.publish(1)
    with Listener(reader, contract) as listener, Listener(reader, numbers.slug) as open_listener:
        listener.wait_for(1)
        open_listener.wait_for(1)
        numbers.provider.request("PATCH", f"/v1/datasets/{numbers.slug}", body={"licence_revoked": True}, headers={"If-Match": "*"})

        assert listener.wait_for_end()["code"] == "contract_not_in_force"
        assert listener.wait_for_end()["ended_reason"] == "licence_revoked"
        assert open_listener.wait_for_end()["code"] == "policy_denied"
    for one in (contract, proposed):
        assert reader.get(f"/v1/contracts/{one}")["ended_reason"] == "licence_revoked"
    problem(send(reader, "GET", f"/v1/contracts/{contract}/events", contract=contract), "contract_not_in_force")
    problem(
        send(numbers.provider, "PATCH", f"/v1/datasets/{numbers.slug}", body={"licence_revoked": False}, headers={"If-Match": "*"}),
        "illegal_state",
    )


@pytest.mark.parametrize("how", ["revoke", "delete", "suspend"])
def test_a_client_that_was_revoked_hears_nothing_more(gateway: Gateway, numbers: Numbers, reader: Client, how: str) -> None:
    contract, me, operator = numbers.contract(reader), reader.get("/v1/me"), gateway.operator()
    with Listener(reader, contract) as listener, Listener(gateway.client(), numbers.slug) as other:
        numbers.publish(1)
        listener.wait_for(1)
        assert reader.credentials is not None
        token = reader.credentials.token(reader.http)
        client = f"/v1/clients/{me['client']['id']}"
        if how == "delete":
            operator.request("DELETE", client)
        else:
            operator.post(f"{client}/revoke" if how == "revoke" else f"/v1/organizations/{me['organization']['id']}/suspend")
        numbers.publish(2)
        other.wait_for(2)

        assert listener.wait_for_end()["code"] == "policy_denied"
        assert listener.numbers == [1]
    answer = send(gateway.client(), "GET", "/v1/me", token=token)
    problem(answer, "token_invalid")


def test_a_token_that_was_revoked_ends_its_streams_and_no_others(gateway: Gateway, numbers: Numbers) -> None:
    given_up, kept = (signed(gateway, lambda _, claims: claims.update(scope="events:read")) for _ in range(2))
    with (
        Listener(gateway.client(), numbers.slug, token=given_up) as listener,
        Listener(gateway.client(), numbers.slug, token=kept) as other,
    ):
        numbers.publish(1)
        listener.wait_for(1)
        operator = (gateway.made.client_id, gateway.made.client_secret)
        assert gateway.client().http.post("/oauth/revoke", data={"token": given_up}, auth=operator).status_code == 200
        numbers.publish(2)
        other.wait_for(2)

        assert listener.wait_for_end()["code"] == "token_invalid"
        assert listener.numbers == [1]
    problem(send(gateway.client(), "GET", "/v1/me", token=given_up), "token_invalid")


def test_a_contract_that_ends_tells_its_stream_and_one_that_is_resumed_goes_on(numbers: Numbers, reader: Client) -> None:
    contract = numbers.contract(reader)
    with Listener(reader, contract) as listener:
        numbers.publish(1)
        listener.wait_for(1)
        numbers.provider.post(f"/v1/contracts/{contract}/suspend", {"reason": "a question"})
        numbers.publish(2)
        ended = listener.wait_for_end()
        assert (ended["code"], ended["contract_state"]) == ("contract_not_in_force", "suspended")
    numbers.provider.post(f"/v1/contracts/{contract}/resume")
    with Listener(reader, contract, cursor=listener.cursor) as again:
        again.wait_for(2)
        assert again.numbers == [2]
        reader.post(f"/v1/contracts/{contract}/end")
        assert again.wait_for_end()["ended_reason"] == "by_consumer"


def test_a_contract_ends_its_stream_when_its_time_is_over(gateway: Gateway, numbers: Numbers, reader: Client) -> None:
    until_when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    contract = numbers.contract(reader, valid_until=until_when)
    with Listener(reader, contract) as listener:
        numbers.publish(1)
        listener.wait_for(1)

        assert listener.wait_for_end()["code"] == "contract_not_in_force"
    until(lambda: reader.get(f"/v1/contracts/{contract}")["state"] == "ended", "the contract's end is written down")
    assert reader.get(f"/v1/contracts/{contract}")["ended_reason"] == "expired"


def test_a_stream_ends_with_its_token_and_a_new_one_resumes_it(gateway: Gateway, numbers: Numbers) -> None:
    second = int(time.time())
    short = signed(gateway, lambda _, claims: claims.update(exp=second + 2, scope="events:read"))
    with Listener(gateway.client(), numbers.slug, token=short) as listener:
        numbers.publish(1)
        listener.wait_for(1)
        ended = listener.wait_for_end()
        assert ended["code"] == "token_expired"
        assert time.time() < second + 4
    numbers.publish(2)
    with Listener(gateway.operator(), numbers.slug, cursor=listener.cursor) as again:
        again.wait_for(2)
        assert again.numbers == [2]


def test_a_stopping_gateway_ends_streams_with_a_cursor_and_answers_who_waits(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway)
    reader = gateway.partner("Reader", scopes=READER)
    contract, proposed = numbers.contract(reader), reader.post("/v1/contracts", {"dataset": numbers.slug, "purpose": "research"})["id"]
    with Listener(reader, contract) as listener, Listener(reader, numbers.slug) as open_listener, ThreadPoolExecutor(3) as pool:
        numbers.publish(1)
        listener.wait_for(1)
        open_listener.wait_for(1)
        waiting = [
            pool.submit(_waits, gateway.client(), numbers.path, {"cursor": open_listener.cursor or "", "wait": 30}, {}),
            pool.submit(_waits, gateway.client(), numbers.path, {"wait": 30}, {"Accept": NDJSON}),
            pool.submit(_waits, reader, f"/v1/contracts/{proposed}", {"wait": 30, "state": "proposed"}, {}),
        ]
        time.sleep(0.5)
        began = time.monotonic()
        gateway.stop()

        assert time.monotonic() - began < 5
        assert listener.wait_for_end()["code"] == open_listener.wait_for_end()["code"] == "gateway_stopping"
        assert [answer.result().status_code for answer in waiting] == [200] * 3
        assert "gateway_stopping" in waiting[1].result().text
    gateway.start()
    numbers.publish(2)
    for ended in (listener, open_listener):
        assert numbers.pulled(reader, contract if ended is listener else None, cursor=ended.cursor) == [2]


def _waits(client: Client, path: str, params: dict[str, Any], headers: dict[str, str]) -> Any:
    return send(client, "GET", path, params=params, headers=headers)


def test_a_stopping_gateway_does_not_wait_for_one_who_does_not_read(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway)
    numbers.publish(*range(3000), text="x" * 1000)
    reader = gateway.partner("Reader", scopes=READER)
    with _deaf(reader, numbers.contract(reader)), Listener(reader, numbers.slug) as listener:
        listener.wait_for(2999)
        began = time.monotonic()
        gateway.stop()

        assert time.monotonic() - began < 9
        assert listener.wait_for_end()["code"] == "gateway_stopping"


def test_what_is_being_published_while_the_gateway_stops_is_acknowledged_or_refused(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    numbers = Numbers(gateway)
    acknowledged: list[int] = []
    stopped = threading.Event()

    def publish(worker: int) -> None:
        for number in range(worker * 10_000, worker * 10_000 + 10_000):
            try:
                numbers.provider.publish(numbers.slug, [numbered(number)], attempts=1)
            except Exception:  # noqa: BLE001 - whatever it was: it was not acknowledged
                if stopped.is_set():
                    return
                continue
            acknowledged.append(number)

    with ThreadPoolExecutor(4) as pool:
        for worker in range(4):
            pool.submit(publish, worker)
        until(lambda: len(acknowledged) > 20, "publishing")
        gateway.stop()
        stopped.set()
    gateway.start()

    assert set(acknowledged) <= set(numbers.pulled(gateway.client()))
