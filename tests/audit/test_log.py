"""The log as it grows: others' verifiers accept it, tiles never change, and nothing is signed over a doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.audit.tiles import Tiles, parse_tile_path, tile_path
from gateway.database import Database
from tests.audit.growing import Log
from tests.audit.others import fsck_verifies, go_verifies


@pytest.fixture
def log(database: Database, tmp_path: Path) -> Log:
    return Log(database, tmp_path)


@pytest.mark.parametrize(
    ("number", "width", "path"),
    [(0, 256, "000"), (5, 7, "005.p/7"), (999, 256, "999"), (1000, 256, "x001/000"), (1234067, 255, "x001/x234/067.p/255")],
)
def test_paths_are_those_of_the_specification(number: int, width: int, path: str) -> None:
    assert tile_path(0, number, width) == f"tile/0/{path}"
    assert parse_tile_path(f"0/{path}") == (0, number, width)
    assert parse_tile_path(f"entries/{path}") == ("entries", number, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "0",
        "0/0",
        "0/1000",
        "64/000",
        "00/000",
        "0/x000/001",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/07",
        "0/../checkpoint",
        "entries/.lock",
    ],
)
def test_what_is_no_tile_has_no_path(path: str) -> None:
    assert parse_tile_path(path) is None


def test_verifiers_of_others_accept_the_log_at_every_size(log: Log, tlog_programs: Path) -> None:
    size = 0
    with log.served() as url:
        for count in (1, 1, 253, 1, 1, 255, 700, 4099):
            size += count
            assert log.grow(count).size == size
            assert go_verifies(tlog_programs, url, log.vkey, log.folder / "seen") == (size, "")
        assert fsck_verifies(tlog_programs, url, log.vkey, log.folder)


def test_a_tile_never_changes_and_partial_ones_go_when_the_whole_is_there(log: Log) -> None:
    def tiles() -> dict[str, bytes]:
        return {
            str(file.relative_to(log.tiles.folder)): file.read_bytes() for file in log.tiles.folder.rglob("tile/**/*") if file.is_file()
        }

    seen: dict[str, bytes] = {}
    for count in (1, 7, 240, 8, 1, 300):
        log.grow(count)
        now = tiles()
        assert [name for name in seen if name in now and now[name] != seen[name]] == []
        seen |= now
    assert set(tiles()) == {
        *(f"tile/{kind}/{number:03}" for kind in ("0", "entries") for number in (0, 1)),
        *(f"tile/{kind}/002.p/45" for kind in ("0", "entries")),
        "tile/1/000.p/1",
        "tile/1/000.p/2",
    }
    assert log.tiles.read_tile(0, 0, 100) == seen["tile/0/000"][:3200]


def test_an_idle_log_signs_nothing(log: Log) -> None:
    first = log.grow(3)
    before = (log.tiles.folder / "checkpoint").stat()
    assert log.sequencer.step() is None
    assert log.grow() == first
    assert (log.tiles.folder / "checkpoint").stat().st_ino == before.st_ino


def test_who_is_interrupted_between_tiles_and_checkpoint_goes_on(log: Log) -> None:
    log.grow(300)

    class Interrupted(Tiles):
        def publish(self, checkpoint: bytes) -> None:
            raise OSError(f"no space left for {len(checkpoint)} bytes")

    log.append(50)
    with pytest.raises(OSError, match="no space"):
        log.replica(Interrupted(log.tiles.folder)).step()
    log.append(10)
    assert log.grow().size == 360
