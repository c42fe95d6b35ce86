"""That an entry is in the log, and that a log continues another: proofs from the published tiles (RFC 6962, C2SP tlog-proof)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.audit.merkle import consistency_proof, inclusion_proof
from gateway.audit.merkle import leaf_hash as hash_of
from gateway.audit.note import Checkpoint, NoteRefused
from gateway.audit.tiles import WIDTH, Tiles, TilesDamaged
from gateway.errors import ExchangeError
from gateway.keys import b64

TEXT = "text/plain"
"""The media type of a tlog-proof."""


@dataclass(frozen=True, slots=True)
class Inclusion:
    """A leaf of the checkpoint's tree, and its audit path from its sibling up."""

    index: int
    leaf: bytes
    path: Sequence[bytes]
    checkpoint: Checkpoint

    def document(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "leaf_hash": b64(hash_of(self.leaf)),
            "leaf": self.leaf.decode(),
            "proof": shown(self.path),
            "checkpoint": self.checkpoint.note.decode(),
        }

    def text(self) -> bytes:
        """In the form of C2SP tlog-proof."""
        lines = ["c2sp.org/tlog-proof@v1", f"index {self.index}", *shown(self.path), "", ""]
        return "\n".join(lines).encode() + self.checkpoint.note


def newest(tiles: Tiles) -> Checkpoint | None:
    """The published checkpoint; None before the first. Raises `audit_unavailable` if what is published is none."""
    note = tiles.checkpoint()
    try:
        return Checkpoint.parse(note) if note is not None else None
    except NoteRefused as error:
        raise ExchangeError("audit_unavailable", "What is published of the audit log is damaged.") from error


def path_of(tiles: Tiles, checkpoint: Checkpoint, index: int) -> list[bytes]:
    """The audit path of a leaf of its tree. Raises `audit_unavailable` if the tiles are not whole."""
    try:
        return inclusion_proof(index, checkpoint.size, tiles.nodes(checkpoint.size))
    except TilesDamaged as error:
        raise ExchangeError("audit_unavailable", "What is published of the audit log is damaged.") from error


def prove(tiles: Tiles, checkpoint: Checkpoint, index: int) -> Inclusion:
    """Of a leaf of the checkpoint's tree. Raises as `path_of`."""
    path = path_of(tiles, checkpoint, index)
    number, place = divmod(index, WIDTH)
    try:
        leaves = tiles.leaves(number, min(WIDTH, checkpoint.size - number * WIDTH))
    except TilesDamaged as error:
        raise ExchangeError("audit_unavailable", "What is published of the audit log is damaged.") from error
    return Inclusion(index, leaves[place], path, checkpoint)


def prove_consistency(tiles: Tiles, checkpoint: Checkpoint, old: int, new: int) -> list[bytes]:
    """That the tree of `new` leaves, at most the checkpoint's, begins with that of `old`. Raises as `path_of`."""
    try:
        return consistency_proof(old, new, tiles.nodes(checkpoint.size))
    except TilesDamaged as error:
        raise ExchangeError("audit_unavailable", "What is published of the audit log is damaged.") from error


def shown(hashes: Sequence[bytes]) -> list[str]:
    """In standard base64, as C2SP's formats have hashes."""
    return [b64encode(each).decode("ascii") for each in hashes]
