"""Publishing the log: what is published already is held against the database, then tiles are written, then a checkpoint is signed.

A log that signed two histories would be worth nothing, so nothing is signed over a doubt: what is wrong is raised, and waits for people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from gateway.audit.grow import write_tiles
from gateway.audit.merkle import Edge, edge_of, leaf_hash
from gateway.audit.models import AuditEntry, AuditLeaf
from gateway.audit.note import Checkpoint, NoteRefused, Signer, Verifier
from gateway.audit.sequence import LogStopped, Tree
from gateway.audit.tiles import Tiles, TilesDamaged
from gateway.database import Database

MOST_AT_ONCE = 8_192
"""Leaves that are in memory together."""


@dataclass(frozen=True, slots=True)
class Published:
    """What readers see: the checkpoint, None before the first, and the right edge of its tree as the tiles have it."""

    checkpoint: Checkpoint | None
    edge: Edge

    @property
    def size(self) -> int:
        return self.edge.size


def read_published(tiles: Tiles, verifier: Verifier) -> Published:
    """What is published, of one piece. Raises `LogStopped`."""
    note = tiles.checkpoint()
    if note is None:
        return Published(None, Edge())
    try:
        checkpoint = Checkpoint.parse(note)
        if checkpoint.origin != verifier.name:
            raise LogStopped(f"the published checkpoint is of {checkpoint.origin}, this log is {verifier.name}")
        if not checkpoint.signed_by(verifier):
            raise LogStopped("the published checkpoint is not signed by this log's key")
        edge = edge_of(checkpoint.size, tiles.nodes(checkpoint.size))
    except (NoteRefused, TilesDamaged) as error:
        raise LogStopped(f"what is published is damaged: {error}") from error
    if edge.root != checkpoint.root:
        raise LogStopped(f"the published tiles are not those of the checkpoint of size {checkpoint.size}")
    return Published(checkpoint, edge)


def hold_against(published: Published, tree: Tree) -> None:
    """Raises `LogStopped` if the database's tree cannot be what is published, or a continuation of it. `publish` looks at the leaves."""
    if published.checkpoint is None and tree.published:
        raise LogStopped(f"{tree.published} entries were published, and the directory has no checkpoint: bring the directory back")
    if published.size > tree.size:
        raise LogStopped(f"{published.size} entries are published and the database has {tree.size} of them: it went back")
    if published.size == tree.size and published.edge.root != tree.root:
        raise LogStopped(f"at size {tree.size} the published root and the database's are not the same")


def publish(
    database: Database, tiles: Tiles, published: Published, tree: Tree, signer: Signer, cosigned: Callable[[Checkpoint], Checkpoint]
) -> Checkpoint:
    """Write the tiles of what is new in the tree, then its checkpoint. Raises `LogStopped`, `OSError`.

    `cosigned` gives a checkpoint with what witnesses say to it.
    """
    edge = Edge(published.size, list(published.edge.hashes))
    try:
        while edge.size < tree.size:
            after = min(tree.size, edge.size + MOST_AT_ONCE)
            leaves, hashes = _read_leaves(database, edge.size, after)
            write_tiles(tiles, edge.size, leaves, hashes)
            edge.grow(hashes)
    except TilesDamaged as error:
        raise LogStopped(f"the tiles do not go on as the database does: {error}") from error
    if edge.root != tree.root:
        raise LogStopped(f"the database's leaves do not lead from the published size {published.size} to its root of size {tree.size}")
    checkpoint = cosigned(Checkpoint.parse(signer.sign(tree.size, tree.root)))
    tiles.publish(checkpoint.note)
    return checkpoint


_BETWEEN = (
    select(AuditLeaf.index, AuditLeaf.leaf_hash, AuditEntry.leaf)
    .join_from(AuditLeaf, AuditEntry, AuditLeaf.number == AuditEntry.number)
    .where(AuditLeaf.index >= bindparam("first"), AuditLeaf.index < bindparam("after"))
    .order_by(AuditLeaf.index)
)


def _read_leaves(database: Database, first: int, after: int) -> tuple[list[bytes], list[bytes]]:
    """The leaves of these indexes and their hashes. Raises `LogStopped` if any is missing, or another than its place says."""
    with database.reading() as session:
        rows = session.connection().execute(_BETWEEN, {"first": first, "after": after}).all()
    for place, (index, digest, leaf) in enumerate(rows, first):
        if index != place:
            raise LogStopped(f"the database lacks the entry of index {place}, which is not published yet")
        if leaf_hash(leaf) != digest:
            raise LogStopped(f"the entry of index {place} is not the one that the tree has there")
    if len(rows) != after - first:
        raise LogStopped(f"the database lacks the entry of index {first + len(rows)}, which is not published yet")
    return [leaf for _, _, leaf in rows], [digest for _, digest, _ in rows]
