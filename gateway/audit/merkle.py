"""The Merkle tree of RFC 6962 section 2.1: hashes, the right edge of a growing tree, and proofs from its nodes.

A *node* (level, index) is the hash of the 2**level leaves from index * 2**level on, all of which are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

HASH = 32
EMPTY = sha256(b"").digest()
"""The root of a tree without leaves."""

Node = Callable[[int, int], bytes]


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


@dataclass(slots=True)
class Edge:
    """What a tree needs to grow: the hashes of the whole subtrees that it consists of, largest first; one for each bit of `size`."""

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, size: int, kept: bytes) -> Edge:
        """From what `kept` gave. Raises `ValueError` if that is of another size."""
        if len(kept) != HASH * size.bit_count():
            raise ValueError("the right edge has another size")
        return cls(size, [kept[at : at + HASH] for at in range(0, len(kept), HASH)])

    @property
    def kept(self) -> bytes:
        return b"".join(self.hashes)

    def grow(self, leaf_hashes: Iterable[bytes]) -> None:
        size, hashes = self.size, self.hashes
        for added in leaf_hashes:
            whole, rest = added, size
            while rest & 1:
                whole = sha256(b"\1" + hashes.pop() + whole).digest()
                rest >>= 1
            hashes.append(whole)
            size += 1
        self.size = size

    @property
    def root(self) -> bytes:
        return _fold(self.hashes) if self.hashes else EMPTY


def whole_root(hashes: Sequence[bytes]) -> bytes:
    """The root over hashes whose number is a power of two."""
    row = hashes
    while len(row) > 1:
        row = [sha256(b"\1" + row[at] + row[at + 1]).digest() for at in range(0, len(row), 2)]
    return row[0]


def edge_of(size: int, node: Node) -> Edge:
    """The right edge of the tree of the first `size` leaves."""
    return Edge(size, _whole_subtrees(0, size, node))


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """The audit path (RFC 6962 section 2.1.1) of a leaf in the tree of the first `size`, from the leaf's sibling up."""
    first, after = 0, size
    path: list[bytes] = []
    while after - first > 1:
        middle = first + _split(after - first)
        if index < middle:
            path.append(_root(middle, after, node))
            after = middle
        else:
            path.append(_root(first, middle, node))
            first = middle
    return path[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """The proof (RFC 6962 section 2.1.2) that the tree of `new` leaves begins with that of `old`. Empty for 0, and for the same tree."""
    if old in {0, new}:
        return []
    first, after = 0, new
    proof: list[bytes] = []
    while old != after:
        middle = first + _split(after - first)
        if old <= middle:
            proof.append(_root(middle, after, node))
            after = middle
        else:
            proof.append(_root(first, middle, node))
            first = middle
    if first:
        proof.append(_root(first, after, node))
    return proof[::-1]


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return int(1 << ((count - 1).bit_length() - 1))


def _root(first: int, after: int, node: Node) -> bytes:
    return _fold(_whole_subtrees(first, after, node))


def _fold(hashes: Sequence[bytes]) -> bytes:
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def _whole_subtrees(first: int, after: int, node: Node) -> list[bytes]:
    """The whole subtrees, largest first, of leaves that begin where the largest of them may."""
    hashes = []
    while first < after:
        level = (after - first).bit_length() - 1
        hashes.append(node(level, first >> level))
        first += 1 << level
    return hashes
