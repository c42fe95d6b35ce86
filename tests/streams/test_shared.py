"""Those who ask at once share one answer, and nothing is kept."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from gateway.streams.shared import Shared


def test_whoever_asks_while_it_is_under_way_shares_it() -> None:
    begun: list[str] = []

    async def test() -> None:
        shared = Shared[str, str]()

        async def work(key: str) -> str:
            begun.append(key)
            await asyncio.sleep(0.01)
            return key.upper()

        answers = await asyncio.gather(*(shared.ask(key, partial(work, key)) for key in ("a", "b", "a", "a")))
        assert answers == ["A", "B", "A", "A"]
        assert await shared.ask("a", partial(work, "a")) == "A"

    asyncio.run(test())
    assert begun == ["a", "b", "a"]


def test_an_error_is_everybodys_and_is_not_kept() -> None:
    async def test() -> None:
        shared = Shared[int, None]()
        failures = 0

        async def fail() -> None:
            nonlocal failures
            failures += 1
            await asyncio.sleep(0)
            raise OSError("gone")

        answers = await asyncio.gather(*(shared.ask(1, fail) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError] * 3
        with pytest.raises(OSError, match="gone"):
            await shared.ask(1, fail)
        assert failures == 2

    asyncio.run(test())


def test_who_gives_up_takes_the_answer_from_nobody() -> None:
    async def test() -> None:
        shared = Shared[int, str]()
        release = asyncio.Event()

        async def work() -> str:
            await release.wait()
            return "done"

        impatient = asyncio.create_task(shared.ask(1, work))
        patient = asyncio.create_task(shared.ask(1, work))
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.sleep(0)
        release.set()
        assert await patient == "done"
        with pytest.raises(asyncio.CancelledError):
            await impatient

    asyncio.run(test())
