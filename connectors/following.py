"""Following a stream over Server-Sent Events, through expired tokens and broken connections, without a gap and without a double.

A cursor stands at least on the last event of each flush, and the exchange goes on from the last one that came: nothing is missed. What
came after that cursor is sent again, so it is remembered by (`source`, `id`), which name an event (CloudEvents 1.0 section 3.1.1), as
often as it came, and left out as often when it comes again. A flush is a thousand events at most, so little is remembered.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import httpx2

from connectors.persist import is_passing, pause_after
from connectors.problem import ProblemError

Subscribe = Callable[[str | None], AbstractContextManager[httpx2.EventSource]]
"""Opens the stream at a cursor. Raises `ProblemError` if the exchange refuses."""

MOST_REPEATED = 10_000
"""Events of interrupted flushes that are remembered: some never come again, because consent was withdrawn in between."""


@dataclass(frozen=True, slots=True)
class Message:
    """`event`: a CloudEvent; `receipt`: {audit_entry, events} of the events before it; `end`: the problem that the stream ended with."""

    kind: Literal["event", "receipt", "end"]
    data: dict[str, Any]
    cursor: str | None


class Following:
    """One reader of one stream. `on_expired` is called where a stream ended because its token did."""

    def __init__(self, subscribe: Subscribe, on_expired: Callable[[], None], *, cursor: str | None, attempts: int) -> None:
        self._subscribe = subscribe
        self._on_expired = on_expired
        self._cursor = cursor
        self._attempts = attempts
        self._failures = 0
        self._connected = False
        self._retry = 1.0
        self._since_cursor: list[tuple[object, object]] = []
        self._repeated: Counter[tuple[object, object]] = Counter()

    def messages(self) -> Iterator[Message]:
        """What comes, until the exchange ends it with a reason. Raises `ProblemError`, `httpx2.TransportError`."""
        while True:
            broken: ProblemError | httpx2.TransportError = httpx2.RemoteProtocolError("The stream ended without a reason.")
            try:
                with self._subscribe(self._cursor) as source:
                    self._connected = True
                    for sent in source:
                        message = self._taken(sent)
                        if message is not None:
                            yield message
                            if message.kind == "end":
                                return
            except _Expired:
                self._on_expired()
                self._expect_repeats()
                continue
            except httpx2.TransportError as error:
                broken = error
            except ProblemError as problem:
                # Refused at first is refused. Later it may be that the connection that broke still counts as an open stream.
                if not is_passing(problem) or (problem.status == httpx2.codes.TOO_MANY_REQUESTS and not self._connected):
                    raise
                broken = problem
            self._wait_after(broken)
            self._expect_repeats()

    def _taken(self, sent: httpx2.ServerSentEvent) -> Message | None:
        self._failures = 0
        if sent.retry:
            self._retry = sent.retry / 1000
        try:
            return self._read(sent)
        finally:
            if sent.id and sent.id != self._cursor:  # what has come by now lies before it, and is not sent again
                self._cursor = sent.id
                self._since_cursor.clear()

    def _read(self, sent: httpx2.ServerSentEvent) -> Message | None:
        if not sent.data:
            return None  # a cursor alone, which shows that the stream lives
        data = json.loads(sent.data)
        cursor = sent.id or self._cursor
        if sent.event == "end":
            if data.get("code") == "token_expired":
                raise _Expired
            return Message("end", data, cursor)
        if sent.event == "receipt":
            return Message("receipt", data, cursor)
        name = (data.get("source"), data.get("id"))
        self._since_cursor.append(name)
        if self._repeated[name] > 0:
            self._repeated[name] -= 1
            return None
        return Message("event", data, cursor)

    def _expect_repeats(self) -> None:
        """The connection is gone: what came after the last cursor comes again."""
        repeated = +self._repeated + Counter(self._since_cursor)
        self._repeated = repeated if repeated.total() <= MOST_REPEATED else Counter(self._since_cursor)
        self._since_cursor.clear()

    def _wait_after(self, broken: ProblemError | httpx2.TransportError) -> None:
        self._failures += 1
        if self._failures >= self._attempts:
            raise broken
        if isinstance(broken, ProblemError):
            time.sleep(pause_after(self._failures, broken))
        else:
            time.sleep(self._retry * self._failures)


class _Expired(Exception):
    """The exchange ended a stream because its token has expired: a new token resumes it."""
