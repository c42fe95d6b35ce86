"""Where key-encryption keys come from, which of them wraps, and that what is lost or changed is no error but a no."""

from __future__ import annotations

import secrets
import shlex
import sys
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest

from consent.sealing import KeyLost
from gateway.errors import SettingsRefused
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import add_key_encryption_key, key_encryption_keys, read_keys, write_keys


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write_keys(path)
    return path


def printing(text: str, status: int = 0) -> str:
    return shlex.join([sys.executable, "-c", f"import sys; print({text!r}); sys.exit({status})"])


def test_a_new_key_file_has_one_and_it_wraps(key_file: Path) -> None:
    kek_id, key = KeyEncryptionKeys(key_file).current()
    assert [key] == key_encryption_keys(key_file)
    assert KeyEncryptionKeys(key_file).find(kek_id) == key
    assert KeyEncryptionKeys(key_file).find("kek-other") is None


def test_an_added_key_wraps_what_is_new_and_the_old_one_still_opens(key_file: Path) -> None:
    keys, signing = KeyEncryptionKeys(key_file), read_keys(key_file).signing["token"].thumbprint()
    old = keys.current()
    add_key_encryption_key(key_file)
    new = keys.current()
    assert new != old
    assert (keys.find(old[0]), keys.find(new[0])) == (old[1], new[1])
    assert read_keys(key_file).signing["token"].thumbprint() == signing
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert list(key_file.parent.iterdir()) == [key_file]


def test_a_running_process_finds_a_key_that_was_added_since(key_file: Path) -> None:
    running = KeyEncryptionKeys(key_file)
    running.current()
    add_key_encryption_key(key_file)
    kek_id, key = KeyEncryptionKeys(key_file).current()
    assert running.find(kek_id) == key


def test_the_environment_goes_before_the_file_and_a_command_before_both(key_file: Path) -> None:
    given, printed = secrets.token_bytes(32), secrets.token_bytes(32)
    filed = KeyEncryptionKeys(key_file).current()
    by_environment = KeyEncryptionKeys(key_file, b64encode(given).decode())
    assert by_environment.current()[1] == given
    both = KeyEncryptionKeys(key_file, b64encode(given).decode(), printing(urlsafe_b64encode(printed).decode()))
    assert both.current()[1] == printed
    assert both.find(by_environment.current()[0]) == given
    assert both.find(filed[0]) == filed[1]


def test_of_several_the_first_wraps_and_all_open(key_file: Path) -> None:
    new, old = secrets.token_bytes(32), secrets.token_bytes(32)
    both = KeyEncryptionKeys(key_file, f"{b64encode(new).decode()}, {b64encode(old).decode()}")
    assert both.current()[1] == new
    assert both.find(KeyEncryptionKeys(key_file, b64encode(old).decode()).current()[0]) == old


@pytest.mark.parametrize("command", [printing("", 1), printing("no key"), "/nowhere/at-all", 'a "broken'])
def test_a_command_that_fails_gives_no_key_and_nothing_else_takes_its_place(key_file: Path, command: str) -> None:
    keys = KeyEncryptionKeys(key_file, "", command)
    with pytest.raises(KeyLost):
        keys.current()
    filed = KeyEncryptionKeys(key_file).current()
    assert keys.find(filed[0]) == filed[1]


@pytest.mark.parametrize("given", ["short", "é", b64encode(bytes(31)).decode(), b64encode(bytes(33)).decode()])
def test_what_is_no_key_is_refused_at_the_start_without_being_shown(key_file: Path, given: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        KeyEncryptionKeys(key_file, given)
    assert given not in str(refused.value)


def test_a_key_file_that_goes_away_takes_nothing_with_it(key_file: Path) -> None:
    keys = KeyEncryptionKeys(key_file)
    kek_id, key = keys.current()
    key_file.unlink()
    assert keys.find(kek_id) == key
    assert keys.find("kek-other") is None


def test_its_representation_shows_no_key(key_file: Path) -> None:
    given = secrets.token_bytes(32)
    keys = KeyEncryptionKeys(key_file, b64encode(given).decode())
    assert keys.current()[0] in repr(keys)
    assert b64encode(given).decode() not in repr(keys)
    assert repr(given) not in repr(keys)
