"""Writing what is new in the log into its tiles: hashes of each level, and the leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.audit.merkle import whole_root
from gateway.audit.tiles import ENTRIES, LEVELS, WIDTH, Tiles, packed


def write_tiles(tiles: Tiles, size: int, leaves: Sequence[bytes], leaf_hashes: Sequence[bytes]) -> None:
    """Write the tiles of a tree of `size` leaves to which these come. Raises `TilesDamaged`, `OSError`.

    What is there already stays: who was interrupted, or came second, writes the same again.
    """
    _extend(size, leaves, tiles.leaves, lambda number, row: tiles.put_tile(ENTRIES, number, len(row), packed(row)))
    level, new = 0, leaf_hashes
    while new:
        new = _extend_level(tiles, level, size >> (LEVELS * level), new)
        level += 1


def _extend_level(tiles: Tiles, level: int, count: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Put hashes after the `count` that a level has, and return the roots of the tiles that are whole now: the next level's."""
    roots: list[bytes] = []

    def write(number: int, row: Sequence[bytes]) -> None:
        tiles.put_tile(level, number, len(row), b"".join(row))
        if len(row) == WIDTH:
            roots.append(whole_root(row))

    _extend(count, hashes, lambda number, width: tiles.hashes(level, number, width), write)
    return roots


def _extend(
    count: int,
    new: Sequence[bytes],
    read: Callable[[int, int], list[bytes]],
    write: Callable[[int, Sequence[bytes]], None],
) -> None:
    """Cut into tiles what follows on the `count` that are there; the first of them is that which was partial."""
    number, there = divmod(count, WIDTH)
    row = read(number, there) if there else []
    at = 0
    while at < len(new):
        taken = new[at : at + WIDTH - len(row)]
        write(number, [*row, *taken])
        at, number, row = at + len(taken), number + 1, []
