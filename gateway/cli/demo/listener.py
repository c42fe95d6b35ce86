"""A start-up's program that listens: an SSE stream read in a thread, so that the story can go on while it is open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from connectors.client import Client, Message


class Listener:
    """Collects what a contract's stream sends. `events` grows as it happens; `end` is the problem that the stream ended with."""

    def __init__(self, client: Client, contract: str, *, cursor: str | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.receipts: list[str] = []
        self.end: dict[str, Any] | None = None
        self.broken: BaseException | None = None
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._listen, args=(client, contract, cursor), daemon=True, name="listener")
        self._thread.start()

    def wait(self, until: Callable[[Listener], object], seconds: float) -> bool:
        """True once `until(self)` holds; False if it does not after `seconds`, or the stream broke. Raises what broke it."""
        deadline = time.monotonic() + seconds
        with self._news:
            while not until(self):
                if self.broken:
                    raise self.broken
                if not self._news.wait(deadline - time.monotonic()):
                    return bool(until(self))
        return True

    def wait_for_events(self, count: int, seconds: float) -> bool:
        """As `wait`, until so many events have come since it began."""
        return self.wait(lambda stream: len(stream.events) >= count, seconds)

    def _listen(self, client: Client, contract: str, cursor: str | None) -> None:
        try:
            for message in client.stream(contract, cursor=cursor):
                self._take(message)
        except Exception as error:  # noqa: BLE001 - it is raised again in the thread that waits
            with self._news:
                self.broken = error
                self._news.notify_all()

    def _take(self, message: Message) -> None:
        with self._news:
            if message.kind == "event":
                self.events.append(message.data)
            elif message.kind == "receipt":
                self.receipts.append(message.data["audit_entry"])
            else:
                self.end = message.data
            self._news.notify_all()
