"""Taking what is published into a database that was restored from before: the leaves, without their entries, which are lost.

The log goes on with the history that others have seen; a second one is never signed.
"""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from gateway.audit.merkle import Edge, edge_of
from gateway.audit.models import AuditEntry, AuditLeaf, AuditPending, AuditTree
from gateway.audit.note import Verifier
from gateway.audit.publish import read_published
from gateway.audit.sequence import LogStopped, Tree, look
from gateway.audit.tiles import WIDTH, Tiles, TilesDamaged


def adopt(session: Session, tiles: Tiles, verifier: Verifier) -> int:
    """Take in what the database lacks of the published log, within the caller's transaction, and return how many leaves that is.

    Raises `LogStopped` if what is published is no continuation of what the database has: then somebody has rewritten a history.
    """
    published, tree = read_published(tiles, verifier), look(session)
    if published.size <= tree.size:
        return 0
    try:
        if edge_of(tree.size, tiles.nodes(published.size)).root != tree.root:
            raise LogStopped(f"what is published is no continuation of the {tree.size} entries that the database has")
        leaf_hashes = _leaf_hashes(tiles, tree.size, published.size)
    except TilesDamaged as error:
        raise LogStopped(f"what is published is damaged: {error}") from error
    edge = Edge.of(tree.size, tree.edge)
    edge.grow(leaf_hashes)
    if edge.root != published.edge.root:
        raise LogStopped("the published tiles do not lead to the published root")
    _take_in(session, tree, leaf_hashes)
    grown = {"size": edge.size, "root": edge.root, "edge": edge.kept, "published": edge.size}
    session.execute(update(AuditTree).where(AuditTree.id == 1).values(**grown))
    return len(leaf_hashes)


def _leaf_hashes(tiles: Tiles, first: int, after: int) -> list[bytes]:
    found: list[bytes] = []
    for number in range(first // WIDTH, -(-after // WIDTH)):
        hashes = tiles.hashes(0, number, min(WIDTH, after - number * WIDTH))
        found += hashes[max(0, first - number * WIDTH) :]
    return found


def _take_in(session: Session, tree: Tree, leaf_hashes: list[bytes]) -> None:
    """Entries that waited in the dump have got their places since: they keep them, and do not get another."""
    waiting = select(AuditEntry.leaf_hash, AuditEntry.number).join(AuditPending, AuditPending.number == AuditEntry.number)
    numbers: dict[bytes, int] = dict(session.execute(waiting).all())
    rows = [
        {"index": index, "number": numbers.get(leaf_hash), "leaf_hash": leaf_hash} for index, leaf_hash in enumerate(leaf_hashes, tree.size)
    ]
    session.execute(insert(AuditLeaf), rows)
    placed = [row["number"] for row in rows if row["number"] is not None]
    for at in range(0, len(placed), 1000):
        session.execute(delete(AuditPending).where(AuditPending.number.in_(placed[at : at + 1000])))
