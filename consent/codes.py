"""Withdrawal codes: whoever holds one can withdraw one consent, without an account, and nothing else.

A code is 160 random bits. Only a keyed hash of it is stored, so that who steals the table can withdraw nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b32encode

_ALPHABET = str.maketrans("OIL", "011")
"""What people read for another sign: Crockford's base 32 has neither O, I nor L."""
_CROCKFORD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_CODE = re.compile(r"W[0-9A-HJKMNP-TV-Z]{32}", re.ASCII)
LONGEST = 100
"""Characters in which a code may be written, with spaces and hyphens."""


def new_code() -> str:
    """`W-XXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXXX-XXXX`, to be read from paper too."""
    text = b32encode(secrets.token_bytes(20)).decode("ascii").translate(_CROCKFORD)
    return "-".join(["W", *(text[place : place + 4] for place in range(0, 32, 4))])


def hash_of(key: bytes, code: str) -> bytes | None:
    """HMAC-SHA-256 of a code as a person may have typed it; None for what is no code."""
    text = re.sub(r"[\s-]", "", code).upper().translate(_ALPHABET)
    return hmac.digest(key, b"withdrawal" + text.encode(), hashlib.sha256) if _CODE.fullmatch(text) else None
