"""The key-encryption keys, which wrap the keys of subjects and never stand in the database.

They come from a command, from the environment, or from the key file: the first of these that is set says which key wraps what is
new, and the others still open what they wrapped. So keys can be replaced, and can move, by wrapping anew (`exchange keys rotate-kek`).
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import structlog

from consent.sealing import KeyAway
from gateway.errors import SettingsRefused
from gateway.keys import key_encryption_keys, unb64

log = structlog.get_logger(__name__)

COMMAND_S = 10.0
"""Seconds that the command may take."""
RETRY_S = 10.0
"""Seconds after which a command that failed is tried again."""


class KeyEncryptionKeys:
    """`given` and what `command` prints are keys of 32 bytes in base64, comma between them, the current one first.

    The command is run at first need, without a shell, and again if it failed. A key file that has changed is read again.
    Calls may wait for the command: make them in worker threads. Raises `SettingsRefused` for `given` that is no key.
    """

    def __init__(self, key_file: Path, given: str = "", command: str = "") -> None:
        self._file = key_file
        self._command = command
        self._given = _parsed(given)
        self._commanded: dict[str, bytes] = {}
        self._filed: dict[str, bytes] = {}
        self._file_read = 0
        self._next_try = 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"KeyEncryptionKeys({', '.join([*self._commanded, *self._given, *self._filed])})"

    def current(self) -> tuple[str, bytes]:
        """The key that wraps what is new, by its identifier. Raises `KeyAway`."""
        self._refresh()
        held = self._commanded if self._command else self._given or self._filed
        for found in held.items():
            return found
        raise KeyAway("there is no key-encryption key")

    def find(self, kek_id: str) -> bytes | None:
        """The key of this identifier, wherever it comes from."""
        found = self._held(kek_id)
        if found is None:
            self._refresh()
            found = self._held(kek_id)
        return found

    def _held(self, kek_id: str) -> bytes | None:
        return self._commanded.get(kek_id) or self._given.get(kek_id) or self._filed.get(kek_id)

    def _refresh(self) -> None:
        with self._lock:
            self._read_file()
            if self._command and not self._commanded and time.monotonic() >= self._next_try:
                self._ask()
                # Counted from its end: whoever waited for a command that hung does not run it again.
                self._next_try = time.monotonic() + RETRY_S

    def _read_file(self) -> None:
        try:
            changed = self._file.stat().st_mtime_ns
            if changed != self._file_read:
                self._filed, self._file_read = _by_id(key_encryption_keys(self._file)), changed
        except (OSError, ValueError) as error:  # it was good at the start: what is known stays
            log.warning("key_file_unreadable", reason=type(error).__name__)

    def _ask(self) -> None:
        try:
            ran = subprocess.run(shlex.split(self._command), capture_output=True, check=True, timeout=COMMAND_S)
            self._commanded = _parsed(ran.stdout.decode("ascii"))
        except (OSError, ValueError, subprocess.SubprocessError) as error:  # what it printed may hold a key: it is not shown
            log.warning("kek_command_failed", reason=type(error).__name__)


def _parsed(text: str) -> dict[str, bytes]:
    try:
        keys = [unb64(part.strip().rstrip("=").translate(str.maketrans("+/", "-_"))) for part in text.split(",") if part.strip()]
    except ValueError:
        keys = [b""]
    if any(len(key) != 32 for key in keys):
        raise SettingsRefused(
            "A key-encryption key is 32 bytes in base64; EXCHANGE_KEK and what EXCHANGE_KEK_COMMAND prints hold such keys."
        )
    return _by_id(keys)


def _by_id(keys: Iterable[bytes]) -> dict[str, bytes]:
    # The name is of the key itself: one key is one name, wherever it comes from.
    return {"kek-" + hashlib.sha256(b"key-encryption key\0" + key).hexdigest()[:16]: key for key in keys}
