"""The bytes of entries and leaves: they never change, or what was written could no longer be proved."""

from __future__ import annotations

import random
import time
from base64 import b64decode
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, cast

import orjson
import pytest
import rfc8785
from sqlalchemy import Table, insert, select

from gateway.audit.models import AuditEntry, PublishedRange
from gateway.audit.record import HELD_BACK_MS, Entry, Ranges, Receipt, canonical, record, row_of, seal
from gateway.database import Database, now
from gateway.errors import ExchangeError
from gateway.keys import b64, unb64

AT = "2026-11-23T12:00:00.250Z"
SALTS = bytes(range(64))
RELEASE = Entry(
    kind="release",
    action="deliver",
    actor="cli_01kaqv8f7e9n3p5r7t9w1y3a5c",
    organization="org_01kaqv8f7e9n3p5r7t9w1y3a5c",
    dataset="port-credit-footfall",
    contract="con_01kaqv8f7e9n3p5r7t9w1y3a5c",
    purpose="transit-planning",
    decision="dec_01kaqv8f7e9n3p5r7t9w1y3a5c",
    revision="pol_01kaqv8f7e9n3p5r7t9w1y3a5c",
    change=4711,
    ranges=Ranges({0: (100, 1100), 1: (5, 1005), 10: (0, 1000)}, {0: 99, 1: 4, 10: -1}),
    closed=(998, 1234567),
    provider="org_01kaqv8f7e9n3p5r7t9w1y3a5d",
    consumer="org_01kaqv8f7e9n3p5r7t9w1y3a5e",
)
SMALLEST = Entry(kind="policy", action="activated")
TEXT = Entry(kind="contract", action="signed", detail={"text_digest": 'sha-256=:é\u2028"\\/\x1f\x7f😀:', "a": "", "Z": "\b\t\n\f\r"})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (RELEASE, "d882bae56f071c30d71e7ec78b475a1b56f4a0653dc2a22276b08684b633622f"),
        (SMALLEST, "8c5be187f3e4f231024fee3e61fed3b5e9add31b7c5008cd65c541269b9ec893"),
        (TEXT, "a8ddd679418fbc04f2e8b8039f203ebb03b00f904106e7b7753762b15666fd7e"),
    ],
    ids=["release", "smallest", "text"],
)
def test_leaf_hash_of_an_entry_never_changes(entry: Entry, expected: str) -> None:
    assert seal(entry, AT, SALTS).leaf_hash.hex() == expected


def test_a_release_is_these_bytes() -> None:
    sealed = seal(RELEASE, AT, SALTS)
    assert sealed.entry.decode() == (
        '{"action":"deliver","actor":"cli_01kaqv8f7e9n3p5r7t9w1y3a5c","at":"2026-11-23T12:00:00.250Z","change":4711,'
        '"closed":{"bytes":1234567,"events":998},"contract":"con_01kaqv8f7e9n3p5r7t9w1y3a5c","dataset":"port-credit-footfall",'
        '"decision":"dec_01kaqv8f7e9n3p5r7t9w1y3a5c","kind":"release","organization":"org_01kaqv8f7e9n3p5r7t9w1y3a5c",'
        '"purpose":"transit-planning","ranges":"xRv9CWp3lmAJJJt2kebLKjFPcM7B2Sw3EA-j6xeRab0","revision":"pol_01kaqv8f7e9n3p5r7t9w1y3a5c","v":1}'
    )
    assert sealed.opening == (
        b'{"grant":{"0":[100,1100],"1":[5,1005],"10":[0,1000]},"last":{"0":99,"1":4,"10":-1},'
        b'"salt":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8"}'
    )
    commitment = "oQw08-SQQT20sSlU_IYyR_rY2l5V_76JC8LiZsBOlvs"
    assert sealed.leaf.decode() == f'{{"at":"{AT}","commitment":"{commitment}","kind":"release","v":1}}'


def test_leaf_commits_to_salt_and_entry_and_the_hash_to_the_leaf() -> None:
    sealed = seal(RELEASE, AT)
    leaf = orjson.loads(sealed.leaf)
    assert unb64(leaf["commitment"]) == sha256(sealed.salt + sealed.entry).digest()
    assert sealed.leaf_hash == sha256(b"\x00" + sealed.leaf).digest()


def test_ranges_commit_to_the_opening_without_its_salt() -> None:
    sealed = seal(RELEASE, AT)
    assert sealed.opening is not None
    opening = orjson.loads(sealed.opening)
    salt = unb64(opening.pop("salt"))
    assert orjson.loads(sealed.entry)["ranges"] == b64(sha256(salt + canonical(opening)).digest())


def test_same_entry_twice_has_two_leaves_and_two_commitments_to_its_ranges() -> None:
    one, two = seal(RELEASE, AT), seal(RELEASE, AT)
    assert one.leaf_hash != two.leaf_hash
    assert orjson.loads(one.entry)["ranges"] != orjson.loads(two.entry)["ranges"]


