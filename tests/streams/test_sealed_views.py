"""Views of a dataset with sealed fields: what becomes of a judgement while it waits for the subjects' keys."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import event, update

from consent.index import ConsentIndex
from consent.sealing import SubjectKey
from consent.subjects import as_bytes
from gateway.access.lens import Lens, compile_shape
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import b64, key_encryption_keys
from gateway.streams.blocks import Block
from gateway.streams.sealing import SubjectKeys, opening_of
from gateway.streams.views import AWAY_MS, Judged, Judgements, Stamp, SubjectSecrets, View
from tests.streams.sealed import KEEP_AGE, Sealing, dataset, visit

PSEUDONYM: dict[str, Any] = {"kind": "pseudonymise", "pointer": "/visitor", "period": None}
ASKED_S = 10.0

# Prints a key-encryption key as a key store does, once the file `go` is there; `asked` shows that it is waited for.
SLOW_STORE = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "asked").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
print(sys.argv[2])
"""


class Stage:
    """A block with an event of Ann and one of Bob, whose ages are sealed, and a process that reads it.

    `during` is what happens while the process waits for the key-encryption key.
    """

    def __init__(self, sealing: Sealing) -> None:
        self.sealing = sealing
        self.of = dataset("/age")
        records = sealing.seal(self.of, visit(sealing.ann, age=41), visit(sealing.bob, age=17))
        rows = [(offset, 0, b"", record.value) for offset, record in enumerate(records)]
        self.block = Block(0, 0, len(rows), rows, ("data", "visitor"), 1000)
        self.stamp, self.judgements = Stamp(), Judgements(1 << 20)
        self.denied: set[str] = set()
        key = b64(key_encryption_keys(sealing.folder / "keys.json")[0])
        words = [sys.executable, "-c", SLOW_STORE, str(sealing.folder), key]
        store = KeyEncryptionKeys(sealing.folder / "none.json", "", shlex.join(words))
        self.keys = SubjectKeys(sealing.database, store, sealing.erased)

    def view(self, *more: dict[str, Any], keys: SubjectKeys | None = None) -> View:
        obligations: tuple[dict[str, Any], ...] = (KEEP_AGE, PSEUDONYM, *more)
        secrets = SubjectSecrets(self.sealing.database, self.sealing.erased)
        lens = Lens(compile_shape(obligations, self.of), bytes(32), {"contract": "con_1"})
        opening = opening_of(obligations, self.of, keys or self.keys)
        return View("visits", lens, self.allows, ConsentIndex(), secrets, self.stamp, self.judgements, opening)

    def allows(self, sref: str, _appended_ms: int, _now_ms: int) -> bool:
        return sref not in self.denied

    async def judge(self, *views: View, during: Callable[[], None]) -> list[Judged]:
        judging = asyncio.gather(*(view.judge(self.block, 0, 1) for view in views))
        await asyncio.to_thread(self._until_asked)
        during()
        (self.sealing.folder / "go").touch()
        return await judging

    def _until_asked(self) -> None:
        asked, deadline = self.sealing.folder / "asked", time.monotonic() + ASKED_S
        while not asked.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert asked.exists()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    sealing = Sealing(tmp_path)
    yield Stage(sealing)
    sealing.database.close()


def ages(judged: Judged) -> list[int]:
    return [orjson.loads(frame)["data"]["age"] for frame in judged.frames]


def test_a_shape_that_is_dropped_during_the_wait_for_keys_loses_no_event(stage: Stage) -> None:
    view = stage.view()
    (judged,) = asyncio.run(stage.judge(view, during=stage.block.shapes.clear))
    assert ages(judged) == [41, 17]
    assert view.holds(judged, 1)
    again = asyncio.run(view.judge(stage.block, 0, 1))
    assert ages(again) == [41, 17]


def test_who_is_erased_during_the_wait_for_keys_is_not_shown_and_nobody_else_is_lost(stage: Stage) -> None:
    view, ann = stage.view(), stage.sealing.ann

    def erase() -> None:  # as `Streams.on_changes` does
        stage.sealing.erased.add(ann)
        stage.stamp.advance(stage.stamp.value + 1)
        stage.keys.forget({ann})
        stage.block.shapes.clear()
        stage.judgements.clear()
        view.lens.forget()

    (judged,) = asyncio.run(stage.judge(view, during=erase))
    assert ages(judged) == [17]
    assert not view.holds(judged, 1)
    after = asyncio.run(view.judge(stage.block, 0, 1))
    assert ages(after) == [17]
    assert view.holds(after, 1)
    assert ann not in {sref for _, sref in stage.keys._known}
    rows, _ = next(iter(stage.block.shapes.values()))
    assert b"41" not in rows[0][3][0], "what memory holds of the erased one stays sealed"


