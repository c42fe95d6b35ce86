"""What is sealed opens with its subject's key where it was sealed, and nowhere else; keys are made once and die with the subject."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field

import pytest
from sqlalchemy import select, update

from consent.erasure import ErasedSubjects, erase, locked
from consent.sealing import (
    AT_ONCE,
    Broken,
    KeyAway,
    KeyLost,
    OpenedKey,
    SubjectKey,
    is_sealed,
    keys_to_open,
    keys_to_seal,
    open_sealed,
    place_of,
    rewrap,
    seal,
)
from consent.subjects import as_bytes, find, secrets_of, srefs_of
from gateway.database import Database

WHERE = ("subject_index-1", bytes(32), "org_transit", "opaque")
FOOTFALL = "port-credit-footfall"
PLACE = place_of("exchange.footfall.1", "/age_band")


@dataclass
class Keks:
    """Key-encryption keys of a test; the last one is current."""

    held: dict[str, bytes] = field(default_factory=lambda: {"kek-1": secrets.token_bytes(32)})

    def current(self) -> tuple[str, bytes]:
        if not self.held:
            raise KeyAway("there is none")
        return list(self.held.items())[-1]

    def find(self, kek_id: str) -> bytes | None:
        return self.held.get(kek_id)


def minted(database: Database, *names: str) -> list[str]:
    with database.transaction() as session:
        return list(srefs_of(session, *WHERE, names).values())


def made(database: Database, keks: Keks, *srefs: str, dataset: str = FOOTFALL) -> dict[str, OpenedKey]:
    with database.transaction() as session:
        return keys_to_seal(session, keks, dataset, srefs)


def opened(database: Database, keks: Keks, *srefs: str) -> dict[str, OpenedKey | None]:
    with database.reading() as session:
        return keys_to_open(session, keks, FOOTFALL, srefs)


def test_what_is_sealed_opens_with_the_key_read_again(database: Database) -> None:
    keks, (ann,) = Keks(), minted(database, "ann")
    stored = seal(made(database, keks, ann)[ann], PLACE, b'"25-34"')
    assert is_sealed(stored)
    assert "25-34" not in stored["ct"]
    again = opened(database, keks, ann)[ann]
    assert again is not None
    assert open_sealed(again, PLACE, stored) == b'"25-34"'


def test_a_value_sealed_twice_looks_different(database: Database) -> None:
    keks, (ann,) = Keks(), minted(database, "ann")
    key = made(database, keks, ann)[ann]
    assert seal(key, PLACE, b"1")["ct"] != seal(key, PLACE, b"1")["ct"]


def test_a_sealed_value_opens_for_its_topic_field_and_key_only(database: Database) -> None:
    keks, (ann, bob) = Keks(), minted(database, "ann", "bob")
    keys = made(database, keks, ann, bob)
    stored = seal(keys[ann], PLACE, b"1")
    for key, place in [
        (keys[ann], place_of("exchange.footfall.2", "/age_band")),
        (keys[ann], place_of("exchange.footfall.1", "/zone")),
        (keys[ann], place_of("exchange.footfall.1/age", "_band")),
        (keys[bob], PLACE),
        (OpenedKey(keys[bob].id, keys[ann].cipher), PLACE),
    ]:
        with pytest.raises(Broken):
            open_sealed(key, place, stored)


@pytest.mark.parametrize("ct", ["", "AAAA", "A", "é", "=" * 40, "not base64!"])
def test_a_changed_value_is_broken_and_nothing_else(database: Database, ct: str) -> None:
    keks, (ann,) = Keks(), minted(database, "ann")
    key = made(database, keks, ann)[ann]
    with pytest.raises(Broken):
        open_sealed(key, PLACE, {"sealed": key.id, "ct": ct})


@pytest.mark.parametrize(
    "value", ["25-34", None, 3, [], {}, {"sealed": "x"}, {"sealed": 1, "ct": "x"}, {"sealed": "x", "ct": "x", "more": 1}]
)
def test_a_field_in_clear_is_not_taken_for_a_sealed_one(value: object) -> None:
    assert not is_sealed(value)


def test_a_subject_has_one_key_in_each_dataset(database: Database) -> None:
    keks, (ann, bob) = Keks(), minted(database, "ann", "bob")
    first, again = made(database, keks, ann), made(database, keks, ann, bob)
    assert first[ann].id == again[ann].id
    assert len({first[ann].id, again[bob].id, made(database, keks, ann, dataset="other")[ann].id}) == 3


def test_many_keys_are_made_at_once(database: Database) -> None:
    srefs = minted(database, *(f"visitor-{n}" for n in range(AT_ONCE + 20)))
    assert made(database, Keks(), *srefs).keys() == set(srefs)


def test_two_who_make_the_same_key_at_once_get_one(database: Database) -> None:
    keks, (ann,) = Keks(), minted(database, "ann")
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(made(database, keks, ann)[ann].id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_keys_are_wrapped_in_the_database(database: Database) -> None:
    keks, (ann,) = Keks(), minted(database, "ann")
    stored = seal(made(database, keks, ann)[ann], PLACE, b"1")
    assert opened(database, Keks({"kek-1": secrets.token_bytes(32)}), ann) == {}, "what does not open is as good as gone"
    assert opened(database, Keks({}), ann) == {ann: None}, "the key-encryption key may come back"
    found = opened(database, keks, ann)[ann]
    assert found is not None
    assert open_sealed(found, PLACE, stored) == b"1"


def test_no_key_is_made_without_a_key_encryption_key(database: Database) -> None:
    (ann,) = minted(database, "ann")
    with pytest.raises(KeyLost):
        made(database, Keks({}), ann)
    made(database, Keks(), ann)
    with pytest.raises(KeyLost):
        made(database, Keks(), ann)


def test_wrapped_keys_cannot_be_exchanged_between_rows(database: Database) -> None:
    keks, (ann, bob) = Keks(), minted(database, "ann", "bob")
    made(database, keks, ann, bob)
    with database.transaction() as session:
        theirs = session.execute(select(SubjectKey.wrapped).where(SubjectKey.sref == as_bytes(bob))).scalar_one()
        session.execute(update(SubjectKey).where(SubjectKey.sref == as_bytes(ann)).values(wrapped=theirs))
    assert opened(database, keks, ann) == {}


def test_rewrapping_changes_the_wrap_and_not_the_key(database: Database) -> None:
    keks = Keks()
    srefs = minted(database, *(f"visitor-{n}" for n in range(AT_ONCE + 20)))
    stored = seal(made(database, keks, *srefs)[srefs[7]], PLACE, b"1")
    keks.held["kek-2"] = secrets.token_bytes(32)
    done, last = 0, None
    while True:
        with database.transaction() as session:
            part = rewrap(session, keks, last)
        done, last = done + part.done, part.last
        assert part.lost == 0
        if last is None:
            break
    assert done == len(srefs)
    del keks.held["kek-1"]
    key = opened(database, keks, *srefs)[srefs[7]]
    assert key is not None
    assert open_sealed(key, PLACE, stored) == b"1"


def test_rewrapping_counts_and_passes_what_it_cannot_open(database: Database) -> None:
    (ann,) = minted(database, "ann")
    made(database, Keks({"lost": secrets.token_bytes(32)}), ann)
    with database.transaction() as session:
        part = rewrap(session, Keks(), None)
    assert (part.done, part.lost) == (0, 1)
    with database.transaction() as session:
        assert rewrap(session, Keks(), part.last).last is None


def test_an_erased_subject_has_no_row_key_or_secret_and_a_new_one_is_another(database: Database) -> None:
    keks, (ann, bob) = Keks(), minted(database, "ann", "bob")
    made(database, keks, ann, bob)
    made(database, keks, ann, dataset="other")
    with database.transaction() as session:
        assert locked(session, ann)
        erase(session, ann, change=7)
    with database.transaction() as session:
        erase(session, ann, change=9)  # again, as after a restore
        assert not locked(session, ann)
        now_erased = ErasedSubjects()
        now_erased.load(session)
        assert now_erased.srefs == {ann}
        assert find(session, *WHERE, "ann") is None
        assert secrets_of(session, [ann, bob]).keys() == {bob}
        assert session.execute(select(SubjectKey.sref)).scalars().all() == [as_bytes(bob)]
    assert minted(database, "ann") != [ann]


def test_no_key_is_made_for_an_erased_subject(database: Database) -> None:
    ann, bob = minted(database, "ann", "bob")
    with database.transaction() as session:
        erase(session, ann, change=7)
    assert made(database, Keks(), ann, bob).keys() == {bob}
