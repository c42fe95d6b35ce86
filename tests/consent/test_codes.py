"""Withdrawal codes, as they are made and as people type them."""

from __future__ import annotations

import pytest

from consent.codes import hash_of, new_code

KEY = b"k" * 32


def test_codes_are_long_random_and_distinct() -> None:
    codes = {new_code() for _ in range(1000)}
    assert len(codes) == 1000
    assert all(len(code.replace("-", "")) == 33 for code in codes)
    assert len({sign for code in codes for sign in code[2:] if sign != "-"}) == 32


def test_a_code_is_found_however_it_was_typed() -> None:
    code = new_code()
    typed = [code.lower(), code.replace("-", ""), code.replace("-", " "), f"  {code}\n", code.replace("0", "o").replace("1", "l")]
    assert {hash_of(KEY, each) for each in typed} == {hash_of(KEY, code)}


def test_a_hash_tells_nothing_without_its_key() -> None:
    code = new_code()
    assert hash_of(KEY, code) != hash_of(b"l" * 32, code)


@pytest.mark.parametrize("code", ["", "W", "W-", "W-0000", "W" + "U" * 32, "X" + "0" * 32, "W" + "0" * 33, "Wé" + "0" * 31, "\x00" * 33])
def test_what_is_no_code_has_no_hash(code: str) -> None:
    assert hash_of(KEY, code) is None
