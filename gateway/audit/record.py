"""An audit entry: its canonical bytes, the public leaf that commits to it, and the row that keeps both.

canonical entry   RFC 8785 of the entry without its salt; absent members are left out, null never stands there
commitment        SHA-256(salt || canonical entry)
leaf              RFC 8785 of {v, kind, at, commitment}: public, names nobody
leaf hash         SHA-256(0x00 || leaf), as in RFC 6962 section 2.1; what `Audit-Entry` carries

These bytes never change: `tests/audit/test_record.py` holds them by test vectors.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import CTE, ColumnElement, Connection, Engine, Pool, Table, bindparam, exists, func, insert, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from gateway.audit.models import AuditEntry, AuditPending
from gateway.audit.verify import BACK
from gateway.database import now, rfc3339
from gateway.errors import ExchangeError
from gateway.keys import b64

VERSION = 1
SALTS = 64
"""Bytes of an entry's two salts: that of its commitment, and that of the commitment to its ranges."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """What a release grants or a publish names. `grant`: partition -> (first offset, offset after the last one allowed);
    `last`: partition -> the last position that really left or was appended.
    """

    grant: Mapping[int, tuple[int, int]]
    last: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What happened, who did it and under what; identifiers only, never personal data.

    `kind`: decision, release, publish, publish_recovered, contract, consent, policy, client, key, ...
    `closed` is (events, bytes) delivered. `detail` has ASCII names. `provider` and `consumer` are organizations that may
    find the entry; they are not part of it.
    """

    kind: str
    action: str
    actor: str | None = None
    organization: str | None = None
    dataset: str | None = None
    contract: str | None = None
    purpose: str | None = None
    decision: str | None = None
    revision: str | None = None
    change: int | None = None
    ranges: Ranges | None = None
    closed: tuple[int, int] | None = None
    detail: Mapping[str, str] | None = None
    provider: str | None = None
    consumer: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the party to an entry holds against the log."""

    leaf_hash: bytes

    @property
    def header(self) -> str:
        """The value of `Audit-Entry`: a byte sequence in the manner of RFC 9530."""
        return f"sha-256=:{b64encode(self.leaf_hash).decode('ascii')}:"


class Sealed(NamedTuple):
    """An entry with its salt drawn: `entry` and `opening` are canonical text, `leaf` is public."""

    entry: bytes
    salt: bytes
    opening: bytes | None
    leaf: bytes
    leaf_hash: bytes


def record(session: Session, entry: Entry, beside: tuple[Table, Mapping[str, Any]] | None = None) -> Receipt:
    """Append the entry within the caller's transaction: what happened and its entry are durable together or not at all.

    `beside` is a row of a table that is added with it, on PostgreSQL in the same statement. Raises `audit_unavailable` if the log is
    further by now than its time may go back. On PostgreSQL the transaction ends in `database_unavailable` if it then idles.
    """
    at = next_instant(session.connection())
    sealed = seal(entry, rfc3339(at))
    connection, row = session.connection(), row_of(entry, at, sealed)
    if connection.dialect.name == "postgresql":
        statement = _ADD
        if beside is not None:
            statement = _beside(beside[0])
            row |= {f"{BESIDE}{name}": value for name, value in beside[1].items()}
        if connection.execute(statement, row | {"latest": at + BACK}).first() is None:
            forget_how_far(connection.engine)
            raise ExchangeError("audit_unavailable", headers={"Retry-After": "2"})
    else:
        if beside is not None:
            connection.execute(insert(beside[0]), beside[1])
        connection.execute(insert(_PENDING), {"number": connection.execute(_ADD_ONE, row).scalar_one()})
    return Receipt(sealed.leaf_hash)


_ENTRIES, _PENDING = cast(Table, AuditEntry.__table__), cast(Table, AuditPending.__table__)
HELD_BACK_MS = 1_500
"""For so long a transaction may do nothing after its entry; then PostgreSQL ends it. Its COMMIT may have been held back, and would put an
entry into the log that is older than `BACK` allows.
"""
LOOKED_BACK_AT = 16
"""Entries, the newest of which says how far the log is: of replicas that write at once, the last is not always the latest."""
BESIDE = "beside_"


def _values(table: Table, prefix: str = "") -> dict[str, ColumnElement[Any]]:
    """A parameter for each column but the number of an entry, of the column's type."""
    return {each.name: sql_cast(bindparam(f"{prefix}{each.name}", type_=each.type), each.type) for each in table.c if each.name != "number"}


def _added() -> CTE:
    """The entry, unless the newest are later than `latest`: what a network has held back comes when others have gone on."""
    newest = select(_ENTRIES.c.at).order_by(_ENTRIES.c.number.desc()).limit(LOOKED_BACK_AT).subquery()
    is_late = select(func.max(newest.c.at)).scalar_subquery() > bindparam("latest", type_=_ENTRIES.c.at.type)
    values = _values(_ENTRIES)
    entry = insert(_ENTRIES).from_select([*values], select(*values.values()).where(is_late.is_not(True)))
    return entry.returning(_ENTRIES.c.number).cte("added")


