"""The key file: a file of an earlier version is completed, and nothing else is ever made up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from gateway.doctor import examine
from gateway.errors import SettingsRefused
from gateway.keys import ADDED, complete_keys, key_encryption_keys, read_keys, write_keys
from gateway.settings import Settings
from gateway.setup import set_up


def entries(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["keys"]
    return found


def take_away(path: Path, uses: Iterable[str], version: int = len(ADDED)) -> list[dict[str, Any]]:
    """Write the file without these keys, as one of that version, and return what is left."""
    gone = set(uses)
    left = [entry for entry in entries(path) if entry["use"] not in gone]
    path.write_text(json.dumps({"v": version, "keys": left}), "utf-8")
    return left


def make_earlier(path: Path, version: int) -> list[dict[str, Any]]:
    """Write the file as this version of the exchange wrote it: the first two both said 1."""
    return take_away(path, chain(*ADDED[version:]), max(1, version))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write_keys(path)
    return path


@pytest.mark.parametrize("version", range(len(ADDED)))
def test_a_key_file_of_any_earlier_version_gets_what_it_lacks_and_keeps_what_it_has(key_file: Path, version: int) -> None:
    before = make_earlier(key_file, version)
    with pytest.raises(SettingsRefused, match="exchange migrate"):
        read_keys(key_file)

    assert set(complete_keys(key_file)) == set(chain(*ADDED[version:]))

    assert entries(key_file)[: len(before)] == before
    assert complete_keys(key_file) == []
    assert read_keys(key_file).secret("withdrawal_code").value
    assert len(key_encryption_keys(key_file)) == 1
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert list(key_file.parent.iterdir()) == [key_file]


def test_a_whole_key_file_stays_as_it_is(key_file: Path) -> None:
    before = key_file.read_bytes()
    assert complete_keys(key_file) == []
    assert key_file.read_bytes() == before


LOST: dict[str, tuple[set[str], int]] = {
    "a signing key": ({"receipt"}, len(ADDED)),
    "a code": ({"withdrawal_code"}, len(ADDED)),
    "the index": ({"subject_index"}, len(ADDED)),
    "all of the last version": (set(ADDED[-1]), len(ADDED)),
    "the token's, of the first version": ({"token", *chain(*ADDED)}, 1),
    "one of the second version": ({"receipt", *chain(*ADDED[1:])}, 1),
}


@pytest.mark.parametrize(("lost", "version"), LOST.values(), ids=LOST.keys())
def test_a_key_that_is_lost_is_not_made_anew(key_file: Path, lost: set[str], version: int) -> None:
    take_away(key_file, lost, version)
    before = key_file.read_bytes()
    with pytest.raises(SettingsRefused, match="backup"):
        complete_keys(key_file)
    assert key_file.read_bytes() == before


@pytest.mark.parametrize("version", range(1, len(ADDED) + 1))
def test_a_key_encryption_key_that_is_lost_or_elsewhere_is_not_made_anew(key_file: Path, version: int) -> None:
    added = set(chain(*ADDED[version:]))
    take_away(key_file, {"key_encryption", *added}, version)
    assert set(complete_keys(key_file)) == added
    assert key_encryption_keys(key_file) == []


def test_a_key_file_that_others_can_read_is_not_touched(key_file: Path) -> None:
    make_earlier(key_file, 0)
    key_file.chmod(0o644)
    with pytest.raises(SettingsRefused, match="chmod 600"):
        complete_keys(key_file)


def test_doctor_and_serve_name_the_command_that_completes_the_key_file(tmp_path: Path) -> None:
    settings = Settings(environment="development", data_dir=tmp_path / "data", port=1)
    set_up(settings, "City of Mississauga")
    make_earlier(settings.resolved_key_file, 0)
    environment = {"PATH": os.environ["PATH"], "EXCHANGE_ENVIRONMENT": "development", "EXCHANGE_DATA_DIR": str(settings.data_dir)}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "gateway.cli", command]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def keys() -> tuple[bool, str]:
        (finding,) = (finding for finding in examine(settings) if finding.part == "keys")
        return finding.well, finding.says

    well, says = keys()
    assert not well
    assert "exchange migrate" in says
    refused = run("serve")
    assert (refused.returncode, "exchange migrate" in refused.stderr) == (1, True), refused.stderr
    migrated = run("migrate")
    assert (migrated.returncode, "withdrawal_code" in migrated.stdout) == (0, True), migrated.stderr
    assert keys()[0]
    assert "withdrawal_code" not in run("migrate").stdout
