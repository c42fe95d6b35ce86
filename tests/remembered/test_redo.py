"""What a database lacks of what is remembered is applied again, once, and what cannot be is named."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from consent.erasure import ErasedSubject
from consent.models import ConsentRecord
from consent.subjects import as_text
from gateway.access.models import PolicyRevision
from gateway.access.revisions import read_files
from gateway.audit.models import AuditEntry
from gateway.catalog.models import Dataset
from gateway.changes import FORBIDS, ONLY_ALLOWS, ChangeRow, last, note
from gateway.database import Database, now, rfc3339
from gateway.identity.models import Client, Organization, RegistrationToken, RevokedToken
from gateway.remembered.kinds import KINDS
from gateway.remembered.place import Lines, Remembered, RememberedFile
from gateway.resources import POLICIES
from gateway.restore import Restored, redo
from tests.city import FOOTFALL, City, a_city
from tests.consents.acts import ANN, given, passes
from tests.databases import database

__all__ = ["database"]


@pytest.fixture
def city(database: Database, tmp_path: Path) -> Iterator[City]:
    with a_city(database, tmp_path) as made:
        given(made)
        yield made


def forgotten(city: City, *entries: tuple[str, str, dict[str, Any] | None], dry_run: bool = False, times: int = 1) -> Restored:
    """What is done where these changes (kind, object, how it was left) are remembered and the database lacks them."""
    place = RememberedFile(city.settings.data_dir / "remembered.jsonl", Lines(city.keys.secret("remembered")))
    own = Database(str(city.database.engine.url.render_as_string(hide_password=False)))
    with own.reading() as session:
        first = last(session) + 1
    lines = [Remembered(n, kind, object_, kind in FORBIDS, told, mark=True) for n, (kind, object_, told) in enumerate(entries, first)]

    async def run() -> Restored:
        await place.append(lines)
        done = [await redo(own, city.keys, place, dry_run=dry_run, progress=lambda _done, _of: None) for _ in range(times)]
        assert all(not again.missing for again in done[1:])
        return done[0]

    try:
        return asyncio.run(run())
    finally:
        own.close()


def only_record(city: City) -> ConsentRecord:
    with city.database.reading() as session:
        return session.scalars(select(ConsentRecord)).one()


def left(found: ConsentRecord, state: str, **members: Any) -> dict[str, Any]:
    """How a record like this one was left."""
    return {
        "id": found.id,
        "sref": as_text(found.sref),
        "by": "subject",
        "dataset": found.dataset,
        "purposes": found.purposes,
        "recipients": found.recipients,
        "notice": found.notice,
        "legal_ground": found.legal_ground,
        "covers_earlier": found.covers_earlier,
        "given_by": "subject",
        "state": state,
        "valid_from": rfc3339(found.valid_from),
        "valid_until": None,
        "given_at": None,
        "resumed_at": None,
        "ended_at": rfc3339(now()),
    } | members


def named(told: dict[str, Any]) -> str:
    return f"{told['dataset']} {told['sref']} {told['id']}"


def test_each_kind_of_change_either_only_allows_or_is_remembered() -> None:
    assert set(KINDS) == FORBIDS | {"consent_resumed", "contract_resumed"}
    assert not FORBIDS & ONLY_ALLOWS


def test_a_kind_that_is_on_no_list_is_no_change(database: Database) -> None:
    with pytest.raises(ValueError, match="no kind"), database.transaction() as session:
        note(session, "something_else", "x")


def test_a_withdrawal_is_applied_again_with_one_change_and_one_entry(city: City) -> None:
    assert passes(city)
    told = left(only_record(city), "withdrawn")
    done = forgotten(city, ("consent_withdrawn", named(told), told), times=2)
    city.changes.apply()
    assert not passes(city)
    assert [(thing.kind, thing.change) for thing in done.reapplied] == [("consent_withdrawn", done.change - 1)]
    assert done.change == done.remembered + 2
    with city.database.reading() as session:
        rows = session.scalars(select(ChangeRow.kind).where(ChangeRow.n > done.remembered).order_by(ChangeRow.n)).all()
        entries = [entry for entry in session.scalars(select(AuditEntry.entry)) if b'"restored":"' in entry]
    assert rows == ["consent_withdrawn", "database_restored"]
    assert len(entries) == 1


def test_a_dry_run_writes_nothing(city: City) -> None:
    told = left(only_record(city), "withdrawn")
    done = forgotten(city, ("consent_withdrawn", named(told), told), dry_run=True)
    assert len(done.reapplied) == 1
    assert only_record(city).state == "given"
    with city.database.reading() as session:
        assert last(session) == done.before


def test_a_pause_that_was_taken_back_is_not_applied_again(city: City) -> None:
    found = only_record(city)
    paused, resumed = left(found, "paused"), left(found, "given")
    done = forgotten(city, ("consent_paused", named(paused), paused), ("consent_resumed", named(resumed), resumed))
    assert done.reapplied == []
    assert only_record(city).state == "given"


def test_an_objection_that_is_lost_is_made_again_and_holds_under_an_opt_out(city: City) -> None:
    told = left(only_record(city), "refused", id="cns_lost")
    done = forgotten(city, ("consent_refused", named(told), told), times=2)
    city.changes.apply()
    assert done.by_hand == []
    assert not passes(city, unless_opted_out=True)


def test_somebody_whom_the_database_no_longer_knows_is_named_by_their_record(city: City) -> None:
    told = left(only_record(city), "refused", id="cns_lost", sref=as_text(secrets.token_bytes(16)))
    done = forgotten(city, ("consent_refused", named(told), told))
    assert len(done.reapplied) == 1
    (sentence,) = done.by_hand
    assert "cns_lost" in sentence


def test_imported_refusals_are_made_again_by_one_change(city: City) -> None:
    found = only_record(city)
    told = [left(found, "refused", id=f"cns_{number}") for number in range(3)]
    done = forgotten(city, ("refusals_imported", "3", {"records": told}), times=2)
    assert len(done.reapplied) == 1
    with city.database.reading() as session:
        assert session.scalar(select(func.count()).where(ConsentRecord.change == done.reapplied[0].change)) == 3


@pytest.mark.parametrize("known", [True, False])
def test_an_erased_subject_is_erased_again_whether_the_database_knows_them_or_not(city: City, known: bool) -> None:  # noqa: FBT001
    found = only_record(city)
    sref = as_text(found.sref if known else secrets.token_bytes(16))
    withdrawn = left(found, "withdrawn", sref=sref)
    done = forgotten(city, ("consent_withdrawn", named(withdrawn), withdrawn), ("subject_erased", f"{FOOTFALL} {sref}", None), times=2)
    assert [thing.kind for thing in done.reapplied] == ["subject_erased"]
    with city.database.reading() as session:
        assert [as_text(gone) for gone in session.scalars(select(ErasedSubject.sref))] == [sref]
        assert session.scalar(select(func.count(ConsentRecord.id))) == (0 if known else 1)
    city.changes.apply()
    assert passes(city) is not known


def test_a_suspended_organization_and_a_removed_client_stay_out(city: City) -> None:
    done = forgotten(
        city,
        ("organization_changed", city.planner, {"standing": "suspended"}),
        ("client_revoked", city.provider, {"standing": "revoked"}),
        ("organization_changed", city.city, {"standing": "suspended"}),
        times=2,
    )
    assert len(done.reapplied) == 2, "who operates the exchange is never suspended"
    with city.database.reading() as session:
        assert session.get_one(Organization, city.planner).standing == "suspended"
        assert session.get_one(Client, city.provider).standing == "revoked"


def test_a_revoked_token_is_revoked_again_unless_its_time_is_over(city: City) -> None:
    good, over = ({"expires_at": rfc3339(now() + timedelta(seconds=seconds))} for seconds in (600, -1))
    done = forgotten(city, ("token_revoked", "tok_1", good), ("token_revoked", "tok_2", over), ("token_revoked", "tok_3", None), times=2)
    assert [thing.object for thing in done.reapplied] == ["tok_1"]
    with city.database.reading() as session:
        assert [row.id for row in session.scalars(select(RevokedToken))] == ["tok_1"]


def test_a_client_is_narrowed_and_never_widened(city: City) -> None:
    left_as = {
        "standing": "active",
        "scopes": ["events:read", "not:there"],
        "roles": ["operator"],
        "jwks": None,
        "key_id": None,
        "hash": None,
    }
    forgotten(city, ("client_changed", city.provider, left_as), times=2)
    with city.database.reading() as session:
        found = session.get_one(Client, city.provider)
        assert (found.scopes, found.roles) == (["events:read"], [])


def test_a_dataset_is_protected_as_it_was_and_a_lost_schema_version_is_named(city: City) -> None:
    protected = {"classification": "sensitive", "licence_revoked": True, "personal_pointers": ["/new"], "sealed_pointers": [], "current": 2}
    done = forgotten(city, ("dataset_changed", FOOTFALL, protected), times=2)
    with city.database.reading() as session:
        found = session.get_one(Dataset, FOOTFALL)
        assert (found.classification, found.licence_revoked) == ("sensitive", True)
        assert "/new" in found.personal_pointers
    assert any("schema version 2" in sentence for sentence in done.by_hand)


def test_a_policy_that_was_too_large_to_be_remembered_is_named(city: City) -> None:
    done = forgotten(city, ("policy_activated", "pol_lost", {"digest": "0" * 64, "files": None}))
    (sentence,) = done.by_hand
    assert "pol_lost" in sentence


def test_a_policy_that_two_persons_had_agreed_on_is_active_again_with_their_names(city: City) -> None:
    agreed = {"proposed_by": "per_one", "approved_by": "per_other"}
    told = {"digest": "0" * 64, "files": read_files(POLICIES), "agreed": agreed}
    done = forgotten(city, ("policy_activated", "pol_lost", told))
    assert done.by_hand == []
    with city.database.reading() as session:
        found = session.scalars(select(PolicyRevision)).one()
        assert (found.installed, found.proposed_by, found.approved_by) == (False, "per_one", "per_other")
        (entry,) = [text for text in session.scalars(select(AuditEntry.entry)) if b'"action":"activate"' in text]
    assert b'"approved_by":"per_other"' in entry


def test_another_history_under_the_same_numbers_went_back_too(city: City) -> None:
    told = left(only_record(city), "withdrawn")
    with city.database.reading() as session:
        taken = last(session)
    place = RememberedFile(city.settings.data_dir / "remembered.jsonl", Lines(city.keys.secret("remembered")))
    asyncio.run(place.append([Remembered(taken, "consent_withdrawn", named(told), forbids=True, redo=told, mark=True)]))
    done = forgotten(city)
    assert done.missing == 1
    assert only_record(city).state == "withdrawn"
    assert ANN not in str(done)


def test_a_revoked_registration_token_stays_revoked(city: City) -> None:
    at = now()
    with city.database.transaction() as session:
        token = RegistrationToken(
            id="rgt_1",
            organization_id=city.planner,
            hash=b"h",
            scopes=["catalog:read"],
            uses=2,
            used=1,
            approved=False,
            created_at=at,
            expires_at=at + timedelta(days=1),
        )
        session.add(token)
    forgotten(
        city,
        ("registration_token_revoked", "rgt_1", {"revoked": True}),
        ("registration_token_revoked", "rgt_2", {"revoked": True}),
        times=2,
    )
    with city.database.reading() as session:
        assert session.get_one(RegistrationToken, "rgt_1").revoked_at is not None


def test_an_overlap_that_was_ended_stays_ended(city: City) -> None:
    with city.database.transaction() as session:
        client = session.get_one(Client, city.provider)
        client.previous_until, client.previous_secret_id, client.previous_secret_hash = now() + timedelta(days=1), "sec_old", b"old"
        session.flush()
        left_as = {"standing": "active", "scopes": client.scopes, "roles": [], "jwks": None, "key_id": None, "hash": None}
    forgotten(city, ("client_changed", city.provider, left_as | {"jwks_uri": None, "secret_id": "sec_new", "previous": None}), times=2)
    with city.database.reading() as session:
        found = session.get_one(Client, city.provider)
        assert (found.previous_until, found.previous_secret_hash, found.secret_id) == (None, None, "sec_new")