_ADD_ONE = insert(_ENTRIES).values({name: bindparam(name) for name in _values(_ENTRIES)}).returning(_ENTRIES.c.number)
_ADDED = _added()
_HURRY = func.set_config("idle_in_transaction_session_timeout", str(HELD_BACK_MS), True)  # of this transaction alone
_ADD = insert(_PENDING).from_select(["number"], select(_ADDED.c.number)).returning(_PENDING.c.number, _HURRY)
"""All in one statement: SQLite has none for that."""


@cache
def _beside(table: Table) -> ReturningInsert[Any]:
    values = _values(table, BESIDE)
    row = insert(table).from_select([*values], select(*values.values()).where(exists(select(_ADDED.c.number))))
    return _ADD.add_cte(row.cte("beside"))


def next_instant(connection: Connection) -> datetime:
    """This instant, or the newest entry's if the clock was set back: the log's time does not go back.

    The database is asked once: from then on this process knows what it has written itself.
    """
    pool = connection.engine.pool
    newest = _newest.get(pool) or connection.execute(_NEWEST).scalar()
    at = _newest[pool] = now() if newest is None else max(now(), newest)
    return at


def forget_how_far(engine: Engine) -> None:
    """The log is further than this process knew: it asks again before its next entry."""
    _newest.pop(engine.pool, None)


_NEWEST = select(_ENTRIES.c.at).order_by(_ENTRIES.c.number.desc()).limit(1)
_newest: WeakKeyDictionary[Pool, datetime] = WeakKeyDictionary()


def seal(entry: Entry, at: str, salts: bytes | None = None) -> Sealed:
    """The entry at the RFC 3339 time `at`. `salts` are its two, of 32 bytes each, drawn at random if not given."""
    salts = salts or secrets.token_bytes(SALTS)
    salt = salts[:32]
    members: dict[str, Any] = {
        "v": VERSION,
        "at": at,
        "kind": entry.kind,
        "action": entry.action,
        "actor": entry.actor,
        "organization": entry.organization,
        "dataset": entry.dataset,
        "contract": entry.contract,
        "purpose": entry.purpose,
        "decision": entry.decision,
        "revision": entry.revision,
        "change": entry.change,
        "detail": entry.detail,
    }
    if None in members.values():
        members = {name: value for name, value in members.items() if value is not None}
    if entry.closed is not None:
        members["closed"] = {"events": entry.closed[0], "bytes": entry.closed[1]}
    opening = None
    if entry.ranges is not None:
        members["ranges"], opening = _commit_to_ranges(entry.ranges, salts[32:])
    text = canonical(members)
    before, after = _around_commitment(entry.kind, at)
    leaf = b"%b%b%b" % (before, b64(sha256(salt + text).digest()).encode(), after)
    return Sealed(text, salt, opening, leaf, sha256(b"\0" + leaf).digest())


@lru_cache(maxsize=64)
def _around_commitment(kind: str, at: str) -> tuple[bytes, bytes]:
    """The canonical leaf before and after its commitment: the same for all of a batch."""
    before, name, after = canonical({"v": VERSION, "kind": kind, "at": at, "commitment": ""}).partition(b'"commitment":"')
    return before + name, after


def _commit_to_ranges(ranges: Ranges, salt: bytes) -> tuple[str, bytes]:
    positions = {
        "grant": {str(partition): span for partition, span in ranges.grant.items()},
        "last": {str(partition): position for partition, position in ranges.last.items()},
    }
    text = canonical(positions)
    # `salt` sorts behind the others, so this is canonical too.
    return b64(sha256(salt + text).digest()), text[:-1] + b',"salt":"%s"}' % b64(salt).encode()


def canonical(document: Mapping[str, Any]) -> bytes:
    """RFC 8785 for what entries are made of: ASCII names, strings, integers below 2**53.

    There `orjson` with sorted keys writes the same bytes as the `rfc8785` library, many times faster; a test compares them.
    """
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def row_of(entry: Entry, at: datetime, sealed: Sealed) -> dict[str, Any]:
    """The columns of `AuditEntry`."""
    return {
        "at": at,
        "kind": entry.kind,
        "actor": entry.actor,
        "organization": entry.organization,
        "provider": entry.provider,
        "consumer": entry.consumer if entry.consumer != entry.organization else None,
        "dataset": entry.dataset,
        "contract": entry.contract,
        "purpose": entry.purpose,
        "decision": entry.decision,
        "entry": sealed.entry,
        "salt": sealed.salt,
        "opening": sealed.opening,
        "leaf": sealed.leaf,
        "leaf_hash": sealed.leaf_hash,
    }
