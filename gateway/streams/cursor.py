"""Cursors: a position in what is read, opaque to whoever holds it.

AES-256-GCM over {what is read, topic id, offset of the next record examined by partition, time, turn}, with the key's id in front, so
that offsets tell nothing and a cursor made elsewhere is refused. Text: base64url without padding.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import ExchangeError
from gateway.keys import SecretKey, b64, unb64

NONCE_BYTES = 12
LONGEST = 4096
"""The longest cursor in characters; over a thousand partitions fit."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader stands: `what` is a contract's identifier, an open dataset's slug, or an organization's feed.

    `turn` says which partition comes first: the next one each time, so that it is the same for a page that is read again.
    `sealed_at` is when the cursor was given, in seconds since 1970; 0 for one that was not given yet.
    """

    what: str
    topic_id: str
    offsets: Mapping[int, int]
    turn: int = 0
    sealed_at: int = field(default=0, compare=False)


class Cursors:
    """Seals and opens cursors with one key."""

    def __init__(self, key: SecretKey) -> None:
        self._key_id = key.id.encode()
        self._aead = AESGCM(key.value)

    def seal(self, cursor: Cursor) -> str:
        """The text of this cursor. Two seals of one position differ."""
        text = orjson.dumps([cursor.topic_id, [[p, o] for p, o in sorted(cursor.offsets.items())], int(time.time()), cursor.turn])
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, text, self._bound_to(cursor.what))
        return b64(bytes([len(self._key_id)]) + self._key_id + nonce + sealed)

    def open(self, text: str, what: str) -> Cursor:
        """The position in `text`, if it was sealed here for `what`. Raises `cursor_invalid`."""
        try:
            if len(text) > LONGEST:
                raise ValueError("too long")
            raw = unb64(text)
            after_id = 1 + raw[0]
            if raw[1:after_id] != self._key_id:
                raise ValueError("another key")
            nonce, sealed = raw[after_id : after_id + NONCE_BYTES], raw[after_id + NONCE_BYTES :]
            topic_id, offsets, sealed_at, *later = orjson.loads(self._aead.decrypt(nonce, sealed, self._bound_to(what)))
        except (ValueError, IndexError, InvalidTag) as error:
            raise ExchangeError("cursor_invalid") from error
        by_partition = {partition: offset for partition, offset in offsets}  # noqa: C416 - pairs are lists
        turn = later[0] if later else 0  # a cursor of an earlier version has none
        return Cursor(what, topic_id, by_partition, turn, sealed_at)

    def _bound_to(self, what: str) -> bytes:
        return self._key_id + b"\x00" + what.encode()
