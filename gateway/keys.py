"""The keys of the exchange: one JSON file, readable by its owner only, written once by `exchange setup`.

Where key-encryption keys come from elsewhere the private keys in it are encrypted (`gateway/key_encryption.py`). `docs/operations.md`
says of each key what it guards, and what its loss and its theft mean.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from joserfc.jwk import ECKey, OKPKey

from gateway.errors import SettingsRefused

SecretUse = Literal[
    "subject_index", "pseudonym", "cursor", "client_secret", "stored_answer", "withdrawal_code", "remembered", "dpop_nonce", "person"
]
SECRET_USES: tuple[SecretUse, ...] = get_args(SecretUse)
SigningUse = Literal["token", "policy_bundle", "receipt"]
SIGNING_USES: tuple[SigningUse, ...] = get_args(SigningUse)
KEY_ENCRYPTION = "key_encryption"
"""The use of the keys that wrap subjects' keys: see `gateway/key_encryption.py`."""
AUDIT_LOG = "audit_log"
"""The use of the Ed25519 key that signs the audit log's checkpoints: see `gateway/audit/note.py`."""
ADDED: tuple[frozenset[str], ...] = (
    frozenset({"withdrawal_code", "receipt", KEY_ENCRYPTION}),
    frozenset({"dpop_nonce"}),
    frozenset({"person"}),
    frozenset({AUDIT_LOG}),
)
"""The uses that each version of the key file added to the one before. A file says its version (`v`), and so what it may lack;
the first two both say 1: of those, one that has none of the first additions is of before them.
"""


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
class Wrapped:
    """A private JWK of that `kid`, encrypted under the key-encryption key `kek_id`."""

    kid: str
    kek_id: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys as they were read. Secrets by use, ES256 signing keys by use, the audit log's Ed25519 key.

    A key whose private half is encrypted in the file is a public one here, and `wrapped` has the other half by its use.
    """

    secrets: dict[SecretUse, SecretKey]
    signing: dict[SigningUse, ECKey]
    audit_log: OKPKey
    wrapped: dict[str, Wrapped]

    def __repr__(self) -> str:
        return f"Keys({', '.join(key.id for key in self.secrets.values())})"

    def secret(self, use: SecretUse) -> SecretKey:
        return self.secrets[use]


Wrap = Callable[[dict[str, Any]], Wrapped]
"""What encrypts a private JWK. Raises `KeyLost` where that cannot be done."""


def write_keys(path: Path, wrap: Wrap | None = None) -> Keys:
    """Make a new key file (mode 0600), with a key-encryption key of its own, or by `wrap` with private keys that are encrypted.

    Raises `SettingsRefused` if one is there, for keys are never overwritten, and what `wrap` raises.
    """
    made = _all_new()
    if wrap is not None:
        made = [_encrypted(entry, wrap) for entry in made if entry["use"] != KEY_ENCRYPTION]
    document = {"v": len(ADDED), "keys": made}
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
    document = _document(path)
    held: dict[SecretUse, SecretKey] = {}
    signing: dict[SigningUse, ECKey] = {}
    audit_log: OKPKey | None = None
    encrypted = [entry for entry in document["keys"] if "wrapped" in entry]
    wrapped = {entry["use"]: Wrapped(entry["jwk"]["kid"], entry["kek_id"], unb64(entry["wrapped"])) for entry in encrypted}
    for entry in document["keys"]:
        if entry["use"] in SECRET_USES:
            held[entry["use"]] = SecretKey(entry["id"], entry["use"], unb64(entry["value"]))
        elif entry["use"] in SIGNING_USES:
            signing[entry["use"]] = ECKey.import_key(entry["jwk"])
        elif entry["use"] == AUDIT_LOG:
            audit_log = OKPKey.import_key(entry["jwk"])
    missing: set[str] = (set(SECRET_USES) - set(held)) | (set(SIGNING_USES) - set(signing))
    if audit_log is None:
        missing.add(AUDIT_LOG)
    if missing or audit_log is None:
        lacking = f"The key file {path} has no key for {', '.join(sorted(missing))}"
        if missing <= _still_to_come(document):
            raise SettingsRefused(f"{lacking}: it is of an earlier version. Run `exchange migrate`, which adds what is new.")
        raise SettingsRefused(f"{lacking}: bring it back from your backup.")
    return Keys(held, signing, audit_log, wrapped)


def complete_keys(path: Path, wrap: Wrap | None = None) -> list[str]:
    """Add what a key file of an earlier version lacks, and return the uses that were added. What is in the file stays as it is.

    A key that was lost is not made anew: what was made with it would be lost unseen. Raises what `read_keys` and `wrap` raise.
    """
    document = _document(path)
    held, to_come = {entry["use"] for entry in document["keys"]}, _still_to_come(document)
    lost = {*SECRET_USES, *SIGNING_USES, AUDIT_LOG} - held - to_come
    added = [entry for entry in _all_new() if entry["use"] in to_come - held] if not lost else []
    if wrap is not None:
        added = [_encrypted(entry, wrap) for entry in added]
    if added:
        _replace(path, {"v": len(ADDED), "keys": [*document["keys"], *added]})
    read_keys(path)
    return [entry["use"] for entry in added]


def key_encryption_keys(path: Path) -> list[bytes]:
    """Those of the key file, the current one first; none in a file of before there were any. Raises what `read_keys` raises."""
    return [unb64(entry["value"]) for entry in _document(path)["keys"] if entry["use"] == KEY_ENCRYPTION]


def add_key_encryption_key(path: Path) -> None:
    """Put a new one before the others in the key file, which is replaced whole. Raises what `read_keys` raises."""
    document = _document(path)
    _replace(path, document | {"keys": [_new_key_encryption_key(), *document["keys"]]})


def encrypt_private_keys(path: Path, wrap: Wrap) -> int:
    """Encrypt those that stand in clear in the key file, which is replaced whole if there are any; returns how many there were.

    Raises what `read_keys` and `wrap` raise.
    """
    document = _document(path)
    entries = [_encrypted(entry, wrap) for entry in document["keys"]]
    done = sum(entry is not before for entry, before in zip(entries, document["keys"], strict=True))
    if done:
        _replace(path, document | {"keys": entries})
    return done


def replace_wrapped(path: Path, wrapped: dict[str, Wrapped]) -> None:
    """Put these in the places of what is encrypted in the key file, by use. Raises what `read_keys` raises."""
    document = _document(path)
    entries = [entry | _members(wrapped[entry["use"]]) if entry["use"] in wrapped else entry for entry in document["keys"]]
    _replace(path, document | {"keys": entries})


def _encrypted(entry: dict[str, Any], wrap: Wrap) -> dict[str, Any]:
    """An entry with its private half encrypted, if it has one in clear."""
    if "d" not in entry.get("jwk", {}):
        return entry
    public = {name: value for name, value in entry["jwk"].items() if name != "d"}
    return entry | {"jwk": public} | _members(wrap(entry["jwk"]))


def _members(wrapped: Wrapped) -> dict[str, str]:
    return {"kek_id": wrapped.kek_id, "wrapped": b64(wrapped.value)}


def _still_to_come(document: dict[str, Any]) -> frozenset[str]:
    """The uses that came after the version of this key file."""
    version = document["v"]
    if version == 1 and not ADDED[0] & {entry["use"] for entry in document["keys"]}:
        version = 0
    return frozenset().union(*ADDED[version:])


def _replace(path: Path, document: dict[str, Any]) -> None:
    """Put a whole new file in the place of the old, whose owner keeps it: whoever looks sees the one or the other."""
    new, old = path.with_suffix(".new"), path.stat()
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    if os.fstat(descriptor).st_uid != old.st_uid:
        os.fchown(descriptor, old.st_uid, old.st_gid)
    _write(descriptor, document)
    new.replace(path)


def _document(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise SettingsRefused(f"No key file at {path}: run `exchange setup`, or set EXCHANGE_KEY_FILE.")
    if path.stat().st_mode & 0o077:
        raise SettingsRefused(f"The key file {path} is readable by others: chmod 600 it.")
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


def _write(descriptor: int, document: dict[str, Any]) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def _all_new() -> list[dict[str, Any]]:
    return [*_new_secrets(), *_new_signing_keys(), _new_audit_log_key(), _new_key_encryption_key()]


def _new_audit_log_key() -> dict[str, Any]:
    key = OKPKey.generate_key("Ed25519", private=True)
    return {"id": f"{AUDIT_LOG}-1", "use": AUDIT_LOG, "jwk": key.as_dict(private=True, kid=key.thumbprint())}


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
