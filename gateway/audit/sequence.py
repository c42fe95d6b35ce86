"""Giving entries their places in the tree: a compare-and-set on its size and root, in the transaction that assigns the indexes.

Any replica may do it, and no lease or lock is needed for it to be right: of two at once the second finds another tree, and does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, delete, exists, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gateway.audit.merkle import Edge
from gateway.audit.models import AuditEntry, AuditLeaf, AuditPending, AuditTree
from gateway.database import Database

ONE_AT_A_TIME = 0x746C6F67
"""The number of PostgreSQL's advisory lock that saves others the work ("tlog" in ASCII)."""
MOST_AT_ONCE = 4_096
"""Entries of one transaction. Hashing them takes about ten milliseconds."""


class LogStopped(Exception):
    """What is published and what the database has are not one history: nothing more may be signed. The message says what is wrong."""


class Overtaken(Exception):
    """Another process has grown the tree meanwhile; nothing was written."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The tree as the database has it, and whether entries wait to get into it. `published`: a size that is known to be published."""

    size: int
    root: bytes
    edge: bytes
    published: int
    more: bool


def look(session: Session) -> Tree:
    waiting = exists(select(AuditPending.number)).label("more")
    row = session.execute(
        select(AuditTree.size, AuditTree.root, AuditTree.edge, AuditTree.published, waiting).where(AuditTree.id == 1)
    ).one()
    return Tree(row.size, row.root, row.edge, row.published, bool(row.more))


def sequence(database: Database, published: int, at_once: int = MOST_AT_ONCE) -> int:
    """Give the entries that wait their places, `at_once` at most, and return how many.

    `published` is the size of the checkpoint that was read. Raises `Overtaken`, `LogStopped`, `database_unavailable`.
    """
    try:
        with database.transaction() as session:
            if session.get_bind().dialect.name == "postgresql" and not session.scalar(
                select(func.pg_try_advisory_xact_lock(ONE_AT_A_TIME))
            ):
                return 0
            return _grow(session, look(session), published, at_once)
    except IntegrityError as error:  # the same index, at the same moment
        raise Overtaken from error


def _grow(session: Session, tree: Tree, published: int, at_once: int = MOST_AT_ONCE) -> int:
    if not tree.more:
        return 0
    waiting = select(AuditEntry.number, AuditEntry.leaf_hash).join(AuditPending, AuditPending.number == AuditEntry.number)
    first = waiting.order_by(AuditEntry.number).limit(at_once).subquery()
    index = literal(tree.size - 1, BigInteger) + func.row_number().over(order_by=first.c.number)
    session.execute(insert(AuditLeaf).from_select(["index", "number", "leaf_hash"], select(index, first.c.number, first.c.leaf_hash)))
    new = select(AuditLeaf).where(AuditLeaf.index >= tree.size)
    session.execute(delete(AuditPending).where(AuditPending.number.in_(new.with_only_columns(AuditLeaf.number))))
    added = session.scalars(new.with_only_columns(AuditLeaf.leaf_hash).order_by(AuditLeaf.index)).all()
    if not added:
        raise LogStopped("an entry that waited for its place in the log is gone from the database")
    edge = Edge.of(tree.size, tree.edge)
    edge.grow(added)
    grown = {"size": edge.size, "root": edge.root, "edge": edge.kept, "published": max(tree.published, published)}
    same = (AuditTree.id == 1, AuditTree.size == tree.size, AuditTree.root == tree.root)
    if session.execute(update(AuditTree).where(*same).values(**grown).returning(AuditTree.id)).first() is None:
        raise Overtaken
    return len(added)
