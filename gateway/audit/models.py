"""The audit log, as stored: append-only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from gateway.database import Base

RowNumber = BigInteger().with_variant(Integer, "sqlite")


SEARCHED = ("actor", "organization", "dataset", "contract", "purpose")
PARTIES = ("provider", "consumer")
"""Who finds an entry besides its organization."""
COMMONEST = "release"
"""The kind that nearly all entries have: no index helps to find those, so none is kept for them while they are written."""


def _indexes() -> Iterator[Index]:
    """What is searched by, in the order in which pages go on: each by itself, and with a kind, for what either finds may be a million.

    The leaf hash is found by `AuditLeaf`: random bytes cost most to keep.
    """
    for names in ((), *((name,) for name in (*SEARCHED, *PARTIES))):
        there = [f"{name} IS NOT NULL" for name in names if name in PARTIES]
        if names:
            yield _index(names, there)
        yield _index(("kind", *names), [f"kind <> '{COMMONEST}'", *there])


def _index(names: tuple[str, ...], conditions: list[str]) -> Index:
    some = text(" AND ".join(conditions)) if conditions else None
    return Index("_".join(("ix_audit_entries", *names, "number")), *names, "number", postgresql_where=some, sqlite_where=some)


class AuditEntry(Base):
    """An entry: what it says, its salt, and the leaf that commits to both. Rows are inserted and never updated.

    `entry` is the canonical text (RFC 8785) without salt; the columns beside it are there to search by. `consumer` is empty where it is
    the organization itself, as in every release: one index less to keep for most of what is written.
    `opening` is the canonical text of grant, last positions and the second salt of `ranges`: for auditors and the provider only.
    """

    __tablename__ = "audit_entries"
    number: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str]
    actor: Mapped[str | None]
    organization: Mapped[str | None]
    provider: Mapped[str | None]
    consumer: Mapped[str | None]
    dataset: Mapped[str | None]
    contract: Mapped[str | None]
    purpose: Mapped[str | None]
    decision: Mapped[str | None] = mapped_column(index=True)
    entry: Mapped[bytes] = mapped_column(LargeBinary)
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    opening: Mapped[bytes | None] = mapped_column(LargeBinary)
    leaf: Mapped[bytes] = mapped_column(LargeBinary)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (*_indexes(),)


class AuditPending(Base):
    """An entry that has no place in the tree yet. Written with it: a number alone does not tell, for one may commit after the next."""

    __tablename__ = "audit_pending"
    number: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=False)


class AuditLeaf(Base):
    """A leaf's place in the tree. It stays when retention has deleted its entry; `number` is null where a restored database lacks that."""

    __tablename__ = "audit_leaves"
    index: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=False)
    number: Mapped[int | None] = mapped_column(RowNumber, index=True)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary, index=True)


class AuditTree(Base):
    """The one row that says how far the tree is. `edge`: the hashes of its whole subtrees, largest first (`gateway/audit/merkle.py`).

    `published` is a size that is known to have been published, 0 before the first.
    """

    __tablename__ = "audit_tree"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(BigInteger)
    root: Mapped[bytes] = mapped_column(LargeBinary)
    edge: Mapped[bytes] = mapped_column(LargeBinary)
    published: Mapped[int] = mapped_column(BigInteger)


class PublishedRange(Base):
    """Offsets that a publish entry names, so that what was appended without one can be found (`publish_recovered`)."""

    __tablename__ = "published_ranges"
    number: Mapped[int] = mapped_column(RowNumber, primary_key=True, autoincrement=True)
    topic_id: Mapped[str]
    partition: Mapped[int]
    first: Mapped[int] = mapped_column(BigInteger)
    next: Mapped[int] = mapped_column(BigInteger)
    """The offset after the last one named."""
    __table_args__ = (Index("ix_published_ranges_where", "topic_id", "partition", "first"),)
