"""How a load program talks with the one that started it: a plan on standard input, `ready`, a line to go, a result."""

from __future__ import annotations

import gc
import json
import socket
import sys
from typing import Any

from tests.dpop import Presenter

BUFFER_BYTES = 1024 * 1024


def read_plan() -> dict[str, Any]:
    """The plan, which is the first line of standard input."""
    plan: dict[str, Any] = json.loads(sys.stdin.readline())
    return plan


def wait_for_go() -> None:
    """Say that all is connected and built, and wait for the word."""
    gc.collect()
    print("ready", flush=True)
    sys.stdin.readline()


def tell(result: dict[str, Any]) -> None:
    """The result, as the last line of standard output."""
    print(json.dumps(result), flush=True)


def connect(address: list[Any]) -> socket.socket:
    """A connection to the gateway, with buffers that a whole request fits into."""
    made = socket.create_connection((address[0], address[1]), timeout=30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return made


def get(path: str, presenter: Presenter, accept: str) -> bytes:
    """The bytes of a GET."""
    return f"GET {path} HTTP/1.1\r\nHost: exchange\r\n{presenter.lines('GET', path)}Accept: {accept}\r\n\r\n".encode("ascii")


def post(path: str, token: str, media_type: str, body: bytes) -> bytes:
    """The bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: exchange\r\nAuthorization: Bearer {token}\r\nContent-Type: {media_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body


class Answers:
    """The answers of one connection, one after another, in a buffer that is used again."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray(8 * BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._body = 0
        """Where the body begins; 0: the head is not whole."""
        self._end = 0

    def receive(self) -> bool:
        """Take what has come; true when the answer is whole. Raises `ConnectionError` for an answer that is not 2xx."""
        got = self._connection.recv_into(self._view[self._filled :])
        if not got:
            raise ConnectionError("the gateway closed the connection")
        self._filled += got
        if not self._body:
            head_end = self._buffer.find(b"\r\n\r\n", 0, self._filled)
            if head_end < 0:
                return False
            self._body = head_end + 4
            self._end = self._body + int(self.header(b"content-length") or b"0")
        if self._filled < self._end:
            return False
        if self._buffer[9:10] != b"2":
            raise ConnectionError(bytes(self._buffer[: self._end]).decode("utf-8", "replace")[:2000])
        return True

    def header(self, name: bytes) -> bytes:
        """The value of a header, by its name in lower case; empty if it is not there."""
        head = bytes(self._buffer[: self._body])
        start = head.lower().find(b"\r\n" + name + b":")
        if start < 0:
            return b""
        start += len(name) + 3
        return head[start : head.index(b"\r\n", start)].strip()

    def count(self, marker: bytes) -> int:
        """How often the marker stands in the body."""
        return self._buffer.count(marker, self._body, self._end)

    def next(self) -> None:
        """Be ready for the next answer."""
        self._filled = self._body = self._end = 0
