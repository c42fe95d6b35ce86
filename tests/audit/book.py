"""A log built by hand, from entries that the exchange would write: folder of tiles, checkpoint, entries with salts."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.record import Entry, Ranges, Sealed, seal
from gateway.database import rfc3339
from gateway.keys import b64

ORIGIN = "exchange.test/audit"
BEGAN = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


class Signer:
    """An Ed25519 key with a name; `witness` makes it cosign (tlog-cosignature)."""

    def __init__(self, name: str = ORIGIN, *, witness: bool = False) -> None:
        self.name, self.witness = name, witness
        self._key = Ed25519PrivateKey.generate()
        packed = (b"\4" if witness else b"\1") + self._key.public_key().public_bytes_raw()
        self._id = sha256(name.encode() + b"\n" + packed).digest()[:4]
        self.vkey = f"{name}+{self._id.hex()}+{b64encode(packed).decode()}"

    def line(self, body: str) -> str:
        """The signature of this body, as a line of a note."""
        stamp = int(BEGAN.timestamp())
        said = f"cosignature/v1\ntime {stamp}\n{body}" if self.witness else body
        signature = (stamp.to_bytes(8) if self.witness else b"") + self._key.sign(said.encode())
        return f"\N{EM DASH} {self.name} {b64encode(self._id + signature).decode()}\n"


@dataclass(slots=True)
class Line:
    """One entry of the book, with the leaf that stands in the log for it."""

    sealed: Sealed
    leaf: bytes
    shown: bool = True

    @property
    def hash(self) -> bytes:
        return sha256(b"\0" + self.leaf).digest()

    def told(self, index: int, **more: Any) -> bytes:
        """The line of `entries.jsonl`."""
        opening = {"opening": orjson.loads(self.sealed.opening)} if self.sealed.opening else {}
        head = orjson.dumps({"index": index, "salt": b64(self.sealed.salt)} | opening | more)
        return head[:-1] + b',"entry":' + self.sealed.entry + b"}\n"


@dataclass(slots=True)
class Book:
    """Entries in order. `write` makes the folder that `verify.py` reads."""

    lines: list[Line] = field(default_factory=list)
    signer: Signer = field(default_factory=Signer)
    witnesses: Sequence[Signer] = ()
    at: datetime = BEGAN

    def add(self, entry: Entry, *, after: float = 0.001) -> Line:
        """One entry more, so many seconds after the last."""
        self.at += timedelta(seconds=after)
        sealed = seal(entry, rfc3339(self.at))
        line = Line(sealed, sealed.leaf)
        self.lines.append(line)
        return line

    def note(self, size: int | None = None) -> str:
        """The signed checkpoint at this size."""
        leaves = [line.hash for line in self.lines[:size]]
        body = f"{ORIGIN}\n{len(leaves)}\n{b64encode(root(leaves)).decode()}\n"
        return f"{body}\n" + "".join(signer.line(body) for signer in (self.signer, *self.witnesses))

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint").write_text(self.note())
        self._tiles(folder)
        with (folder / "entries.jsonl").open("wb") as file:
            file.writelines(line.told(index) for index, line in enumerate(self.lines) if line.shown)
        return folder

    def _tiles(self, folder: Path) -> None:
        for number, some in enumerate(parts(self.lines)):
            packed = b"".join(len(line.leaf).to_bytes(2) + line.leaf for line in some)
            put(folder, "entries", number, len(some), packed)
        level, hashes = 0, [line.hash for line in self.lines]
        while hashes:
            for number, tile in enumerate(parts(hashes)):
                put(folder, level, number, len(tile), b"".join(tile))
            level, hashes = level + 1, [root(tile) for tile in parts(hashes) if len(tile) == 256]


def root(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256().digest()
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\1" + root(hashes[:split]) + root(hashes[split:])).digest()


def proof(place: int, hashes: Sequence[bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.1, as it is written there."""
    if len(hashes) < 2:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if place < split:
        return [*proof(place, hashes[:split]), root(hashes[split:])]
    return [*proof(place - split, hashes[split:]), root(hashes[:split])]


def parts(things: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (things[at : at + 256] for at in range(0, len(things), 256))


def put(folder: Path, level: int | str, number: int, width: int, data: bytes) -> None:
    assert number < 1_000_000
    name = f"{number:03d}" if number < 1000 else f"x{number // 1000:03d}/{number % 1000:03d}"
    path = folder / "tile" / str(level) / (name + (f".p/{width}" if width < 256 else ""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# What a correct exchange writes.

ACTIVATED = Entry(kind="policy", action="activate", revision="pol_1", change=1, detail={"digest": "d", "state": "installed"})


def contract(action: str, change: int, of: str = "con_1") -> Entry:
    return Entry(kind="contract", action=action, dataset="footfall", contract=of, purpose="research", change=change)


def decision(number: int = 1, *, answer: str = "allow", revision: str = "pol_1", of: str = "con_1") -> Entry:
    return Entry(
        kind="decision",
        action="receive",
        dataset="footfall",
        contract=of,
        decision=f"dec_{number}",
        revision=revision,
        detail={"answer": answer},
    )


def release(change: int, *, by: str = "dec_1", grants: bool = True, of: str = "con_1") -> Entry:
    return Entry(
        kind="release",
        action="receive",
        dataset="footfall",
        contract=of,
        decision=by,
        revision="pol_1",
        change=change,
        ranges=Ranges({0: (0, 10)} if grants else {}, {0: 9}),
        closed=(10, 1000),
    )


def passed(change: int) -> Entry:
    return Entry(kind="barrier_passed", action="confirm", change=change, detail={"replicas": "1"})


def correct(releases: int = 600) -> Book:
    """A book in which everything holds: two contracts, of which one ends, and a policy that two persons have made active."""
    book = Book()
    for entry in (ACTIVATED, contract("proposed", 2), contract("activated", 3), decision(), decision(2, answer="deny")):
        book.add(entry)
    for _ in range(releases):
        book.add(release(3))
    for entry in (
        contract("suspended", 4),
        release(3),  # a replica that does not know yet
        passed(4),
        release(4, grants=False),  # the account of a stream that has ended
        contract("resumed", 5),
        release(4),  # resuming forbids nothing: it is known by the contract, not by a number
        Entry(kind="policy", action="propose", actor="per_1", revision="pol_2"),
        Entry(kind="policy", action="approve", actor="per_2", revision="pol_2"),
        Entry(kind="policy", action="activate", actor="per_1", revision="pol_2", change=6),
        passed(6),
        decision(3, revision="pol_2"),
        release(6, by="dec_3"),
    ):
        book.add(entry)
    return book


def resealed(line: Line, **changed: Any) -> Line:
    """The line with another entry behind the same leaf."""
    said = json.loads(line.sealed.entry) | changed
    return replace(line, sealed=line.sealed._replace(entry=orjson.dumps(said, option=orjson.OPT_SORT_KEYS)))
