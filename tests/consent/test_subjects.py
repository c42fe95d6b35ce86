"""One person, one `sref`; no identifier is kept."""

from __future__ import annotations

import threading
import unicodedata

import pytest
from sqlalchemy import select

from consent.models import Subject
from consent.subjects import AT_ONCE, find, lookup_of, normalise, secrets_of, sref_of, srefs_of
from gateway.database import Database

KEY_ID, KEY = "subject_index-1", bytes(32)
WHERE = (KEY_ID, KEY, "org_transit", "opaque")


@pytest.mark.parametrize(
    ("scheme", "written", "same"),
    [
        ("opaque", " visitor-4711\n", "visitor-4711"),
        ("opaque", unicodedata.normalize("NFD", "Zoë"), "Zoë"),
        ("email", "Ann.Lee@Example.CA ", "ann.lee@example.ca"),
        ("email", unicodedata.normalize("NFD", "ZOË@EXAMPLE.CA"), "zoë@example.ca"),
        ("e164", "+1 (905) 555-01.23", "+19055550123"),
    ],
)
def test_spellings_of_one_identifier_are_one(scheme: str, written: str, same: str) -> None:
    assert normalise(scheme, written) == same
    assert normalise(scheme, same) == same


@pytest.mark.parametrize(
    ("scheme", "written"),
    [
        ("opaque", "  "),
        ("opaque", "x" * 513),
        ("opaque", "\ud800"),
        ("email", "ann.lee"),
        ("email", "@example.ca"),
        ("email", "ann lee@example.ca"),
        ("e164", "905 555 0123"),
        ("e164", "+0 905 555 0123"),
        ("e164", "+1905555012345678"),
        ("e164", "+١٩٠٥٥٥٥٠١٢٣"),
        ("passport", "A1"),
    ],
)
def test_what_is_no_identifier_is_refused_without_repeating_it(scheme: str, written: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|must)") as refused:
        normalise(scheme, written)
    assert written not in str(refused.value)


def test_opaque_identifiers_keep_their_case() -> None:
    assert normalise("opaque", "Visitor") != normalise("opaque", "visitor")


def test_lookups_differ_by_key_provider_scheme_and_identifier() -> None:
    one = lookup_of(KEY, "org_a", "opaque", "ann@example.ca")
    others = [
        lookup_of(b"\1" * 32, "org_a", "opaque", "ann@example.ca"),
        lookup_of(KEY, "org_b", "opaque", "ann@example.ca"),
        lookup_of(KEY, "org_a", "email", "ann@example.ca"),
        lookup_of(KEY, "org_a", "opaque", "bob@example.ca"),
        lookup_of(KEY, "org_aopaque", "opaque", "ann@example.ca"),
    ]
    assert len({one, *others}) == 6
    assert lookup_of(KEY, "org_a", "email", "ANN@example.ca") == lookup_of(KEY, "org_a", "email", "ann@example.ca")


def test_a_person_keeps_the_sref_of_the_first_sight(database: Database) -> None:
    with database.transaction() as session:
        first = sref_of(session, *WHERE, "ann")
    with database.transaction() as session:
        again = srefs_of(session, *WHERE, ["bob", " ann ", "ann"])
    assert again[" ann "] == again["ann"] == first
    assert again["bob"] != first
    assert len(first) == 22


def test_two_providers_of_one_person_have_two_srefs(database: Database) -> None:
    with database.transaction() as session:
        assert sref_of(session, *WHERE, "ann") != sref_of(session, KEY_ID, KEY, "org_other", "opaque", "ann")


def test_finding_mints_nothing(database: Database) -> None:
    with database.transaction() as session:
        assert find(session, *WHERE, "ann") is None
        minted = sref_of(session, *WHERE, "ann")
        assert find(session, *WHERE, "ann") == minted
        assert find(session, "subject_index-2", KEY, "org_transit", "opaque", "ann") is None


def test_a_batch_larger_than_one_statement_is_minted_whole(database: Database) -> None:
    identifiers = [f"visitor-{n}" for n in range(2 * AT_ONCE + 1)]
    with database.transaction() as session:
        minted = srefs_of(session, *WHERE, identifiers)
        secrets = secrets_of(session, minted.values())
    assert len(set(minted.values())) == len(identifiers)
    assert secrets.keys() == set(minted.values())
    assert {len(secret) for secret in secrets.values()} == {32}
    assert len(set(secrets.values())) == len(identifiers)


def test_nothing_of_the_identifier_is_stored(database: Database) -> None:
    with database.transaction() as session:
        sref_of(session, KEY_ID, KEY, "org_transit", "email", "ann.lee@example.ca")
    with database.reading() as session:
        [row] = session.scalars(select(Subject))
        stored = repr([getattr(row, column.key) for column in Subject.__table__.columns])
    assert "ann" not in stored


def test_many_who_see_the_same_people_first_agree_on_their_srefs(database: Database) -> None:
    identifiers = [f"visitor-{n}" for n in range(200)]
    seen: list[dict[str, str]] = []
    together = threading.Barrier(6)

    def mint(order: int) -> None:
        together.wait()
        with database.transaction() as session:
            seen.append(srefs_of(session, *WHERE, identifiers if order else reversed(identifiers)))

    threads = [threading.Thread(target=mint, args=(n % 2,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 6
    assert all(one == seen[0] for one in seen)
    with database.reading() as session:
        assert len(session.scalars(select(Subject.sref)).all()) == len(identifiers)


def test_secrets_of_the_unknown_are_not_made_up(database: Database) -> None:
    with database.transaction() as session:
        assert secrets_of(session, ["A" * 22]) == {}
