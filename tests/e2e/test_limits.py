"""Who may ask for how much at once, and that one who does not listen is nobody else's trouble."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from connectors.client import Client
from tests.dpop import Presenter, bound_token
from tests.e2e.listener import Listener, until
from tests.e2e.open_data import Numbers
from tests.e2e.wire import NDJSON, SSE, problem, send
from tests.gateway import READER, Gateway

NewGateway = Callable[..., Gateway]
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def quiet(engines: object, tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[Gateway]:
    """A gateway at which nobody else calls without a token."""
    with Gateway(gateway.engines, tmp_path_factory.mktemp("quiet")) as running:
        yield running


def test_without_a_token_sixty_requests_a_minute_are_answered(quiet: Gateway) -> None:
    numbers, anybody = Numbers(quiet), quiet.client()
    began = time.monotonic()
    answers = [send(anybody, "GET", numbers.path)]
    while answers[-1].status_code == 200 and len(answers) < 200:
        answers.append(send(anybody, "GET", numbers.path))

    # What was taken comes back evenly, one a second.
    assert 60 <= len(answers) - 1 <= 61 + (time.monotonic() - began)
    assert re.fullmatch(r'"anonymous";q=60;w=60', answers[0].headers["ratelimit-policy"])
    assert re.fullmatch(r'"anonymous";r=59;t=60', answers[0].headers["ratelimit"])
    problem(answers[-1], "rate_limited")
    assert "r=0" in answers[-1].headers["ratelimit"]
    assert send(numbers.provider, "GET", numbers.path).status_code == 200


def test_without_a_token_two_streams_are_open_at_once(new_gateway: NewGateway) -> None:
    numbers = Numbers(new_gateway(EXCHANGE_ANONYMOUS_REQUESTS_PER_MINUTE="1000"))
    anybody = numbers.gateway.client()
    with Listener(anybody, numbers.slug), Listener(anybody, numbers.slug):
        problem(send(anybody, "GET", numbers.path, headers={"Accept": SSE}), "rate_limited")
        assert send(anybody, "GET", numbers.path).status_code == 200

    until(lambda: send(anybody, "GET", numbers.path, headers={"Accept": NDJSON}).status_code == 200, "a place after two hung up", 2)


def test_a_contract_has_four_streams_and_then_429(numbers: Numbers, reader: Client) -> None:
    contract, another = numbers.contract(reader), numbers.contract(reader)
    path = f"/v1/contracts/{contract}/events"
    with ExitStack() as stack:
        streams = [stack.enter_context(Listener(reader, contract)) for _ in range(4)]
        problem(send(reader, "GET", path, contract=contract, headers={"Accept": SSE}), "rate_limited")
        assert send(reader, "GET", path, contract=contract).status_code == 200
        stack.enter_context(Listener(reader, another))
        numbers.publish(1)
        for stream in streams:
            stream.wait_for(1)


def test_one_who_hangs_up_makes_room_at_once(numbers: Numbers, reader: Client) -> None:
    contract = numbers.contract(reader)
    for _ in range(3):
        with ExitStack() as stack:
            until(lambda: _opened(stack, reader, contract), "four places", 2)


def _opened(stack: ExitStack, reader: Client, contract: str) -> bool:
    streams = [stack.enter_context(Listener(reader, contract)) for _ in range(4)]
    if all(stream.status == 200 for stream in streams):
        return True
    for stream in streams:
        stream.hang_up()
    return False


def resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def test_a_subscriber_that_does_not_read_delays_nobody_and_grows_no_memory(new_gateway: NewGateway) -> None:
    gateway = new_gateway(EXCHANGE_CACHE_MB="4")
    numbers = Numbers(gateway)
    reader = gateway.partner("Reader", scopes=READER)
    contract = numbers.contract(reader)
    text = "x" * 2000
    numbers.publish(*range(1000), text=text)
    with Listener(reader, contract) as listener, ExitStack() as stack:
        listener.wait_for(999)
        for _ in range(3):
            stack.enter_context(_deaf(reader, contract))
        numbers.publish(*range(1000, 3000), text=text)
        listener.wait_for(2999)
        before = resident_kib(gateway.pid)

        for first in range(3000, 15000, 1000):
            began = time.monotonic()
            numbers.publish(*range(first, first + 1000), text=text)
            listener.wait_for(first + 999)
            assert time.monotonic() - began < 5

        assert resident_kib(gateway.pid) - before < 24 * 1024
        assert listener.numbers == list(range(15000))


def _deaf(reader: Client, contract: str) -> socket.socket:
    """A connection that has asked for the stream and never reads."""
    assert reader.credentials is not None
    host, _, port = reader.issuer.removeprefix("http://").partition(":")
    made = socket.create_connection((host, int(port)))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    path = f"/v1/contracts/{contract}/events"
    proven = Presenter(bound_token(reader, contract)).lines("GET", path)
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {SSE}\r\n{proven}\r\n"
    made.sendall(head.encode())
    return made
