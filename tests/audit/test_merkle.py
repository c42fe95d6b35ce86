"""The tree against RFC 6962 section 2.1, written down a second time as it stands there."""

from __future__ import annotations

from hashlib import sha256

import pytest

from gateway.audit.merkle import EMPTY, Edge, consistency_proof, edge_of, inclusion_proof, leaf_hash, whole_root

LEAVES = [leaf_hash(bytes([n])) for n in range(70)]


def split(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:  # noqa: FBT001 - the RFC's b
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def node(level: int, index: int) -> bytes:
    return whole_root(LEAVES[index << level : (index + 1) << level])


def test_an_edge_that_grows_has_the_root_of_its_leaves_at_every_size() -> None:
    edge = Edge()
    assert edge.root == EMPTY == mth([])
    for size in range(1, len(LEAVES) + 1):
        edge.grow(LEAVES[size - 1 : size])
        assert edge.root == mth(LEAVES[:size])
        assert Edge.of(size, edge.kept) == edge == edge_of(size, node)


def test_an_edge_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="another size"):
        Edge.of(3, bytes(32))


@pytest.mark.parametrize("size", range(1, len(LEAVES) + 1))
def test_proofs_are_those_of_the_rfc(size: int) -> None:
    for index in range(size):
        assert inclusion_proof(index, size, node) == path(index, LEAVES[:size])
    for old in range(1, size + 1):
        assert consistency_proof(old, size, node) == subproof(old, LEAVES[:size], True)
    assert consistency_proof(0, size, node) == []
