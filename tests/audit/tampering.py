"""Ways to tamper with a log, each built from one in which everything holds."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.audit.record import Entry
from tests.audit.book import ORIGIN, Book, Signer, contract, correct, decision, passed, proof, release, resealed

Make = Callable[["Case"], None]


@dataclass
class Case:
    """What an auditor looks at: the folder `log`, what they have seen before, and what they ask."""

    place: Path
    book: Book = field(default_factory=correct)
    words: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.place / "log"

    @property
    def seen(self) -> Path:
        """A checkpoint that was shown before, or to somebody else."""
        return self.place / "seen.note"

    def write(self) -> None:
        self.book.write(self.log)

    def remember(self) -> None:
        self.seen.write_text(self.book.note())
        self.words += ["--seen", str(self.seen)]

    def file(self, name: str, text: str) -> str:
        (self.place / name).write_text(text)
        return str(self.place / name)


def in_log(path: str, change: Callable[[bytes], bytes]) -> Make:
    """A file of the log is changed where it lies."""

    def make(case: Case) -> None:
        case.write()
        file = case.log / path
        file.write_bytes(change(file.read_bytes()))

    return make


def rewritten(change: Callable[[Book], None]) -> Make:
    """The operator rewrites the log with the log's own key, after it was shown."""

    def make(case: Case) -> None:
        case.remember()
        change(case.book)
        case.write()

    return make


def written(*entries: Entry, after: float = 0.001) -> Make:
    """The exchange itself writes what it must not."""

    def make(case: Case) -> None:
        for entry in entries:
            case.book.add(entry, after=after)
        case.write()

    return make


def flip(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 1]) + data[41:]


def dropped(book: Book) -> None:
    del book.lines[300]
    book.add(release(6, by="dec_3"))


def swapped(book: Book) -> None:
    book.lines[300], book.lines[301] = book.lines[301], book.lines[300]


def inserted(book: Book) -> None:
    book.lines.insert(300, book.lines[299])


def cut(book: Book) -> None:
    del book.lines[-50:]


def restored(book: Book) -> None:
    """A dump is played back, and the exchange goes on from there as if nothing had been."""
    del book.lines[-20:]
    for _ in range(40):
        book.add(release(3))


def an_entry_behind_its_commitment(case: Case) -> None:
    case.book.lines[42] = resealed(case.book.lines[42], closed={"events": 1, "bytes": 100})
    case.write()


def a_salt(case: Case) -> None:
    case.book.lines[42] = replace(line := case.book.lines[42], sealed=line.sealed._replace(salt=bytes(32)))
    case.write()


def an_opening(case: Case) -> None:
    line = case.book.lines[42]
    assert line.sealed.opening is not None
    opening = json.dumps(json.loads(line.sealed.opening) | {"grant": {"0": [0, 11]}}).encode()
    case.book.lines[42] = replace(line, sealed=line.sealed._replace(opening=opening))
    case.write()


def the_database(case: Case) -> None:
    """Its administrator changes an entry and its leaf, and cannot change what is published."""
    case.write()
    line = case.book.lines[42] = replace(case.book.add(release(3, by="dec_2")))
    told = b"".join(line.told(index) for index, line in enumerate(case.book.lines[:-1]))
    assert line.sealed.entry in told
    (case.log / "entries.jsonl").write_bytes(told)


def an_index_left_out(case: Case) -> None:
    case.book.lines[42].shown = False
    case.write()


def an_old_checkpoint(case: Case) -> None:
    Book(lines=case.book.lines[:300], signer=case.book.signer).write(case.log)
    case.write()
    case.remember()
    (case.log / "checkpoint").write_text(case.book.note(300))


def two_readers(case: Case) -> None:
    other = Book(lines=[*case.book.lines], signer=case.book.signer)
    other.lines[500] = other.lines[499]
    case.seen.write_text(other.note())
    case.words += ["--seen", str(case.seen)]
    case.write()


def another_key(case: Case) -> None:
    case.write()
    case.book.signer, mine = Signer(), case.book.signer
    (case.log / "checkpoint").write_text(case.book.note())
    case.book.signer = mine


def another_root(case: Case) -> None:
    case.write()
    body = f"{ORIGIN}\n{len(case.book.lines)}\n{b64encode(bytes(32)).decode()}\n"
    (case.log / "checkpoint").write_text(f"{body}\n{case.book.signer.line(body)}")


def another_origin(case: Case) -> None:
    case.write()
    body = f"other.test/audit\n{len(case.book.lines)}\n{b64encode(bytes(32)).decode()}\n"
    (case.log / "checkpoint").write_text(f"{body}\n{case.book.signer.line(body)}")


