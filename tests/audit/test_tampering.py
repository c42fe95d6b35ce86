"""No tampering goes unseen: ours finds each, and those in their reach are found by Go's and Tessera's verifiers too."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from gateway.audit import verify
from gateway.audit.models import AuditEntry, AuditLeaf
from gateway.database import Database
from gateway.keys import b64
from tests.audit.book import ACTIVATED
from tests.audit.growing import Log
from tests.audit.others import fsck_verifies, go_verifies
from tests.audit.tampering import SEEN_BY_OTHERS, SEEN_BY_OURS, Case, an_old_checkpoint, two_readers

ALL = SEEN_BY_OTHERS | SEEN_BY_OURS
HISTORY = {"an entry dropped", "two entries swapped", "an entry inserted", "the tail cut", "a restored database"}
"""A log that was rewritten whole is well by itself; only who remembers it sees that it was."""


def found(case: Case) -> list[dict[str, Any]]:
    told: list[str] = []
    code = verify.main([str(case.log), "--key", case.book.signer.vkey, *case.words], show=told.append)
    broken: list[dict[str, Any]] = json.loads(told[0])["broken"]
    assert code == (1 if broken else 0)
    return broken


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None  # type: ignore[attr-defined] # says nothing
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_there_are_at_least_twenty_ways_to_tamper() -> None:
    assert len(ALL) >= 35


@pytest.mark.parametrize("how", ALL)
def test_tampering_is_found_and_nothing_else_is(how: str, tmp_path: Path) -> None:
    make, rule = ALL[how]
    case = Case(tmp_path)
    make(case)
    assert {broken["rule"] for broken in found(case)} == {rule}


def test_an_entry_that_the_databases_administrator_changes_is_not_the_published_one(database: Database, tmp_path: Path) -> None:
    log = Log(database, tmp_path)
    log.append(1, ACTIVATED)
    log.grow(0)

    def verified() -> list[dict[str, Any]]:
        with database.reading() as session:
            rows = session.execute(select(AuditLeaf.index, AuditEntry).join(AuditEntry, AuditEntry.number == AuditLeaf.number)).all()
            lines = [json.dumps({"index": index, "salt": b64(row.salt)})[:-1] + f',"entry":{row.entry.decode()}}}\n' for index, row in rows]
        (log.tiles.folder / "entries.jsonl").write_text("".join(lines))
        told: list[str] = []
        verify.main([str(log.tiles.folder), "--key", log.vkey], show=told.append)
        broken: list[dict[str, Any]] = json.loads(told[0])["broken"]
        return broken

    assert verified() == []
    with database.transaction() as session:
        row = session.scalars(select(AuditEntry)).one()
        changed = row.entry.replace(b"pol_1", b"pol_2")
        session.execute(update(AuditEntry).values(entry=changed, leaf_hash=bytes(32)))
    (broken,) = verified()
    assert (broken["rule"], broken["index"]) == ("commitment", 0)


@pytest.mark.parametrize("how", SEEN_BY_OTHERS)
def test_verifiers_of_others_find_it_too(how: str, tmp_path: Path, tlog_programs: Path) -> None:
    make, _ = SEEN_BY_OTHERS[how]
    case = Case(tmp_path)
    make(case)
    remembered = case.seen if case.seen.exists() else None
    with served(case.log) as url:
        assert go_verifies(tlog_programs, url, case.book.signer.vkey, remembered)[0] == -1
        by_itself = how in HISTORY or make in {two_readers, an_old_checkpoint}
        assert fsck_verifies(tlog_programs, url, case.book.signer.vkey, tmp_path) == by_itself


def test_verifiers_of_others_accept_what_was_not_tampered_with(tmp_path: Path, tlog_programs: Path) -> None:
    case = Case(tmp_path)
    case.write()
    assert found(case) == []
    with served(case.log) as url:
        assert go_verifies(tlog_programs, url, case.book.signer.vkey)[0] == len(case.book.lines)
        assert fsck_verifies(tlog_programs, url, case.book.signer.vkey, tmp_path)
