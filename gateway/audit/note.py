"""Signed notes and the checkpoints in them: C2SP signed-note, tlog-checkpoint and tlog-cosignature (v1, Ed25519)."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.key_encryption import KeyEncryptionKeys, private_log_key
from gateway.keys import Keys, unb64
from gateway.settings import Settings

ED25519, COSIGNATURE = 0x01, 0x04
"""Signature types: of a log over its note, of a witness over time and note."""
HASH, TIME, SIGNATURE = 32, 8, 64
MOST_BYTES = 64 * 1024


class NoteRefused(ValueError):
    """What was read is no signed note, no checkpoint, or not signed by who should have."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with its name. `vkey` is its text (signed-note, "Verifier keys")."""

    name: str
    type: int
    key: bytes

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """From `name+hex key id+base64(type || key)`. Raises `NoteRefused`."""
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        made = _decode(encoded)
        if not name or len(made) != 1 + HASH or made[0] not in {ED25519, COSIGNATURE}:
            raise NoteRefused("a verifier key is name+id+base64 of an Ed25519 key")
        verifier = cls(name, made[0], made[1:])
        if verifier.id.hex() != key_id:
            raise NoteRefused(f"the id of the verifier key of {name} is not that of its key")
        return verifier

    @property
    def id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.key).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(bytes([self.type]) + self.key).decode('ascii')}"

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """True if `signature`, without the key's id, is over this note's text."""
        if self.type == COSIGNATURE:
            if len(signature) != TIME + SIGNATURE:
                return False
            text = b"cosignature/v1\ntime %d\n" % int.from_bytes(signature[:TIME], "big") + text
            signature = signature[TIME:]
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """The log's own key, with its origin."""

    verifier: Verifier
    _key: Callable[[], Ed25519PrivateKey]

    def sign(self, size: int, root: bytes) -> bytes:
        """The signed checkpoint of a tree. Raises `signing_unavailable` while what encrypts the key is away."""
        text = f"{self.verifier.name}\n{size}\n{b64encode(root).decode('ascii')}\n".encode()
        return text + b"\n" + signature_line(self.verifier, self._key().sign(text))


def log_signer(keys: Keys, keks: KeyEncryptionKeys, settings: Settings) -> Signer:
    """The signer of this exchange's log, whose key is opened at first need."""

    @cache
    def key() -> Ed25519PrivateKey:
        opened = private_log_key(keys, keks).private_key
        assert isinstance(opened, Ed25519PrivateKey)
        return opened

    return Signer(_verifier(keys, settings), key)


def log_identity(keys: Keys, settings: Settings) -> tuple[str, str]:
    """(origin, verifier key) of the log: what the parties hold from before any dispute."""
    verifier = _verifier(keys, settings)
    return verifier.name, verifier.vkey


def _verifier(keys: Keys, settings: Settings) -> Verifier:
    """The log's origin is its address without scheme (tlog-tiles, "Parameters")."""
    origin = f"{settings.issuer.partition('://')[2]}/audit"
    return Verifier(origin, ED25519, unb64(str(keys.audit_log.as_dict(private=False)["x"])))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it was read: `text` is what is signed, `note` all of it."""

    origin: str
    size: int
    root: bytes
    text: bytes
    note: bytes

    @classmethod
    def parse(cls, note: bytes) -> Checkpoint:
        """Raises `NoteRefused`; who signed is another question."""
        if len(note) > MOST_BYTES or not note.endswith(b"\n"):
            raise NoteRefused("is no signed note")
        body, gap, _ = note.rpartition(b"\n\n")
        try:
            origin, size, root, *extensions = body.decode().split("\n")
        except (UnicodeDecodeError, ValueError) as error:
            raise NoteRefused("is no checkpoint") from error
        if not gap or not origin or not all(extensions) or not _is_number(size) or len(_decode(root)) != HASH:
            raise NoteRefused("is no checkpoint")
        return cls(origin, int(size), _decode(root), body + b"\n", note)

    def signed_by(self, verifier: Verifier) -> bool:
        """True if it has a signature of this key. Raises `NoteRefused` if one that names the key does not verify."""
        found = False
        for name, key_id, signature in _signatures(self.note[len(self.text) + 1 :]):
            if (name, key_id) == (verifier.name, verifier.id):
                if not verifier.verifies(self.text, signature):
                    raise NoteRefused(f"a signature of {name} does not verify")
                found = True
        return found

    def signers(self, verifiers: Iterable[Verifier]) -> set[Verifier]:
        """Those of the keys whose signature it has. Raises as `signed_by`."""
        return {verifier for verifier in verifiers if self.signed_by(verifier)}

    def with_lines(self, lines: bytes) -> Checkpoint:
        """The same with further signature lines."""
        return Checkpoint(self.origin, self.size, self.root, self.text, self.note + lines)


def signature_line(verifier: Verifier, signature: bytes) -> bytes:
    return f"— {verifier.name} {b64encode(verifier.id + signature).decode('ascii')}\n".encode()


def cosignatures(text: bytes, answer: bytes, verifier: Verifier) -> bytes:
    """The lines of a witness's answer that are this key's over this text; what others signed, or nobody, is left out."""
    found = [signature for name, key_id, signature in _signatures(answer) if (name, key_id) == (verifier.name, verifier.id)]
    return b"".join(signature_line(verifier, signature) for signature in found[:1] if verifier.verifies(text, signature))


def _signatures(lines: bytes) -> Iterable[tuple[str, bytes, bytes]]:
    """(name, key id, signature) of each line. Raises `NoteRefused` for a line that is none."""
    try:
        words = [line.split(" ") for line in lines.decode().removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        raise NoteRefused("is no signed note") from error
    for line in words:
        if len(line) != 3 or line[0] != "—" or len(decoded := _decode(line[2])) <= 4:
            raise NoteRefused("has a line that is no signature")
        yield line[1], decoded[:4], decoded[4:]


def _decode(text: str) -> bytes:
    """Standard base64; nothing for what is none."""
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and text == str(int(text[:20])) and len(text) < 20
