"""What the story prints: a heading for each act, a line for each call as it happened, and whether a claim held."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TextIO

import httpx2

from connectors.dpop import asks_for_nonce

WIDTH = 52
MOST_CALLS = 1000
"""Of one line."""
_SHORT = re.compile(r"((?:con|cns|org|cli)_)[0-9a-z]{22}([0-9a-z]{4})")
"""Identifiers, of which the last four characters tell one from another."""


class ClaimFailed(AssertionError):
    """The story said something that is not so."""


class Screen:
    """Prints the story. Give `heard` to each client as its `on_response`."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._colour = self._out.isatty()
        self._calls: deque[tuple[str, str, int]] = deque(maxlen=MOST_CALLS)

    def heard(self, response: httpx2.Response) -> None:
        """Remember a call until the line that says what it meant. One that was asked to come again with a nonce is told of then."""
        if not asks_for_nonce(response):
            self._calls.append((response.request.method, response.request.url.path, response.status_code))

    def act(self, title: str) -> None:
        self._calls.clear()
        self._print(f"\n{self._paint('1', title)}")

    @contextmanager
    def line(self, meaning: str) -> Iterator[None]:
        """Print the calls that the block makes, equal ones as one, and beside the last of them what they meant."""
        self._calls.clear()
        yield
        self.calls(meaning)

    def calls(self, meaning: str) -> None:
        """The same for calls that were made already."""
        grouped = [(call, len(list(same))) for call, same in groupby(self._calls)]
        self._calls.clear()
        for place, ((method, path, status), times) in enumerate(grouped, start=1):
            told = meaning if place == len(grouped) else _on_the_way(path)
            short = _SHORT.sub(r"\1..\2", path)
            shown = f"{method:<4} {short}" + (f" x{times}" if times > 1 else "")
            colour = "32" if status < httpx2.codes.BAD_REQUEST else "33"
            self._print(f"  {self._paint('36', f'{shown:<{WIDTH}}')} {self._paint(colour, str(status))}  {told}".rstrip())

    def note(self, text: str) -> None:
        self._print(f"  {self._paint('2', text)}")

    def claim(self, true: object, text: str) -> None:
        """Print a claim that holds. Raises `ClaimFailed` if it does not."""
        if not true:
            self._print(f"  {self._paint('31', 'FALSE')} {text}")
            raise ClaimFailed(text)
        self._print(f"  {self._paint('32', 'true')}  {text}")

    def say(self, text: str = "") -> None:
        self._print(text)

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)


def _on_the_way(path: str) -> str:
    """What a call is for that another one needs first."""
    ends = {"/oauth/token": "a token, for ten minutes", "/text": "reads the text"}
    return next((told for end, told in ends.items() if path.endswith(end)), "")
