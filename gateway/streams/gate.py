"""The gate between publishing and recovery: what is being published has no entry yet, and is not missing one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Many publish at once, or one recovers. `dirty` says that something may stand in the log without an entry."""

    def __init__(self) -> None:
        self.dirty = True  # until the first recovery has looked: a crash leaves no note
        self._publishing = 0
        self._open = asyncio.Event()
        self._open.set()
        self._empty = asyncio.Event()
        self._empty.set()

    def something_may_lack_its_entry(self) -> None:
        """An append or its entry failed: recovery is to look."""
        self.dirty = True

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Hold the gate open for one request's append and entry."""
        await self._open.wait()
        self._publishing += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._publishing -= 1
            if not self._publishing:
                self._empty.set()

    @asynccontextmanager
    async def recovering(self) -> AsyncIterator[None]:
        """Close the gate, wait for those inside, and open it again afterwards."""
        self._open.clear()
        try:
            await self._empty.wait()
            yield
        finally:
            self._open.set()
