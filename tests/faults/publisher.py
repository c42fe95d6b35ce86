"""Publishers that go on whatever happens, and know what was acknowledged to them."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

import httpx2

from connectors.client import ProblemError
from tests.e2e.listener import until
from tests.e2e.open_data import Numbers, numbered

WORKERS = 4
STEP = 1_000_000


class Publisher:
    """Some threads, each publishing two numbers a request, in order, in a range and under a key of its own. Use it in `with`."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(worker,), daemon=True) for worker in range(WORKERS)]
        self.acknowledged: list[int] = []
        self.refused: Counter[str] = Counter()
        """How often nothing was acknowledged, by problem code or kind of broken connection."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(40)

    def wait_for_more(self, count: int = 20) -> None:
        """Return once so many more were acknowledged."""
        wanted = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= wanted, f"{count} more events acknowledged; refused: {self.refused}", 40)

    def _work(self, worker: int) -> None:
        number = worker * STEP
        while not self._stop.is_set():
            pair = [number, number + 1]
            number += 2
            try:
                self._numbers.provider.publish(self._numbers.slug, [numbered(n, key=f"worker-{worker}") for n in pair], attempts=1)
            except ProblemError as problem:
                self.refused[problem.code] += 1
                self._stop.wait(0.05)
            except httpx2.TransportError as broken:
                self.refused[type(broken).__name__] += 1
                self._stop.wait(0.05)
            else:
                self.acknowledged += pair


def in_order(numbers: list[int]) -> bool:
    """True if each worker's numbers come once and rise."""
    by_worker: dict[int, int] = {}
    for number in numbers:
        worker = number // STEP
        if number <= by_worker.get(worker, -1):
            return False
        by_worker[worker] = number
    return True
