"""The published log: C2SP tlog-tiles as files in a directory. A plain web server could serve them.

checkpoint                       the signed tree head, replaced at each publication, last of all
tile/<L>/<N>[.p/<W>]             hashes: 256 of them, or W at the right edge
tile/entries/<N>[.p/<W>]         the leaves, each with its length in two bytes before it

A file is written under another name, flushed to the disk and renamed; but for the checkpoint none is ever changed. Partial tiles go
when the whole one is there. Replicas share the directory.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from gateway.audit.merkle import HASH, Node, whole_root

WIDTH = 256
LEVELS = 8
"""Levels of the tree in one tile: 256 is 2**8."""
ENTRIES = "entries"
TILE = re.compile(r"(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
"""What a tile's path may be (tlog-tiles, "Merkle Tree")."""
KEPT_TILES = 64


class TilesDamaged(Exception):
    """The directory lacks, or has otherwise, what its checkpoint says that it has."""


def tile_path(level: int | str, number: int, width: int = WIDTH) -> str:
    """`tile/0/x001/x234/067.p/5`; without the end for a whole tile."""
    groups = [f"{number % 1000:03}"]
    while number := number // 1000:
        groups.append(f"x{number % 1000:03}")
    partial = f".p/{width}" if width < WIDTH else ""
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def parse_tile_path(text: str) -> tuple[int | str, int, int] | None:
    """(level, number, width) of a path without its `tile/`; None for what is no tile's."""
    found = TILE.fullmatch(text)
    if found is None:
        return None
    level, groups, partial = found.groups()
    named = (ENTRIES if level == ENTRIES else int(level), int(groups.replace("x", "").replace("/", "")), int(partial or WIDTH))
    return named if tile_path(*named) == f"tile/{text}" else None


class Tiles:
    """The directory. Threads may share it, and so may replicas."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unflushed: set[Path] = set()
        self._whole = lru_cache(maxsize=KEPT_TILES)(self._rows_of_whole)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """True for the one that may publish now: nobody waits for who is at it, or has been stopped amid."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True

    def checkpoint(self) -> bytes | None:
        return self.read("checkpoint")

    def publish(self, checkpoint: bytes) -> None:
        """Replace the checkpoint, once the names of all tiles before it are on the disk. Raises `OSError`."""
        self._flush()
        self._write("checkpoint", checkpoint)
        self._flush()

    def read(self, path: str) -> bytes | None:
        """A file of the log; None if it is not there."""
        try:
            return (self.folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_tile(self, level: int | str, number: int, width: int) -> bytes | None:
        """A tile of this width; of a wider one, where that has taken its place, the beginning."""
        exact = self.read(tile_path(level, number, width))
        if exact is not None or width == WIDTH:
            return exact
        wider = self.read(tile_path(level, number))
        if wider is None:
            return None
        return first_leaves(wider, width) if level == ENTRIES else wider[: width * HASH]

    def put_tile(self, level: int | str, number: int, width: int, content: bytes) -> None:
        """Write a tile, once. Raises `TilesDamaged` if there is another of its name."""
        path = tile_path(level, number, width)
        there = self.read(path)
        if there is not None and there != content:
            raise TilesDamaged(f"{path} is there already, and is another")
        if there is None:
            self._write(path, content)
        if width == WIDTH:
            shutil.rmtree(self.folder / f"{path}.p", ignore_errors=True)

    def nodes(self, size: int) -> Node:
        """The nodes of the tree of `size` leaves, which are published; a tile at its edge is read once. It raises `TilesDamaged`."""
        partial = lru_cache(self.hashes)

        def node(level: int, index: int) -> bytes:
            tile_level, row = divmod(level, LEVELS)
            at = index << row
            number = at // WIDTH
            width = min(WIDTH, (size >> (LEVELS * tile_level)) - number * WIDTH)
            place = (at % WIDTH) >> row
            if width == WIDTH:
                return self._whole(tile_level, number)[row][place]
            return whole_root(partial(tile_level, number, width)[place << row : (place + 1) << row])

        return node

    def hashes(self, level: int, number: int, width: int) -> list[bytes]:
        """Those of a tile. Raises `TilesDamaged` if they are not all there."""
        content = self.read_tile(level, number, width)
        if content is None or len(content) != width * HASH:
            raise TilesDamaged(f"{tile_path(level, number, width)} is missing, or of another size")
        return [content[at : at + HASH] for at in range(0, len(content), HASH)]

    def leaves(self, number: int, width: int) -> list[bytes]:
        """The leaves of a bundle. Raises `TilesDamaged`."""
        content = self.read_tile(ENTRIES, number, width)
        found = [] if content is None else unpacked(content)
        if len(found) != width:
            raise TilesDamaged(f"{tile_path(ENTRIES, number, width)} is missing, or of another size")
        return found

    def _rows_of_whole(self, level: int, number: int) -> list[list[bytes]]:
        rows = [self.hashes(level, number, WIDTH)]
        while len(rows[-1]) > 1:
            below = rows[-1]
            rows.append([sha256(b"\1" + below[at] + below[at + 1]).digest() for at in range(0, len(below), 2)])
        return rows

    def _write(self, path: str, content: bytes) -> None:
        """Raises `OSError`."""
        place = self.folder / path
        partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        try:
            try:
                file = partial.open("xb")
            except FileNotFoundError:
                place.parent.mkdir(parents=True, exist_ok=True)
                file = partial.open("xb")
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(place)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._unflushed.add(place.parent)

    def _flush(self) -> None:
        while self._unflushed:
            descriptor = os.open(self._unflushed.pop(), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def packed(leaves: Sequence[bytes]) -> bytes:
    """An entry bundle (tlog-tiles, "Log entries")."""
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def unpacked(bundle: bytes) -> list[bytes]:
    """The leaves of a bundle; an incomplete one at its end is left out."""
    leaves, at = [], 0
    while at + 2 <= len(bundle):
        after = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if after > len(bundle):
            break
        leaves.append(bundle[at + 2 : after])
        at = after
    return leaves


def first_leaves(bundle: bytes, count: int) -> bytes:
    return packed(unpacked(bundle)[:count])
