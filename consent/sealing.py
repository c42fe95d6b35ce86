"""Sealing: the personal fields of an event, encrypted under a key of its subject, so that they die with that key.

One key for each subject and dataset, wrapped under a key-encryption key that the database never sees. All encryption here is
AES-256-GCM (NIST SP 800-38D) with random nonces of 96 bits: a key seals fewer than 2^32 values.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import ForeignKey, LargeBinary, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from consent.models import Base, Subject
from consent.subjects import as_bytes, as_text

NONCE = 12
AT_ONCE = 500
"""Rows of one statement; SQLite's limit is on parameters."""


class SubjectKey(Base):
    """The key of one subject's sealed fields in one dataset, 32 random bytes, wrapped under the key-encryption key `kek_id`.

    It cannot outlive its subject, nor be made for one that is gone.
    """

    __tablename__ = "subject_keys"
    sref: Mapped[bytes] = mapped_column(LargeBinary, ForeignKey("subjects.sref", ondelete="CASCADE"), primary_key=True)
    dataset: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(unique=True)
    """Stands beside each value that it seals."""
    kek_id: Mapped[str]
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)


class KeyLost(Exception):
    """A subject's key cannot be unwrapped. The message names no person."""


class KeyAway(KeyLost):
    """A key-encryption key is not to be had. It may come back: what it wraps is not lost."""


class Broken(Exception):
    """A sealed value that its key does not open: it was changed, or stands where it was not sealed for."""


