"""The key-encryption keys, which wrap the keys of subjects and the exchange's own private keys, and never stand in the database.

They come from a command, from the environment, or from the key file: the first of these that is set says which key wraps what is
new, and the others still open what they wrapped. So keys can be replaced, and can move, by wrapping anew (`exchange keys rotate-kek`).
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from secrets import token_bytes
from typing import Any

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import ECKey, OKPKey

from consent.sealing import KeyAway, KeyLost
from gateway.errors import ExchangeError, SettingsRefused
from gateway.keys import AUDIT_LOG, Keys, SigningUse, Wrapped, encrypt_private_keys, key_encryption_keys, read_keys, replace_wrapped, unb64
from gateway.settings import Settings

log = structlog.get_logger(__name__)

COMMAND_S = 10.0
"""Seconds that the command may take."""
RETRY_S = 10.0
"""Seconds after which a command that failed is tried again."""
NONCE = 12


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

    @classmethod
    def of(cls, settings: Settings) -> KeyEncryptionKeys:
        return cls(settings.resolved_key_file, settings.kek.get_secret_value(), settings.kek_command)

    def __repr__(self) -> str:
        return f"KeyEncryptionKeys({', '.join([*self._commanded, *self._given, *self._filed])})"

    @property
    def elsewhere(self) -> bool:
        """True if the key that wraps what is new stands outside the key file, whose private keys it then encrypts."""
        return bool(self._command or self._given)

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

    def wrap(self, jwk: dict[str, Any]) -> Wrapped:
        """A private JWK under the current key (AES-256-GCM, the nonce before it), bound to its `kid`. Raises `KeyAway`."""
        kek_id, kek = self.current()
        nonce = token_bytes(NONCE)
        return Wrapped(jwk["kid"], kek_id, nonce + AESGCM(kek).encrypt(nonce, json.dumps(jwk).encode("utf-8"), _bound_to(jwk["kid"])))

    def unwrap(self, wrapped: Wrapped) -> dict[str, Any]:
        """The private JWK. Raises `KeyAway`, and `KeyLost` for what was changed, or belongs to another key."""
        kek = self.find(wrapped.kek_id)
        if kek is None:
            raise KeyAway(f"the key-encryption key {wrapped.kek_id} is not to be had")
        try:
            jwk: dict[str, Any] = json.loads(AESGCM(kek).decrypt(wrapped.value[:NONCE], wrapped.value[NONCE:], _bound_to(wrapped.kid)))
        except (InvalidTag, ValueError) as error:
            raise KeyLost(f"the private key {wrapped.kid} does not open") from error
        return jwk

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
        except (OSError, ValueError) as error:  # what is known stays
            if self._file_read:  # while `exchange setup` makes it there is none yet
                log.warning("key_file_unreadable", reason=type(error).__name__)

    def _ask(self) -> None:
        try:
            ran = subprocess.run(shlex.split(self._command), capture_output=True, check=True, timeout=COMMAND_S)
            self._commanded = _parsed(ran.stdout.decode("ascii"))
        except (OSError, ValueError, subprocess.SubprocessError) as error:  # what it printed may hold a key: it is not shown
            log.warning("kek_command_failed", reason=type(error).__name__)


def private_signing_key(keys: Keys, keks: KeyEncryptionKeys, use: SigningUse) -> ECKey:
    """A signing key of the key file, with its private half. Raises `signing_unavailable` while what encrypts it is away."""
    key = keys.signing[use]
    return key if use not in keys.wrapped else ECKey.import_key(opened(keks, keys.wrapped[use]))


def private_log_key(keys: Keys, keks: KeyEncryptionKeys) -> OKPKey:
    """The key that signs the audit log's checkpoints. Raises as `private_signing_key` does."""
    key = keys.audit_log
    return key if AUDIT_LOG not in keys.wrapped else OKPKey.import_key(opened(keks, keys.wrapped[AUDIT_LOG]))


def opened(keks: KeyEncryptionKeys, wrapped: Wrapped) -> dict[str, Any]:
    """The private JWK, for whoever is to sign with it now. Raises `signing_unavailable`."""
    try:
        return keks.unwrap(wrapped)
    except KeyLost as error:
        raise ExchangeError("signing_unavailable", headers={"Retry-After": "10"}) from error


def rewrap_key_file(path: Path, keks: KeyEncryptionKeys) -> tuple[int, int]:
    """Encrypt each private key of the key file under the current key, if that is elsewhere; returns how many were, and how many none opens.

    Raises `KeyAway`, and what `read_keys` raises.
    """
    if not keks.elsewhere:
        return 0, 0
    lost, anew, keys = 0, dict[str, Wrapped](), read_keys(path)
    for use, wrapped in keys.wrapped.items():
        if wrapped.kek_id == keks.current()[0]:
            continue
        try:
            anew[use] = keks.wrap(keks.unwrap(wrapped))
        except KeyLost:
            lost += 1
    if anew:
        replace_wrapped(path, anew)
    return len(anew) + encrypt_private_keys(path, keks.wrap), lost


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


def _bound_to(kid: str) -> bytes:
    """What the ciphertext is authenticated with: it opens as no other key."""
    return f"signing key {kid}".encode()


def _by_id(keys: Iterable[bytes]) -> dict[str, bytes]:
    # The name is of the key itself: one key is one name, wherever it comes from.
    return {"kek-" + hashlib.sha256(b"key-encryption key\0" + key).hexdigest()[:16]: key for key in keys}
