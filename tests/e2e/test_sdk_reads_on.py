"""The SDK against a real gateway, through what happens in half a minute: tokens that expire, connections that break anywhere."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from connectors.client import Client, Message
from gateway.streams.responses import CURSOR_BYTES
from tests.e2e.listener import until
from tests.e2e.open_data import Numbers
from tests.gateway import READER, Gateway

NewGateway = Callable[..., Gateway]
LIFETIME_S = 30
GOES_ON_S = LIFETIME_S + 4
EVERY_S = 0.2
AT_ONCE = 10
TEXT = "x" * 5000
SOON, LATE = 120_000, 1_500_000
"""Bytes after which a connection breaks, in turn: within a flush, and after several."""
BEHIND = 600
"""Events of one flush."""


class Breaker:
    """A way to the gateway on which each connection ends after so many bytes, wherever in an event that is."""

    def __init__(self, port: int, *budgets: int) -> None:
        self._to = port
        self._budgets = itertools.cycle(budgets)
        self.broken = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as server:
            threading.Thread(target=self._there, args=(client, server), daemon=True).start()
            left = next(self._budgets)
            while data := server.recv(min(16 * 1024, left)):
                client.sendall(data)
                left -= len(data)
                if left <= 0:
                    self.broken += 1
                    for end in (client, server):  # a thread reads from each: closing alone would not end it
                        end.shutdown(socket.SHUT_RDWR)
                    return

    @staticmethod
    def _there(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(16 * 1024):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)


class Reader:
    """A program that reads in a thread, by `read`, and keeps the numbers in the order in which they came."""

    def __init__(self, read: Callable[[], Iterator[int]]) -> None:
        self.numbers: list[int] = []
        self.broken: BaseException | None = None
        self._read = read
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for number in self._read():
                self.numbers.append(number)
        except Exception as error:  # noqa: BLE001 - the test tells it
            self.broken = error


def streamed(client: Client, of: str, cursor: str | None = None) -> Iterator[int]:
    messages: Iterator[Message] = client.stream(of, cursor=cursor)
    for message in messages:
        if message.kind == "event":
            yield message.data["data"]["n"]


def pulled(client: Client, contract: str) -> Iterator[int]:
    """Pull after pull from where the one before ended, as a program does that waits for more."""
    cursor = None
    while True:
        for page in client.pull(contract, cursor=cursor, wait=2, limit_bytes=400_000):
            cursor = page.next_cursor
            yield from (event["data"]["n"] for event in page.events)


@contextmanager
def breaking(gateway: Gateway, *budgets: int) -> Iterator[Breaker]:
    breaker = Breaker(gateway.port, *budgets)
    yield breaker
    breaker.close()


@pytest.mark.timeout(300)
def test_stream_and_pull_go_on_over_expired_tokens_and_broken_connections_without_gap_or_double(
    new_gateway: NewGateway, tmp_path: Path
) -> None:
    gateway = new_gateway(EXCHANGE_TOKEN_LIFETIME_S=str(LIFETIME_S))
    numbers = Numbers(gateway, {"partitions": 1})
    reader = gateway.partner("Reads on", scopes=READER)
    contract = numbers.contract(reader)
    assert reader.credentials is not None
    signer, receipts = reader.credentials._signer, tmp_path / "receipts.ndjson"
    assert signer is not None
    key = signer._key.as_dict(private=True) | {"kid": signer.kid}
    name = reader.credentials.client_id
    with breaking(gateway, SOON, LATE) as breaker:
        whole = gateway.client(name, key=key, receipts=receipts)
        torn = Client(gateway.issuer, name, key=key, address=breaker.url)
        readers = {
            "stream": Reader(lambda: streamed(whole, contract)),
            "torn stream": Reader(lambda: streamed(torn, contract)),
            "torn pull": Reader(lambda: pulled(torn, contract)),
        }
        sent = 0
        ends = time.monotonic() + GOES_ON_S
        while time.monotonic() < ends:
            numbers.publish(*range(sent, sent + AT_ONCE), text=TEXT)
            sent += AT_ONCE
            time.sleep(EVERY_S)

        for what, one in readers.items():
            until(lambda one=one: one.broken or len(one.numbers) >= sent, f"all events of the {what}", seconds=60)  # type: ignore[misc]
        time.sleep(1)  # whatever might still come twice

        assert {what: one.broken for what, one in readers.items()} == dict.fromkeys(readers)
        for what, one in readers.items():
            assert one.numbers == list(range(sent)), what
        assert breaker.broken >= 5
    kept = [json.loads(line) for line in receipts.read_text().splitlines()]
    assert sum(line["events"] for line in kept) >= sent
    assert 1 < len({line["audit_entry"] for line in kept}) < len(kept)  # several flushes leave under one entry
    torn.close()


@pytest.mark.timeout(120)
def test_who_is_far_behind_goes_on_over_connections_that_break_within_a_flush(gateway: Gateway) -> None:
    numbers = Numbers(gateway, {"partitions": 1})
    for first in range(0, BEHIND, 100):
        numbers.publish(*range(first, first + 100), text=TEXT)
    with breaking(gateway, CURSOR_BYTES + 200_000) as breaker:
        torn = Client(gateway.issuer, address=breaker.url)
        reader = Reader(lambda: streamed(torn, numbers.slug, "earliest"))
        until(lambda: reader.broken is not None or len(reader.numbers) >= BEHIND, "all events", seconds=60)
        assert reader.broken is None
        assert reader.numbers == list(range(BEHIND))
        assert breaker.broken >= 4
        torn.close()