class KeyEncryptionKeys(Protocol):
    """The key-encryption keys, 32 bytes each, by identifier."""

    def current(self) -> tuple[str, bytes]:
        """The one that wraps what is new. Raises `KeyAway`."""
        ...

    def find(self, kek_id: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A subject's key, unwrapped. `id` stands beside what it seals."""

    id: str
    cipher: AESGCM = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many keys were wrapped anew, and how many could not be opened; `last` is where to go on, None at the end."""

    done: int
    lost: int
    last: str | None


def place_of(topic: str, pointer: str) -> bytes:
    """What a sealed value is bound to beside its key: the topic, and the field by JSON Pointer."""
    return _bound(topic.encode(), pointer.encode())


def seal(key: OpenedKey, place: bytes, value: bytes) -> dict[str, str]:
    """The stored form of a field's JSON: {sealed: key id, ct: base64url(nonce || ciphertext || tag)}."""
    nonce = secrets.token_bytes(NONCE)
    sealed = nonce + key.cipher.encrypt(nonce, value, place + key.id.encode())
    return {"sealed": key.id, "ct": urlsafe_b64encode(sealed).decode()}


def open_sealed(key: OpenedKey, place: bytes, stored: dict[str, str]) -> bytes:
    """The JSON that `seal` was given. Raises `Broken`."""
    try:
        sealed = urlsafe_b64decode(stored["ct"])
        return key.cipher.decrypt(sealed[:NONCE], sealed[NONCE:], place + key.id.encode())
    except (InvalidTag, ValueError) as error:
        raise Broken("a sealed value does not open") from error


def is_sealed(value: Any) -> bool:
    """True if a stored field has the form that `seal` gives."""
    return isinstance(value, dict) and value.keys() == {"sealed", "ct"} and all(isinstance(part, str) for part in value.values())


def keys_to_seal(session: Session, keks: KeyEncryptionKeys, dataset: str, srefs: Iterable[str]) -> dict[str, OpenedKey]:
    """The key of each subject in this dataset, made where there is none. A subject that was erased is left out. Raises `KeyLost`.

    Safe beside others who make the same, and beside erasure: the subject's row is held until the transaction ends.
    """
    wanted = set(srefs)
    known = {as_text(row.sref): _unwrap(keks, row) for row in _rows(session, dataset, wanted)}
    missing = sorted(as_bytes(sref) for sref in wanted - known.keys())
    if missing:
        kek_id, kek = keks.current()
        for group in _groups(missing):
            _make(session, kek_id, AESGCM(kek), dataset, group)
        known |= {as_text(row.sref): _unwrap(keks, row) for row in _rows(session, dataset, wanted - known.keys())}
    return known


def keys_to_open(session: Session, keks: KeyEncryptionKeys, dataset: str, srefs: Iterable[str]) -> dict[str, OpenedKey | None]:
    """The key of each subject in this dataset that has one; None while its key-encryption key is not to be had.

    One that its key-encryption key does not open is as good as gone, and left out.
    """
    found: dict[str, OpenedKey | None] = {}
    for row in _rows(session, dataset, set(srefs)):
        with suppress(KeyLost):
            try:
                found[as_text(row.sref)] = _unwrap(keks, row)
            except KeyAway:
                found[as_text(row.sref)] = None
    return found


def rewrap(session: Session, keks: KeyEncryptionKeys, after: str | None = None) -> Rewrapped:
    """Wrap the next keys that are not under the current key-encryption key under it. Raises `KeyLost` if there is none.

    `after` is the `last` of the call before. What is sealed stays as it is.
    """
    kek_id, kek = keks.current()
    old = select(SubjectKey).where(SubjectKey.kek_id != kek_id, SubjectKey.id > (after or ""))
    rows = session.execute(old.order_by(SubjectKey.id).limit(AT_ONCE).with_for_update()).scalars().all()
    lost = 0
    for row in rows:
        try:
            key = _unwrap_bytes(keks, row)
        except KeyLost:
            lost += 1
            continue
        row.wrapped, row.kek_id = _wrap(AESGCM(kek), kek_id, row.id, row.dataset, row.sref, key), kek_id
    session.flush()
    return Rewrapped(len(rows) - lost, lost, rows[-1].id if rows else None)


def give_up(session: Session, keks: KeyEncryptionKeys, after: str | None = None) -> Rewrapped:
    """Delete those of the next keys that nothing opens (`lost`): what they have sealed never opens again, and their subjects get new ones.

    `after` is the `last` of the call before. No other process may hold such a key opened.
    """
    rows = session.execute(select(SubjectKey).where(SubjectKey.id > (after or "")).order_by(SubjectKey.id).limit(AT_ONCE)).scalars().all()
    lost = 0
    for row in rows:
        try:
            _unwrap_bytes(keks, row)
        except KeyLost:
            session.delete(row)
            lost += 1
    session.flush()
    return Rewrapped(0, lost, rows[-1].id if rows else None)


def _make(session: Session, kek_id: str, kek: AESGCM, dataset: str, srefs: Sequence[bytes]) -> None:
    # Erasure waits for this lock, or we for it: then the row is gone, and no key is made for nobody.
    held = select(Subject.sref).where(Subject.sref.in_(srefs)).order_by(Subject.sref).with_for_update(read=True)
    rows = []
    for sref in session.execute(held).scalars():
        key_id, key = as_text(secrets.token_bytes(12)), secrets.token_bytes(32)
        wrapped = _wrap(kek, kek_id, key_id, dataset, sref, key)
        rows.append({"sref": sref, "dataset": dataset, "id": key_id, "kek_id": kek_id, "wrapped": wrapped})
    if rows:
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        session.execute(insert(SubjectKey).on_conflict_do_nothing(index_elements=["sref", "dataset"]), rows)


def _rows(session: Session, dataset: str, srefs: Iterable[str]) -> Iterator[SubjectKey]:
    for group in _groups(as_bytes(sref) for sref in srefs):
        yield from session.execute(select(SubjectKey).where(SubjectKey.dataset == dataset, SubjectKey.sref.in_(group))).scalars()


def _wrap(kek: AESGCM, kek_id: str, key_id: str, dataset: str, sref: bytes, key: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE)
    return nonce + kek.encrypt(nonce, key, _owner(kek_id, key_id, dataset, sref))


def _unwrap(keks: KeyEncryptionKeys, row: SubjectKey) -> OpenedKey:
    return OpenedKey(row.id, AESGCM(_unwrap_bytes(keks, row)))


def _unwrap_bytes(keks: KeyEncryptionKeys, row: SubjectKey) -> bytes:
    kek = keks.find(row.kek_id)
    if kek is None:
        raise KeyAway(f"there is no key-encryption key {row.kek_id}")
    try:
        return AESGCM(kek).decrypt(row.wrapped[:NONCE], row.wrapped[NONCE:], _owner(row.kek_id, row.id, row.dataset, row.sref))
    except (InvalidTag, ValueError) as error:
        raise KeyLost(f"the key-encryption key {row.kek_id} does not open the key {row.id}") from error


def _owner(kek_id: str, key_id: str, dataset: str, sref: bytes) -> bytes:
    """What a wrapped key is bound to, so that rows cannot be exchanged for one another."""
    return _bound(kek_id.encode(), key_id.encode(), dataset.encode(), sref)


def _bound(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _groups(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    remaining = iter(items)
    while group := list(islice(remaining, AT_ONCE)):
        yield group