@pytest.mark.parametrize("entry", [RELEASE, SMALLEST, TEXT])
def test_canonical_bytes_are_those_of_rfc_8785(entry: Entry) -> None:
    sealed = seal(entry, AT)
    for document in (sealed.entry, sealed.leaf, sealed.opening or b"{}"):
        assert document == rfc8785.dumps(orjson.loads(document))


def test_every_character_is_written_as_rfc_8785_does() -> None:
    drawn = random.Random(8785)
    for _ in range(300):
        text = "".join(
            chr(drawn.choice([drawn.randrange(0x80), drawn.randrange(0xD800), drawn.randrange(0xE000, 0x110000)])) for _ in range(20)
        )
        document: dict[str, Any] = {"detail": {text.encode().hex(): text}, "change": drawn.randrange(2**53), "at": text}
        assert canonical(document) == rfc8785.dumps(document)


def test_absent_members_and_those_to_search_by_are_not_in_the_entry() -> None:
    entry = orjson.loads(seal(SMALLEST, AT).entry)
    assert entry == {"v": 1, "at": AT, "kind": "policy", "action": "activated"}
    assert not {"provider", "consumer", "salt"} & orjson.loads(seal(RELEASE, AT).entry).keys()


def test_receipt_is_the_leaf_hash_as_a_byte_sequence() -> None:
    header = Receipt(bytes(range(32))).header
    assert header.startswith("sha-256=:")
    assert b64decode(header[9:-1], validate=True) == bytes(range(32))


def test_entry_is_written_with_what_happened_or_not_at_all(database: Database) -> None:
    with database.transaction() as session:
        receipt = record(session, RELEASE)
    with suppress(RuntimeError), database.transaction() as session:
        record(session, SMALLEST)
        raise RuntimeError
    with database.reading() as session:
        row = session.scalars(select(AuditEntry)).one()
    assert row.leaf_hash == receipt.leaf_hash
    assert (row.kind, row.provider, row.consumer, row.contract) == ("release", RELEASE.provider, RELEASE.consumer, RELEASE.contract)
    assert orjson.loads(row.entry)["at"] == orjson.loads(row.leaf)["at"]
    assert row.leaf_hash == sha256(b"\x00" + row.leaf).digest()


def test_time_of_the_log_does_not_go_back_when_the_clock_does(database: Database) -> None:
    ahead = (now() + timedelta(hours=1)).astimezone(UTC)
    with database.transaction() as session:
        session.execute(insert(AuditEntry), [row_of(SMALLEST, ahead, seal(SMALLEST, AT))])
        record(session, SMALLEST)
    with database.reading() as session:
        first, second = session.scalars(select(AuditEntry.at).order_by(AuditEntry.number))
    assert isinstance(first, datetime)
    assert second >= first


def test_what_the_network_has_held_back_is_not_written_nor_what_stands_beside_it(on_postgres: Database) -> None:
    beside = (cast(Table, PublishedRange.__table__), {"topic_id": "topic", "partition": 0, "first": 0, "next": 1})
    with on_postgres.transaction() as session:
        record(session, SMALLEST)  # from here on nobody is asked how far the log is
        session.execute(insert(AuditEntry), [row_of(SMALLEST, now() + timedelta(seconds=4), seal(SMALLEST, AT))])
    with pytest.raises(ExchangeError, match="audit_unavailable"), on_postgres.one_statement() as session:
        record(session, SMALLEST, beside)
    with on_postgres.reading() as session:
        assert len(session.scalars(select(AuditEntry)).all()) == 2
        assert session.scalars(select(PublishedRange)).all() == []
    with on_postgres.one_statement() as session:  # it has learnt meanwhile
        record(session, SMALLEST, beside)
    with on_postgres.reading() as session:
        assert len(session.scalars(select(AuditEntry)).all()) == 3
        assert len(session.scalars(select(PublishedRange)).all()) == 1


def test_a_commit_that_is_held_back_comes_too_late(on_postgres: Database) -> None:

    def hold_back() -> None:
        with on_postgres.transaction() as session:
            record(session, SMALLEST)
            time.sleep(HELD_BACK_MS / 1000 + 0.5)

    with on_postgres.transaction() as session:
        record(session, SMALLEST)
    with on_postgres.transaction() as session:
        assert len(session.scalars(select(AuditEntry)).all()) == 1
        time.sleep(HELD_BACK_MS / 1000 + 0.5)  # nothing limits a transaction on the same connection that has no entry yet
    with pytest.raises(ExchangeError, match="database_unavailable"):
        hold_back()
    with on_postgres.reading() as session:
        assert len(session.scalars(select(AuditEntry)).all()) == 1
