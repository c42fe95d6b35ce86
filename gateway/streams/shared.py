"""Those who ask for the same thing at once share one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class Shared(Generic[Key, Answer]):
    """Work under way on one event loop, by what it finds out. Nothing is kept once it is done."""

    def __init__(self) -> None:
        self._under_way: dict[Key, asyncio.Task[Answer]] = {}

    async def ask(self, key: Key, begin: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """The answer of the work for this key that is under way, else of `begin()`. It goes on when one who waits for it gives up."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(begin())
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    def is_under_way(self, key: Key) -> bool:
        """True if somebody has asked, and it is not done."""
        return key in self._under_way

    def cancel(self) -> None:
        """Give up all that is under way."""
        for task in self._under_way.values():
            task.cancel()

    def _done(self, key: Key, task: asyncio.Task[Answer]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # seen, even if all who waited for it have gone
