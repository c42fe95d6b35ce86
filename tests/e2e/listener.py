"""A subscriber on one connection, which it never makes again: what it heard, and how that ended."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from connectors.client import Client
from tests.e2e.wire import SSE, authorization

PATIENCE_S = 30.0


def until(condition: Callable[[], bool], what: str = "", seconds: float = PATIENCE_S) -> None:
    """Return once the condition holds. Raises `AssertionError` if it does not within these seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds:.0f} s: {what}"
        time.sleep(0.01)


class Listener:
    """Server-sent events of a contract or an open dataset, heard in a thread. Use it in `with`: it hangs up at the end."""

    def __init__(
        self, client: Client, of: str, *, cursor: str | None = None, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        contract = of if of.startswith("con_") else None
        path = f"/v1/contracts/{of}/events" if contract else f"/v1/datasets/{of}/events"
        sent = {"Accept": SSE} | dict(headers or {})
        if token is None and client.credentials is not None:
            client.get("/v1/me")  # which brings a nonce
        sent |= authorization(client, "GET", path, contract) if token is None else {"Authorization": f"Bearer {token}"}
        host, _, port = client.issuer.removeprefix("http://").partition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)
        self._connection.request("GET", path + (f"?{urlencode({'cursor': cursor})}" if cursor else ""), headers=sent)
        assert self._connection.sock is not None
        self._socket: socket.socket = self._connection.sock
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders()}
        self.events: list[dict[str, Any]] = []
        self.heard_at: list[float] = []
        self.receipts: list[dict[str, Any]] = []
        self.cursor: str | None = None
        self.ended: dict[str, Any] | None = None
        self.gone = threading.Event()
        """The connection is over, with or without a word."""
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.hang_up()

    @property
    def numbers(self) -> list[int]:
        return [event["data"]["n"] for event in self.events]

    @property
    def code(self) -> str | None:
        """The code of the problem that ended the stream."""
        return self.ended["code"] if self.ended else None

    def hang_up(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._answer.close()
        self._connection.close()

    def wait_for(self, number: int) -> None:
        """Return once this number was heard."""
        until(lambda: number in self.numbers or self.gone.is_set(), f"number {number}")
        assert number in self.numbers, self.ended or "the connection broke"

    def wait_for_end(self) -> dict[str, Any]:
        """The problem with which the stream ended."""
        until(self.gone.is_set, "the end of the stream")
        assert self.ended is not None, "the connection broke without a word"
        return self.ended

    def _listen(self) -> None:
        with suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            message: dict[str, str] = {}
            for line in self._answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    message[name] = value
                elif message:
                    self._take(message)
                    message = {}
        self.gone.set()

    def _take(self, message: Mapping[str, str]) -> None:
        self.cursor = message.get("id", self.cursor)
        if "data" not in message:
            return
        data = json.loads(message["data"])
        match message.get("event", "event"):
            case "event":
                self.heard_at.append(time.monotonic())
                self.events.append(data)
            case "receipt":
                self.receipts.append(data)
            case "end":
                self.ended = data