def test_who_may_be_seen_since_the_wait_for_keys_is_shown_when_the_block_is_asked_for_again(stage: Stage) -> None:
    view, ann = stage.view(), stage.sealing.ann
    stage.denied.add(ann)

    def allow() -> None:
        stage.denied.clear()
        stage.stamp.advance(stage.stamp.value + 1)

    (judged,) = asyncio.run(stage.judge(view, during=allow))
    assert ages(judged) == [17]
    assert not view.holds(judged, 1), "it is kept for nobody"
    assert ages(asyncio.run(view.judge(stage.block, 0, 1))) == [41, 17]


def test_who_may_no_longer_be_seen_since_the_wait_for_keys_is_not_shown(stage: Stage) -> None:
    view = stage.view()

    def deny() -> None:
        stage.denied.add(stage.sealing.ann)
        stage.stamp.advance(stage.stamp.value + 1)

    (judged,) = asyncio.run(stage.judge(view, during=deny))
    assert ages(judged) == [17]


def test_two_contracts_of_one_shape_that_wait_for_the_same_keys_see_the_same(stage: Stage) -> None:
    for judged in asyncio.run(stage.judge(stage.view(), stage.view(), during=lambda: None)):
        assert ages(judged) == [41, 17]
    assert len(stage.block.shapes) == 1


def test_what_a_row_filter_on_a_sealed_field_holds_back_is_not_shown(stage: Stage) -> None:
    minors = stage.view({"kind": "row_filter", "pointer": "/age", "values": [17]})
    assert [ages(judged) for judged in asyncio.run(stage.judge(minors, stage.view(), during=lambda: None))] == [[17], [41, 17]]


def test_an_event_whose_key_encryption_key_is_away_is_not_passed_over_and_is_there_once_that_is_back(stage: Stage) -> None:
    key_file = stage.sealing.folder / "keys.json"
    away = key_file.rename(stage.sealing.folder / "away.json")
    view = stage.view(keys=stage.sealing.process())
    lacking = asyncio.run(view.judge(stage.block, 0, 1))
    assert (ages(lacking), lacking.next) == ([], 0)
    away.rename(key_file)
    assert view.holds(lacking, AWAY_MS), "it is not looked for again at once"
    assert not view.holds(lacking, 1 + AWAY_MS)
    whole = asyncio.run(view.judge(stage.block, 0, 1 + AWAY_MS))
    assert (ages(whole), whole.next) == ([41, 17], 2)
    assert asyncio.run(view.judge(stage.block, 0, 1 + AWAY_MS)) is whole


def test_what_stands_before_an_event_whose_key_encryption_key_is_away_is_shown(stage: Stage) -> None:
    keys = stage.sealing.process()
    asyncio.run(keys.to_open("visits", [stage.sealing.ann]))
    (stage.sealing.folder / "keys.json").rename(stage.sealing.folder / "away.json")
    keys._keks = KeyEncryptionKeys(stage.sealing.folder / "keys.json")
    judged = asyncio.run(stage.view(keys=keys).judge(stage.block, 0, 1))
    assert (ages(judged), judged.next) == ([41], 1)


def test_an_event_that_will_never_open_is_passed_over_and_remembered_as_such(stage: Stage) -> None:
    with stage.sealing.database.transaction() as session:
        session.execute(update(SubjectKey).where(SubjectKey.sref == as_bytes(stage.sealing.ann)).values(wrapped=bytes(60)))
    judged = asyncio.run(stage.view(keys=stage.sealing.process()).judge(stage.block, 0, 1))
    assert (ages(judged), judged.next) == ([17], 2)
    assert judged.unopened == [0]


def test_secrets_that_were_dropped_to_make_room_are_there_when_they_are_needed(stage: Stage) -> None:
    ann, bob = stage.sealing.ann, stage.sealing.bob
    secrets = SubjectSecrets(stage.sealing.database, most=0)
    asyncio.run(secrets.load([ann]))
    asyncio.run(secrets.load([ann, bob, "A" * 22]))
    assert secrets.known.keys() == {ann, bob}


def test_many_that_come_to_the_events_of_somebody_new_ask_for_the_secret_once(stage: Stage) -> None:
    secrets = SubjectSecrets(stage.sealing.database)
    asked: list[Any] = []
    event.listen(stage.sealing.database.engine, "begin", asked.append)

    async def come() -> None:
        await asyncio.gather(*(secrets.load([stage.sealing.ann, stage.sealing.bob]) for _ in range(100)))

    asyncio.run(come())
    assert secrets.known.keys() == {stage.sealing.ann, stage.sealing.bob}
    assert len(asked) == 1
