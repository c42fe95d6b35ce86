"""Both places keep one contract: what was acknowledged is read again, and only what the exchange wrote itself is believed."""

from __future__ import annotations

import asyncio
import secrets
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.keys import SecretKey
from gateway.remembered.place import Lines, Place, PlaceAway, Remembered, RememberedFile, RememberedTopic
from gateway.remembered.standing import reached
from gateway.streams.kafka_log import KafkaLog
from tests.engines import Engines

KEY = SecretKey("remembered-1", "remembered", bytes(32))
LINES = Lines(KEY)


def entry(n: int, *, mark: bool = True, **redo: object) -> Remembered:
    return Remembered(n, "contract_ended", f"con_{n}", forbids=True, redo=redo or None, mark=mark)


def with_place(engines: Engines, folder: Path, act: Callable[[Place], Awaitable[None]]) -> None:
    async def run() -> None:
        if not engines.log_url:
            await act(RememberedFile(folder / "remembered.jsonl", LINES))
            return
        event_log = KafkaLog(engines.log_url.removeprefix("kafka://"))
        exchange = secrets.token_hex(4)
        await event_log.start()
        try:
            await act(RememberedTopic(event_log, LINES, lambda: exchange))
        finally:
            await event_log.stop()

    asyncio.run(run())


async def everything(place: Place) -> list[Remembered]:
    return [entry async for entry in place.everything()]


def test_an_empty_place_remembers_nothing(engines: Engines, tmp_path: Path) -> None:
    async def act(place: Place) -> None:
        assert await place.tail() == []
        assert await everything(place) == []

    with_place(engines, tmp_path, act)


def test_what_was_appended_is_read_in_order_and_whole(engines: Engines, tmp_path: Path) -> None:
    written = [entry(1, state="ended"), entry(2, mark=False, text="é" * 1000), entry(2, text="b")]

    async def act(place: Place) -> None:
        await place.append(written[:1])
        await place.append(written[1:])
        assert await everything(place) == written
        assert reached(await place.tail()) == 2

    with_place(engines, tmp_path, act)


def test_the_tail_reaches_back_to_a_mark_however_much_stands_behind_it(engines: Engines, tmp_path: Path) -> None:
    async def act(place: Place) -> None:
        await place.append([entry(1)])
        await place.append([entry(2, mark=False, text="x" * 2000) for _ in range(900)])
        tail = await place.tail()
        assert reached(tail) == 1
        await place.append([entry(n) for n in range(2, 1500)])
        assert reached(await place.tail()) == 1499

    with_place(engines, tmp_path, act)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    place = RememberedFile(tmp_path / "remembered.jsonl", LINES)
    asyncio.run(place.append([entry(1)]))
    assert stat.S_IMODE((tmp_path / "remembered.jsonl").stat().st_mode) == 0o600


def test_a_line_that_a_crash_tore_spoils_no_other_and_marks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "remembered.jsonl"
    place = RememberedFile(path, LINES)
    asyncio.run(place.append([entry(1)]))
    whole = path.read_bytes()
    asyncio.run(place.append([entry(2)]))
    path.write_bytes(path.read_bytes()[:-20])
    assert reached(asyncio.run(place.tail())) == 1

    asyncio.run(place.append([entry(2)]))
    assert [found.n for found in asyncio.run(everything(place))] == [1, 2]
    assert path.read_bytes().startswith(whole), "append-only"


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "remembered.jsonl").mkdir()
    with pytest.raises(PlaceAway):
        asyncio.run(RememberedFile(tmp_path / "remembered.jsonl", LINES).append([entry(1)]))


@pytest.mark.parametrize(
    "forged",
    [
        Lines(SecretKey("remembered-1", "remembered", bytes(31) + b"1")).write(entry(9)),
        LINES.write(entry(9)).replace(b"con_9", b"con_1"),
        LINES.write(entry(9, state="active")).replace(b"active", b"ended"),
        b'{"n": 9, "kind": "contract_ended", "object": "con_9", "forbids": true, "mark": true}',
        b"[]",
        b"\xff",
    ],
)
def test_what_is_not_the_exchanges_own_is_passed_over(forged: bytes, tmp_path: Path) -> None:
    path = tmp_path / "remembered.jsonl"
    path.write_bytes(LINES.write(entry(1)) + b"\n" + forged + b"\n")
    assert asyncio.run(everything(RememberedFile(path, LINES))) == [entry(1)]
