"""The head of a request is bounded in size and in time, whoever sends it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.serve import HEAD_S, MOST_HEAD
from tests.gateway import Gateway


@contextmanager
def connection(gateway: Gateway) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=HEAD_S + 10) as opened:
        yield opened


def answer(opened: socket.socket, *pieces: bytes) -> bytes:
    """What comes until the gateway closes; sending stops when it does."""
    received = b""
    try:
        for piece in pieces:
            opened.sendall(piece)
        while chunk := opened.recv(65536):
            received += chunk
    except (ConnectionError, BrokenPipeError):
        pass
    return received


HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
LONG = {
    "many headers": (HEAD, *(b"X-%d: %s\r\n" % (number, b"y" * 1000) for number in range(2 * MOST_HEAD // 1000)), b"\r\n"),
    "one header": (HEAD, b"X-Long: " + b"y" * 2 * MOST_HEAD + b"\r\n\r\n"),
    "a header without end": (HEAD, b"X-Long: ", *(b"y" * 10_000 for _ in range(500))),
    "a path without end": (b"GET /", *(b"y" * 10_000 for _ in range(500))),
    "a query": (b"GET /livez?x=" + b"y" * 2 * MOST_HEAD + b" HTTP/1.1\r\nHost: x\r\n\r\n",),
}


@pytest.mark.parametrize("pieces", LONG.values(), ids=LONG.keys())
def test_head_that_is_too_long_is_refused(gateway: Gateway, pieces: tuple[bytes, ...]) -> None:
    with connection(gateway) as opened:
        assert answer(opened, *pieces).split(b"\r\n")[0] in {b"", b"HTTP/1.1 400 Bad Request"}
    with connection(gateway) as opened:
        assert b'{"live":true}' in answer(opened, HEAD + b"\r\n")


def test_long_head_within_the_bound_and_a_body_beyond_it_are_taken(gateway: Gateway) -> None:
    with connection(gateway) as opened:
        assert b'{"live":true}' in answer(opened, HEAD, b"X-Long: " + b"y" * (MOST_HEAD // 2) + b"\r\n\r\n")
    with connection(gateway) as opened:
        form = b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        body = b"grant_type=" + b"y" * 65_000
        sent = form + b"X: " + b"y" * 2000 + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        assert len(sent) > MOST_HEAD
        assert b"unsupported_grant_type" in answer(opened, sent)


def test_head_that_does_not_come_is_not_waited_for(gateway: Gateway) -> None:
    with connection(gateway) as silent, connection(gateway) as slow:
        begun = time.monotonic()
        slow.sendall(HEAD)
        assert answer(silent) == answer(slow) == b""
        assert HEAD_S - 2 < time.monotonic() - begun < HEAD_S + 5
