"""Cursors: opaque, bound to what they read, refused when made elsewhere."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import ExchangeError
from gateway.keys import SecretKey, b64, unb64
from gateway.streams.cursor import Cursor, Cursors

KEY = SecretKey("cursor-1", "cursor", secrets.token_bytes(32))
CURSOR = Cursor("con_1", "topic-1", {0: 4711, 3: 12}, turn=1)


def test_a_cursor_opens_to_the_position_that_it_was_sealed_from() -> None:
    cursors = Cursors(KEY)
    assert cursors.open(cursors.seal(CURSOR), "con_1") == CURSOR


def test_a_cursor_of_a_version_without_turns_still_opens() -> None:
    nonce, text, bound_to = bytes(12), b'["topic-1",[[0,4711],[3,12]],1763900000]', b"cursor-1\x00con_1"
    earlier = b64(b"\x08cursor-1" + nonce + AESGCM(KEY.value).encrypt(nonce, text, bound_to))
    assert Cursors(KEY).open(earlier, "con_1") == replace(CURSOR, turn=0)


def test_a_cursor_tells_nothing_of_its_offsets() -> None:
    cursors = Cursors(KEY)
    first, second = cursors.seal(CURSOR), cursors.seal(CURSOR)
    assert first != second
    assert b"4711" not in unb64(first)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "rubbish!",
        "é",
        "A" * 5000,
        b64(b"\x08cursor-1" + b"\0" * 40),
        b64(b"\xff"),
    ],
)
def test_a_forged_cursor_is_refused(text: str) -> None:
    with pytest.raises(ExchangeError) as refused:
        Cursors(KEY).open(text, "con_1")
    assert refused.value.code == "cursor_invalid"


def test_a_cursor_of_another_contract_or_another_key_is_refused() -> None:
    sealed = Cursors(KEY).seal(CURSOR)
    elsewhere = SecretKey("cursor-1", "cursor", secrets.token_bytes(32))
    for cursors, what in ((Cursors(KEY), "con_2"), (Cursors(elsewhere), "con_1")):
        with pytest.raises(ExchangeError):
            cursors.open(sealed, what)


def test_a_cursor_with_one_bit_changed_is_refused() -> None:
    raw = bytearray(unb64(Cursors(KEY).seal(CURSOR)))
    for place in range(len(raw)):
        raw[place] ^= 1
        with pytest.raises(ExchangeError):
            Cursors(KEY).open(b64(bytes(raw)), "con_1")
        raw[place] ^= 1
