"""The follower carries what was forbidden out of the database, whatever is away, and notices a database that went back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.changes import ChangeRow, Counter, note
from gateway.database import Database
from gateway.keys import SecretKey
from gateway.remembered.follower import Follower
from gateway.remembered.place import Lines, Place, Remembered, RememberedFile
from gateway.remembered.standing import DatabaseWentBack, Standing, reached
from gateway.settings import Settings
from gateway.setup import set_up
from tests.databases import database

__all__ = ["database"]

LINES = Lines(SecretKey("remembered-1", "remembered", bytes(32)))


@pytest.fixture
def place(tmp_path: Path) -> RememberedFile:
    return RememberedFile(tmp_path / "remembered.jsonl", LINES)


def forbid(database: Database, contract: str = "con_1") -> int:
    with database.transaction() as session:
        return note(session, "contract_ended", contract)


def forget_after(database: Database, n: int) -> None:
    """What a standby that was behind would not have."""
    with database.transaction() as session:
        session.execute(delete(ChangeRow).where(ChangeRow.n > n))
        session.execute(update(Counter).values(n=n))


def standing_of(follower: Follower) -> str:
    return follower.standing.value


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - it looks at files and rows, which tell nobody
            await asyncio.sleep(0.05)
    assert await holds(), what


async def remembers(place: Place, n: int) -> bool:
    return reached(await place.tail()) == n


def following(follower: Follower, act: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        running = asyncio.create_task(follower.run())
        try:
            await act()
        finally:
            await follower.stop()
            await running

    asyncio.run(run())


def test_what_was_committed_before_the_start_is_carried_too(database: Database, place: RememberedFile) -> None:
    first, second = forbid(database), forbid(database)

    async def act() -> None:
        await until(lambda: remembers(place, second), "both")

    following(Follower(database, place), act)
    assert [entry.n for entry in asyncio.run(place.tail())] == [first, second]
    asyncio.run(Follower(database, place).check())


def test_with_the_place_away_what_is_forbidden_waits_and_is_carried_when_it_is_back(
    database: Database, place: RememberedFile, tmp_path: Path
) -> None:
    (tmp_path / "remembered.jsonl").mkdir()
    follower = Follower(database, place)
    database.after_commit.append(follower.committed)

    async def act() -> None:
        change = await asyncio.to_thread(forbid, database)
        await asyncio.sleep(1.5)
        assert standing_of(follower) == "unknown"
        (tmp_path / "remembered.jsonl").rmdir()
        await until(lambda: remembers(place, change), "the change")
        assert standing_of(follower) == "whole"

    following(follower, act)


def test_a_change_of_this_process_is_carried_at_once(database: Database, place: RememberedFile) -> None:
    follower = Follower(database, place)
    database.after_commit.append(follower.committed)

    async def act() -> None:
        await until(lambda: remembers(place, 0), "the first look")
        change = await asyncio.to_thread(forbid, database)
        async with asyncio.timeout(5):
            await until(lambda: remembers(place, change), "the change")

    following(follower, act)


def test_who_saw_a_change_tells_of_it_when_the_database_has_lost_it(database: Database, place: RememberedFile, tmp_path: Path) -> None:
    first, told = forbid(database), []
    follower = Follower(database, place, went_back=lambda: told.append("back"), whole_again=lambda: told.append("whole"))
    database.after_commit.append(follower.committed)

    async def is_back() -> bool:
        return follower.standing is Standing.WENT_BACK

    async def act() -> None:
        await until(lambda: remembers(place, first), "the first")
        (tmp_path / "remembered.jsonl").rename(tmp_path / "kept")
        (tmp_path / "remembered.jsonl").mkdir()  # away, while the change is made and lost
        second = await asyncio.to_thread(forbid, database, "con_2")
        await asyncio.sleep(1.5)
        await asyncio.to_thread(forget_after, database, first)
        await until(is_back, "standing back")
        (tmp_path / "remembered.jsonl").rmdir()
        (tmp_path / "kept").rename(tmp_path / "remembered.jsonl")
        await until(lambda: remembers(place, second), "what was seen")

    following(follower, act)
    assert told == ["back"]
    with pytest.raises(DatabaseWentBack, match="exchange restore"):
        asyncio.run(Follower(database, place).check())


def test_two_replicas_that_carry_the_same_do_no_harm(database: Database, place: RememberedFile) -> None:
    followers = [Follower(database, place) for _ in range(2)]
    change = forbid(database)

    async def act() -> None:
        await asyncio.gather(*(follower.check() for follower in followers))
        await asyncio.gather(*(follower.carry() for follower in followers))

    asyncio.run(act())
    assert {entry.n for entry in asyncio.run(place.tail())} == {change}
    asyncio.run(Follower(database, place).check())


def test_a_gateway_whose_database_went_back_answers_nothing_but_that(tmp_path: Path) -> None:
    settings = Settings(environment="development", data_dir=tmp_path)
    set_up(settings, "City of Test")
    app = create_app(settings)
    with TestClient(app, base_url=settings.issuer) as http:
        assert http.get("/v1/datasets").status_code == 200
        app.state.follower.standing = Standing.UNKNOWN
        assert http.get("/v1/datasets/x/events").json()["code"] == "log_unavailable"
        assert http.get("/v1/datasets").status_code == 200
        lost = Remembered(99, "contract_ended", "con_1", forbids=True, mark=True)
        asyncio.run(app.state.follower.place.append([lost]))
        app.state.follower.standing = Standing.WENT_BACK
        for answer in (http.get("/v1/datasets"), http.post("/oauth/token"), http.post("/v1/consents/withdraw", json={})):
            assert (answer.status_code, answer.json()["code"]) == (503, "database_went_back")
        assert http.get("/livez").status_code == 200
        ready = http.get("/readyz")
        assert (ready.status_code, ready.json()["parts"]["database"]) == (503, "went_back")
        assert http.get("/problems/database_went_back").status_code == 200
