"""What is published is held against the database before anything is signed: a doubt stops the log, and nothing more is signed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from gateway.audit.merkle import Edge
from gateway.audit.models import AuditEntry, AuditLeaf, AuditPending, AuditTree
from gateway.audit.note import log_signer
from gateway.audit.sequence import LogStopped
from gateway.database import Database
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import write_keys
from tests.audit.growing import Log, forked


@pytest.fixture
def log(database: Database, tmp_path: Path) -> Log:
    made = Log(database, tmp_path)
    made.grow(300)
    return made


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def another_root(session: Session) -> None:
    edge = Edge()
    edge.grow([bytes(32)] * 300)
    session.execute(update(AuditTree).values(root=edge.root, edge=edge.kept))


def went_back(session: Session) -> None:
    """As a dump of before has it."""
    session.execute(delete(AuditLeaf).where(AuditLeaf.index >= 10))
    session.execute(update(AuditTree).values(size=10))


def signed_by_another(log: Log) -> None:
    other = log_signer(write_keys(log.folder / "other.json"), KeyEncryptionKeys.of(log.settings), log.settings)
    log.tiles.publish(other.sign(301, bytes(32)))


def of_a_fork(log: Log) -> None:
    with forked(log, log.folder / "fork") as fork:
        fork.grow(301)
        shutil.rmtree(log.tiles.folder)
        shutil.copytree(fork.tiles.folder, log.tiles.folder)


def longer_by_a_fork(log: Log) -> None:
    with forked(log, log.folder / "fork") as fork:
        fork.grow(400)
        shutil.rmtree(log.tiles.folder)
        shutil.copytree(fork.tiles.folder, log.tiles.folder)


def entry_behind_its_leaf(log: Log) -> None:
    """Changed by the database's administrator before it was published."""
    log.append(3)
    with log.database.transaction() as session:
        number = session.query(AuditPending.number).order_by(AuditPending.number.desc()).limit(1).scalar()
        session.execute(update(AuditEntry).where(AuditEntry.number == number).values(leaf=b"{}"))


def entry_deleted(log: Log) -> None:
    [gone] = log.append()
    with log.database.transaction() as session:
        session.execute(delete(AuditEntry).where(AuditEntry.leaf_hash == gone))


def in_the_database(change: Callable[[Session], None]) -> Callable[[Log], None]:
    def tamper(log: Log) -> None:
        with log.database.transaction() as session:
            change(session)

    return tamper


TAMPERED: dict[str, tuple[Callable[[Log], None], str]] = {
    "the database went back": (in_the_database(went_back), "went back"),
    "another root in the database": (in_the_database(another_root), "not the same"),
    "the checkpoint is signed by another key": (signed_by_another, "not signed by this log's key"),
    "the checkpoint is cut": (lambda log: log.tiles.publish(b"x\n"), "damaged"),
    "the checkpoint is changed": (lambda log: flip(log.tiles.folder / "checkpoint"), "damaged|not signed"),
    "a tile is changed": (lambda log: flip(log.tiles.folder / "tile/0/001.p/45"), "not those of the checkpoint"),
    "a tile is gone": (lambda log: (log.tiles.folder / "tile/0/001.p/45").unlink(), "missing"),
    "the directory is gone": (lambda log: shutil.rmtree(log.tiles.folder), "no checkpoint"),
    "the directory is of a fork": (of_a_fork, "not the same"),
    "the directory is of a longer fork": (longer_by_a_fork, "went back"),
    "an entry is another than its leaf": (entry_behind_its_leaf, "is not the one"),
    "an entry that waited is deleted": (entry_deleted, "gone"),
}


@pytest.mark.parametrize(("tamper", "why"), TAMPERED.values(), ids=TAMPERED.keys())
def test_nothing_more_is_signed_over_a_doubt(log: Log, tamper: Callable[[Log], None], why: str) -> None:
    log.grow(1)
    with log.database.transaction() as session:  # a size that is known to have been published
        session.execute(update(AuditTree).values(published=301))
    log.append()
    tamper(log)
    before = log.tiles.checkpoint()
    with pytest.raises(LogStopped, match=why):
        log.sequencer.step()
    assert log.tiles.checkpoint() == before


def test_an_older_directory_is_brought_up_to_the_database(log: Log) -> None:
    kept = log.folder / "kept"
    shutil.copytree(log.tiles.folder, kept)
    log.grow(600)
    shutil.rmtree(log.tiles.folder)
    shutil.copytree(kept, log.tiles.folder)
    assert log.grow(1).size == 901