def a_cosignature(case: Case) -> None:
    witness = Signer("witness.test/w", witness=True)
    case.words += ["--policy", case.file("policy", f"witness w {witness.vkey}\nquorum w\n")]
    case.write()
    note = case.book.note()
    (case.log / "checkpoint").write_text(note + witness.line("another text\n"))


def a_quorum(case: Case) -> None:
    case.words += ["--policy", case.file("policy", f"witness w {Signer('witness.test/w', witness=True).vkey}\nquorum w\n")]
    case.write()


def a_receipt(case: Case) -> None:
    lines = [
        {"at": "2026-11-23T12:00:00Z", "audit_entry": f"sha-256=:{b64encode(it).decode()}:"} for it in (case.book.lines[9].hash, bytes(32))
    ]
    case.words += ["--receipts", case.file("receipts", "".join(json.dumps(line) + "\n" for line in lines))]
    case.write()


def bundle(case: Case, stranger: int | None, proof_of: int) -> None:
    hashes = [line.hash for line in case.book.lines]
    steps = [b64encode(step).decode() for step in proof(proof_of, hashes)]
    line = case.book.lines[7] if stranger is None else Book().add(release(3))
    case.log.mkdir()
    (case.log / "checkpoint").write_text(case.book.note())
    (case.log / "entries.jsonl").write_bytes(line.told(7, proof=steps))


END = contract("ended", 7)
PROPOSE = Entry(kind="policy", action="propose", actor="per_1", revision="pol_3")
APPROVE = Entry(kind="policy", action="approve", actor="per_1", revision="pol_3")
ACTIVATE = Entry(kind="policy", action="activate", actor="per_1", revision="pol_3", change=8)

SEEN_BY_OTHERS: dict[str, tuple[Make, str]] = {
    "a byte in a leaf": (in_log("tile/entries/001", flip), "tile"),
    "a bundle of leaves cut short": (in_log("tile/entries/001", lambda data: data[:-60]), "tile"),
    "a tile of hashes replaced": (in_log("tile/0/001", lambda data: data[32:] + data[:32]), "tile"),
    "a tile above them replaced": (in_log("tile/1/000.p/2", lambda data: data[32:] + data[:32]), "tile"),
    "an entry dropped": (rewritten(dropped), "fork"),
    "two entries swapped": (rewritten(swapped), "fork"),
    "an entry inserted": (rewritten(inserted), "fork"),
    "the tail cut": (rewritten(cut), "went_back"),
    "a restored database": (rewritten(restored), "fork"),
    "a fork shown to two readers": (two_readers, "fork"),
    "an old checkpoint": (an_old_checkpoint, "went_back"),
    "a root signed by another key": (another_key, "signature"),
    "a root that is not that of the leaves": (another_root, "root"),
    "a checkpoint of another log": (another_origin, "signature"),
}
SEEN_BY_OURS: dict[str, tuple[Make, str]] = {
    "an entry changed behind its commitment": (an_entry_behind_its_commitment, "commitment"),
    "a salt changed": (a_salt, "commitment"),
    "positions changed behind their commitment": (an_opening, "commitment"),
    "the database edited by its administrator": (the_database, "commitment"),
    "an index left out": (an_index_left_out, "hidden"),
    "a cosignature forged": (a_cosignature, "signature"),
    "a quorum of witnesses missing": (a_quorum, "quorum"),
    "a receipt that is not in the log": (a_receipt, "receipt"),
    "a bundle with an entry of another log": (lambda case: bundle(case, 1, 7), "proof"),
    "a bundle with the proof of another entry": (lambda case: bundle(case, None, 8), "proof"),
    "a release without a decision": (written(release(6, by="dec_9")), "decision"),
    "a release by a decision that said no": (written(release(6, by="dec_2")), "decision"),
    "a release by a decision on another contract": (written(contract("activated", 7, "con_2"), release(7, of="con_2")), "decision"),
    "a release of a contract that never was in force": (
        written(contract("proposed", 7, "con_2"), decision(9, of="con_2"), release(7, by="dec_9", of="con_2")),
        "contract",
    ),
    "a release of a contract that has ended": (written(END, release(7)), "contract"),
    "a release of one that has ended, as if nobody knew": (written(END, release(6), after=70), "contract"),
    "a release under an old change number": (written(passed(9), release(8)), "barrier"),
    "a policy made active by one person": (written(PROPOSE, ACTIVATE), "two_persons"),
    "a policy approved by who proposed it": (written(PROPOSE, APPROVE, ACTIVATE), "two_persons"),
    "a decision by a policy that nobody made active": (written(decision(9, revision="pol_9")), "policy"),
    "an entry from before": (written(passed(6), after=-3), "time"),
}
