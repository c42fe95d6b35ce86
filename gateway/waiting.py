"""Calls that wait for something to change: each waits in its event loop, and none holds a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class Waiting:
    """Those who wait, by what they wait for. `wake` and `stop` may be called from any thread."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[_Waiter]] = {}
        self._lock = threading.Lock()
        self._stopping = False

    async def until(self, has_come: Callable[[], bool], of: str, seconds: float) -> None:
        """Return once `has_come()`, which is asked now and at each `wake(of)`; or after these seconds, or when all are let go."""
        waiter = _Waiter()
        with self._lock:
            self._waiting.setdefault(of, set()).add(waiter)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not self._stopping and not has_come():
                        await waiter.woken()
        finally:
            with self._lock:
                self._waiting[of].discard(waiter)
                if not self._waiting[of]:
                    del self._waiting[of]

    def wake(self, of: str) -> None:
        """Have those who wait for this look again."""
        with self._lock:
            waiting = tuple(self._waiting.get(of, ()))
        for waiter in waiting:
            waiter.wake()

    def stop(self) -> None:
        """Let go all who wait: the process is about to end."""
        self._stopping = True
        with self._lock:
            waiting = [waiter for waiters in self._waiting.values() for waiter in waiters]
        for waiter in waiting:
            waiter.wake()


class _Waiter:
    """One call that waits in its event loop, to be woken from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._event.set)

    async def woken(self) -> None:
        await self._event.wait()
        self._event.clear()
