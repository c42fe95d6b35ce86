"""The keys of the exchange: one JSON file, readable by its owner only, written once by `exchange setup`.

`docs/operations.md` says of each what it guards, and what its loss and its theft mean.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from joserfc.jwk import ECKey

from gateway.errors import SettingsRefused

SecretUse = Literal["subject_index", "pseudonym", "cursor", "client_secret", "stored_answer", "withdrawal_code", "remembered"]
SECRET_USES: tuple[SecretUse, ...] = (
    *("subject_index", "pseudonym", "cursor", "client_secret", "stored_answer", "withdrawal_code"),
    "remembered",
)
SigningUse = Literal["token", "policy_bundle", "receipt"]
SIGNING_USES: tuple[SigningUse, ...] = ("token", "policy_bundle", "receipt")
KEY_ENCRYPTION = "key_encryption"
"""The use of the keys that wrap subjects' keys: see `gateway/key_encryption.py`."""
ADDED = frozenset({"withdrawal_code", "receipt", KEY_ENCRYPTION})
"""The uses that a key file of the version before lacks, all of them; a file that lacks some has lost them."""


def b64(data: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64(text: str) -> bytes:
    """The inverse of `b64`. Raises `ValueError`."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, slots=True)
class SecretKey:
    """32 random bytes for one use; `id` names it in what was made with it, so that it can be replaced."""

    id: str
    use: SecretUse
    value: bytes

    def __repr__(self) -> str:
        return f"SecretKey(id={self.id!r}, use={self.use!r})"

    def mac(self, *parts: bytes) -> bytes:
        """HMAC-SHA-256 over the parts, each with its length before it, so that no two lists of parts collide."""
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self.value, message, hashlib.sha256)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys as they were read. Secrets by use, ES256 signing keys by use."""

    secrets: dict[SecretUse, SecretKey]
    signing: dict[SigningUse, ECKey]

    def __repr__(self) -> str:
        return f"Keys({', '.join(key.id for key in self.secrets.values())})"

    def secret(self, use: SecretUse) -> SecretKey:
        return self.secrets[use]


def write_keys(path: Path) -> Keys:
    """Make a new key file (mode 0600). Raises `SettingsRefused` if one is there: keys are never overwritten."""
    document = {"v": 1, "keys": _all_new()}
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise SettingsRefused(
            f"There is a key file at {path} already; keys are never overwritten. Move it away if this is a new exchange."
        ) from error
    _write(descriptor, document)
    return read_keys(path)


def read_keys(path: Path) -> Keys:
    """Read the key file. Raises `SettingsRefused` if it is missing, readable by others, or incomplete."""
    entries = _entries(path)
    held: dict[SecretUse, SecretKey] = {}
    signing: dict[SigningUse, ECKey] = {}
    for entry in entries:
        if entry["use"] in SECRET_USES:
            held[entry["use"]] = SecretKey(entry["id"], entry["use"], unb64(entry["value"]))
        elif entry["use"] in SIGNING_USES:
            signing[entry["use"]] = ECKey.import_key(entry["jwk"])
    missing = (set(SECRET_USES) - set(held)) | (set(SIGNING_USES) - set(signing))
    if missing:
        lacking = f"The key file {path} has no key for {', '.join(sorted(missing))}"
        if _is_earlier(entries):
            raise SettingsRefused(f"{lacking}: it is of an earlier version. Run `exchange migrate`, which adds what is new.")
        raise SettingsRefused(f"{lacking}: bring it back from your backup.")
    return Keys(held, signing)


def complete_keys(path: Path) -> list[str]:
    """Add what a key file of the version before lacks, and return the uses that were added. What is in the file stays as it is.

    A key that was lost is not made anew: what was made with it would be lost unseen. Raises what `read_keys` raises.
    """
    entries = _entries(path)
    added = [entry for entry in _all_new() if entry["use"] in ADDED] if _is_earlier(entries) else []
    if added:
        _replace(path, [*entries, *added])
    read_keys(path)
    return [entry["use"] for entry in added]


def key_encryption_keys(path: Path) -> list[bytes]:
    """Those of the key file, the current one first; none in a file of before there were any. Raises what `read_keys` raises."""
    return [unb64(entry["value"]) for entry in _entries(path) if entry["use"] == KEY_ENCRYPTION]


def add_key_encryption_key(path: Path) -> None:
    """Put a new one before the others in the key file, which is replaced whole. Raises what `read_keys` raises."""
    _replace(path, [_new_key_encryption_key(), *_entries(path)])


def _is_earlier(entries: list[dict[str, Any]]) -> bool:
    held = {entry["use"] for entry in entries}
    return not held & ADDED and held >= {*SECRET_USES, *SIGNING_USES} - ADDED


def _replace(path: Path, entries: list[dict[str, Any]]) -> None:
    """Put a whole new file in the place of the old, whose owner keeps it: whoever looks sees the one or the other."""
    new, old = path.with_suffix(".new"), path.stat()
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    if os.fstat(descriptor).st_uid != old.st_uid:
        os.fchown(descriptor, old.st_uid, old.st_gid)
    _write(descriptor, {"v": 1, "keys": entries})
    new.replace(path)


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        raise SettingsRefused(f"No key file at {path}: run `exchange setup`, or set EXCHANGE_KEY_FILE.")
    if path.stat().st_mode & 0o077:
        raise SettingsRefused(f"The key file {path} is readable by others: chmod 600 it.")
    entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["keys"]
    return entries


def _write(descriptor: int, document: dict[str, Any]) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def _all_new() -> list[dict[str, Any]]:
    return [*_new_secrets(), *_new_signing_keys(), _new_key_encryption_key()]


def _new_key_encryption_key() -> dict[str, Any]:
    return {"use": KEY_ENCRYPTION, "value": b64(secrets.token_bytes(32))}


def _new_secrets() -> Iterator[dict[str, Any]]:
    for use in SECRET_USES:
        yield {"id": f"{use}-1", "use": use, "value": b64(secrets.token_bytes(32))}


def _new_signing_keys() -> Iterator[dict[str, Any]]:
    for use in SIGNING_USES:
        # OPA's configuration names the bundle's key `policy`; a token names its own by thumbprint (RFC 7638).
        key = ECKey.generate_key("P-256", parameters={"use": "sig", "alg": "ES256"}, private=True)
        kid = "policy" if use == "policy_bundle" else key.thumbprint()
        yield {"id": f"{use}-1", "use": use, "jwk": key.as_dict(private=True, kid=kid)}
