"""Giving entries their places in the tree: a compare-and-set on its size and root, in the transaction that assigns the indexes.

Any replica may do it, and no lease or lock is needed for it to be right: of two at once the second finds another tree, and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import BigInteger, Integer, Select, Table, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

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


_LEAVES, _PENDING, _TREE, _ENTRIES = (cast(Table, model.__table__) for model in (AuditLeaf, AuditPending, AuditTree, AuditEntry))


# The statements are made once, of tables: making them anew costs more than the database takes for them.
def _look() -> Select[Any]:
    waiting = exists(select(_PENDING.c.number)).label("more")
    return select(_TREE.c.size, _TREE.c.root, _TREE.c.edge, _TREE.c.published, waiting).where(_TREE.c.id == 1)


def _place() -> ReturningInsert[Any]:
    waiting = select(_ENTRIES.c.number, _ENTRIES.c.leaf_hash).join(_PENDING, _PENDING.c.number == _ENTRIES.c.number)
    first = waiting.order_by(_ENTRIES.c.number).limit(bindparam("at_once", type_=Integer)).subquery()
    index = bindparam("last", type_=BigInteger) + func.row_number().over(order_by=first.c.number)
    placed = insert(_LEAVES).from_select(["index", "number", "leaf_hash"], select(index, first.c.number, first.c.leaf_hash))
    return placed.returning(_LEAVES.c.index, _LEAVES.c.leaf_hash)


_LOCK = select(func.pg_try_advisory_xact_lock(ONE_AT_A_TIME))
_LOOK = _look()
_PLACE = _place()
_FORGET = delete(_PENDING).where(_PENDING.c.number.in_(select(_LEAVES.c.number).where(_LEAVES.c.index >= bindparam("size"))))
_GONE = select(_PENDING.c.number).where(~exists().where(_ENTRIES.c.number == _PENDING.c.number)).limit(1)
_SAME = (_TREE.c.id == 1, _TREE.c.size == bindparam("old_size"), _TREE.c.root == bindparam("old_root"))
_SET = update(_TREE).where(*_SAME).returning(_TREE.c.id)


def look(session: Session) -> Tree:
    row = session.connection().execute(_LOOK).one()
    return Tree(row.size, row.root, row.edge, row.published, bool(row.more))


def sequence(database: Database, published: int, at_once: int = MOST_AT_ONCE, check: Callable[[Tree], object] | None = None) -> Tree:
    """Give the entries that wait their places, `at_once` at most, and return the tree with them; `more` if that was not enough.

    `published` is the size of the checkpoint that was read; `check` is called with the tree before anything is written, and may raise.
    The tree comes back as it was while another replica is at it. Raises `Overtaken`, `LogStopped`, `database_unavailable`.
    """
    try:
        with database.transaction() as session:
            alone = session.get_bind().dialect.name != "postgresql" or session.connection().execute(_LOCK).scalar()
            tree = look(session)
            if check is not None:
                check(tree)
            return _grow(session, tree, published, at_once) if alone else tree
    except IntegrityError as error:  # the same index, at the same moment
        raise Overtaken from error


def _grow(session: Session, tree: Tree, published: int, at_once: int = MOST_AT_ONCE) -> Tree:
    if not tree.more:
        return tree
    connection = session.connection()
    added = [leaf_hash for _, leaf_hash in sorted(connection.execute(_PLACE, {"last": tree.size - 1, "at_once": at_once}))]
    connection.execute(_FORGET, {"size": tree.size})
    if len(added) < at_once and connection.execute(_GONE).first() is not None:
        raise LogStopped("an entry that waited for its place in the log is gone from the database")
    edge = Edge.of(tree.size, tree.edge)
    edge.grow(added)
    grown = Tree(edge.size, edge.root, edge.kept, max(tree.published, published), len(added) == at_once)
    written = {"size": grown.size, "root": grown.root, "edge": grown.edge, "published": grown.published}
    if connection.execute(_SET, written | {"old_size": tree.size, "old_root": tree.root}).first() is None:
        raise Overtaken
    return grown
