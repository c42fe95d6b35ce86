"""Where key-encryption keys come from, which of them wraps, what they encrypt, and that what is lost or changed is no error but a no."""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from consent.sealing import KeyLost
from gateway.errors import ExchangeError, SettingsRefused
from gateway.key_encryption import KeyEncryptionKeys, private_log_key, private_signing_key, rewrap_key_file
from gateway.keys import SIGNING_USES, add_key_encryption_key, key_encryption_keys, read_keys, write_keys
from gateway.settings import Settings
from gateway.setup import migrate, set_up


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


PRIVATE = ("token", "policy_bundle", "receipt", "audit_log")


def elsewhere(path: Path, *keys: bytes) -> KeyEncryptionKeys:
    return KeyEncryptionKeys(path, ",".join(b64encode(key).decode() for key in keys))


def in_clear(path: Path) -> list[str]:
    """The uses whose private key anybody reads who reads the file."""
    return [entry["use"] for entry in json.loads(path.read_text())["keys"] if "d" in entry.get("jwk", {})]


def private(path: Path, keks: KeyEncryptionKeys) -> list[Any]:
    """The private halves, opened."""
    keys = read_keys(path)
    signing = [private_signing_key(keys, keks, use).as_dict(private=True)["d"] for use in SIGNING_USES]
    return [*signing, private_log_key(keys, keks).as_dict(private=True)["d"]]


def test_a_new_key_file_has_no_private_key_in_clear_where_the_key_for_it_is_elsewhere(tmp_path: Path) -> None:
    path, kek = tmp_path / "keys.json", secrets.token_bytes(32)
    write_keys(path, elsewhere(path, kek).wrap)
    opened = private(path, elsewhere(path, kek))
    assert len(set(opened)) == len(PRIVATE)
    assert not [each for each in opened if each in path.read_text()]
    assert (in_clear(path), key_encryption_keys(path)) == ([], [])
    with pytest.raises(ExchangeError, match="signing_unavailable"):
        private(path, elsewhere(path, secrets.token_bytes(32)))


def test_a_key_that_does_not_come_leaves_no_key_file_behind(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    settings = Settings(environment="development", data_dir=tmp_path, kek_command=printing("", 1))
    with pytest.raises(SettingsRefused, match="EXCHANGE_KEK_COMMAND"):
        set_up(settings, "City of Test")
    assert not path.exists()


def test_private_keys_of_before_are_encrypted_by_migrate_and_stay_the_same(key_file: Path) -> None:
    kek, before = secrets.token_bytes(32), private(key_file, KeyEncryptionKeys(key_file))
    assert sorted(in_clear(key_file)) == sorted(PRIVATE)
    settings = Settings(environment="development", data_dir=key_file.parent, kek=SecretStr(b64encode(kek).decode()))
    assert migrate(settings) == []
    assert in_clear(key_file) == []
    assert private(key_file, elsewhere(key_file, kek)) == before
    assert not [each for each in before if each in key_file.read_text()]


def test_private_keys_move_to_another_key_and_the_one_before_opens_nothing_any_more(key_file: Path) -> None:
    old, new, before = secrets.token_bytes(32), secrets.token_bytes(32), private(key_file, KeyEncryptionKeys(key_file))
    assert rewrap_key_file(key_file, KeyEncryptionKeys(key_file)) == (0, 0)  # beside what it encrypts a key would keep nobody out
    assert rewrap_key_file(key_file, elsewhere(key_file, old)) == (len(PRIVATE), 0)
    assert rewrap_key_file(key_file, elsewhere(key_file, new)) == (0, len(PRIVATE))
    assert rewrap_key_file(key_file, elsewhere(key_file, new, old)) == (len(PRIVATE), 0)
    assert rewrap_key_file(key_file, elsewhere(key_file, new)) == (0, 0)
    assert private(key_file, elsewhere(key_file, new)) == before
    with pytest.raises(ExchangeError, match="signing_unavailable"):
        private(key_file, elsewhere(key_file, old))


def test_an_encrypted_private_key_opens_in_no_other_place(tmp_path: Path) -> None:
    path, kek = tmp_path / "keys.json", secrets.token_bytes(32)
    write_keys(path, elsewhere(path, kek).wrap)
    document = json.loads(path.read_text())
    token, receipt = (next(entry for entry in document["keys"] if entry["use"] == use) for use in ("token", "receipt"))
    token["wrapped"], receipt["wrapped"] = receipt["wrapped"], token["wrapped"]
    path.write_text(json.dumps(document))
    with pytest.raises(ExchangeError, match="signing_unavailable"):
        private_signing_key(read_keys(path), elsewhere(path, kek), "token")
