"""Places: whoever waits at the barrier holds a thread and does nothing in it; meanwhile another call may run in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio.to_thread
from anyio import CapacityLimiter

MOST_LENT = 400
"""Calls that wait at once and whose places are lent; each further one keeps its own. A thread that waits takes about 100 kB."""


class Places:
    """The threads that calls run in, of the event loop in which this is started. Before that nothing is lent."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._limiter: CapacityLimiter | None = None
        self._own = 0
        self._waiting = 0

    def start(self) -> None:
        """To be called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._limiter = anyio.to_thread.current_default_thread_limiter()
        self._own = int(self._limiter.total_tokens)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """From a worker thread: one call more may run during the block."""
        self._tell(1)
        try:
            yield
        finally:
            self._tell(-1)

    def _tell(self, more: int) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed: no call comes any more
                self._loop.call_soon_threadsafe(self._count, more)

    def _count(self, more: int) -> None:
        assert self._limiter is not None
        self._waiting += more
        self._limiter.total_tokens = self._own + min(self._waiting, MOST_LENT)
