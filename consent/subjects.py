"""Subjects: from a person's identifier to an `sref`, minted at first sight, without keeping the identifier.

An identifier is normalised by the scheme of its dataset and looked up by a keyed hash, one for each provider: two
providers cannot find out that they know the same person, and who steals the table without the key learns nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from consent.models import Subject

SCHEMES = frozenset({"opaque", "email", "e164"})
LONGEST = 512
"""Characters of an identifier."""
_URLSAFE = bytes.maketrans(b"+/", b"-_")
E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
AT_ONCE = 500
"""Rows of one statement; SQLite's limit is on parameters."""


def normalise(scheme: str, identifier: str) -> str:
    """One spelling for one person. Raises `ValueError`, which never shows the identifier.

    opaque: Unicode NFC without space around it; email: that in lower case; e164: a plus and digits, as in ITU-T E.164,
    from a number written with spaces, dots, hyphens or brackets.
    """
    text = unicodedata.normalize("NFC", identifier).strip()
    if scheme == "email":
        text = unicodedata.normalize("NFC", text.lower())
        local, _, domain = text.rpartition("@")
        if not local or not domain or any(character.isspace() for character in text):
            raise ValueError("is not an e-mail address")
    elif scheme == "e164":
        text = re.sub(r"[\s().-]", "", text)
        if not E164.fullmatch(text):
            raise ValueError("is not a telephone number as in E.164, for example +19055550123")
    elif scheme != "opaque":
        raise ValueError("is of a scheme that the exchange does not know")
    if not text or len(text) > LONGEST:
        raise ValueError(f"must have 1 to {LONGEST} characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not Unicode text") from None
    return text


def lookup_of(index_key: bytes, provider: str, scheme: str, identifier: str) -> bytes:
    """HMAC-SHA-256 over provider, scheme and normalised identifier, each with its length before it. Raises `ValueError`."""
    parts = [part.encode() for part in (provider, scheme, normalise(scheme, identifier))]
    return hmac.digest(index_key, b"".join(len(part).to_bytes(8, "big") + part for part in parts), hashlib.sha256)


def srefs_of(
    session: Session,
    index_key_id: str,
    index_key: bytes,
    provider: str,
    scheme: str,
    identifiers: Iterable[str],
    *,
    hold: bool = False,
) -> dict[str, str]:
    """The `sref` (16 bytes, base64url, 22 characters) of each identifier; who is new gets one. Raises `ValueError`.

    Safe beside others who mint the same: the unique index decides, and all read what it kept. With `hold`, nobody is erased until
    the transaction ends, so that what it says of them is said of somebody.
    """
    lookups = {identifier: lookup_of(index_key, provider, scheme, identifier) for identifier in identifiers}
    known = _known(session, index_key_id, lookups.values(), hold=hold)
    # Sorted, so that two transactions wait for each other in one order only.
    missing = sorted(set(lookups.values()) - known.keys())
    if missing:
        for group in _groups(missing):
            _mint(session, index_key_id, provider, group)
        known |= _known(session, index_key_id, missing, hold=hold)
    return {identifier: known[lookup] for identifier, lookup in lookups.items()}


def sref_of(
    session: Session,
    index_key_id: str,
    index_key: bytes,
    provider: str,
    scheme: str,
    identifier: str,
) -> str:
    """The `sref` of one identifier, minted if it is new; they are not erased until the transaction ends. Raises `ValueError`."""
    return srefs_of(session, index_key_id, index_key, provider, scheme, [identifier], hold=True)[identifier]


def find(
    session: Session,
    index_key_id: str,
    index_key: bytes,
    provider: str,
    scheme: str,
    identifier: str,
) -> str | None:
    """The `sref` of an identifier, or None if it was never seen. Raises `ValueError`."""
    lookup = lookup_of(index_key, provider, scheme, identifier)
    return _known(session, index_key_id, [lookup]).get(lookup)


def secrets_of(session: Session, srefs: Iterable[str]) -> dict[str, bytes]:
    """The 32 bytes from which pseudonyms are made, for each `sref` that exists."""
    found: dict[str, bytes] = {}
    for group in _groups({as_bytes(sref) for sref in srefs}):
        rows = session.execute(select(Subject.sref, Subject.secret).where(Subject.sref.in_(group)))
        found |= {as_text(sref): secret for sref, secret in rows}
    return found


def as_text(sref: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    # Told of a million people when a gateway starts: `urlsafe_b64encode` and `rstrip` take three times as long.
    return b2a_base64(sref, newline=False).translate(_URLSAFE, b"=").decode("ascii")


def as_bytes(sref: str) -> bytes:
    """The inverse of `as_text`. Raises `ValueError`."""
    return urlsafe_b64decode(sref + "=" * (-len(sref) % 4))


def _known(session: Session, index_key_id: str, lookups: Iterable[bytes], *, hold: bool = False) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for group in _groups(lookups):
        named = select(Subject.lookup, Subject.sref).where(Subject.lookup_key_id == index_key_id, Subject.lookup.in_(group))
        rows = session.execute(named.with_for_update(read=True) if hold else named)
        found |= {lookup: as_text(sref) for lookup, sref in rows}
    return found


def _mint(session: Session, index_key_id: str, provider: str, lookups: Sequence[bytes]) -> None:
    rows = [
        {
            "sref": secrets.token_bytes(16),
            "provider": provider,
            "lookup": lookup,
            "lookup_key_id": index_key_id,
            "secret": secrets.token_bytes(32),
        }
        for lookup in lookups
    ]
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(insert(Subject).on_conflict_do_nothing(index_elements=["lookup", "lookup_key_id"]), rows)


def _groups(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    remaining = iter(items)
    while group := list(islice(remaining, AT_ONCE)):
        yield group
