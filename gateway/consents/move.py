"""Move: what happens to a record after it was made. `consent.states` says which state may follow which, and by whose act.

Whatever stops events waits, once it is durable, until nothing that it forbids can leave any more; it needs the database and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from consent.models import ConsentRecord
from consent.records import Act, histories, locked, move, name_of
from consent.states import By, IllegalMove, State, require_move
from consent.subjects import as_text
from gateway.audit.record import record
from gateway.barrier.wait import Barrier
from gateway.catalog.directory import Directory as Catalog
from gateway.changes import note
from gateway.consents.give import entry_of
from gateway.consents.receipts import Receipts
from gateway.consents.still_shared import still_shared
from gateway.consents.visible import owner_of, visible
from gateway.database import Database, now, rfc3339
from gateway.errors import ExchangeError
from gateway.identity.principal import Principal

Find = Callable[[Session], ConsentRecord]
"""The record that is meant, held until the transaction ends; raises `not_found`."""


@dataclass(frozen=True, slots=True)
class Told:
    """An act as it was told: whose, why, and what shows it."""

    by: By
    reason: str | None = None
    evidence: dict[str, str] | None = None


def by_id(consent_id: str, caller: Principal, catalog: Catalog) -> Find:
    """The record of this identifier, if the caller may see it."""
    return lambda session: visible(locked(session, consent_id), caller, catalog)


def by_code(hashed: bytes | None) -> Find:
    """The record of this withdrawal code. A code that was never made and one that is no code are answered alike."""

    def find(session: Session) -> ConsentRecord:
        found = session.scalars(select(ConsentRecord).where(ConsentRecord.code_hash == (hashed or b"")).with_for_update()).one_or_none()
        if found is None:
            raise ExchangeError("not_found", "There is no consent with this withdrawal code.")
        return found

    return find


def office_of(caller: Principal, found: ConsentRecord, catalog: Catalog) -> By:
    """As whom a client acts that does not bring a person's word: for the dataset's owner, or for the city."""
    return "provider" if owner_of(found, catalog) == caller.organization_id else "officer"


def require_owner(caller: Principal, found: ConsentRecord, catalog: Catalog) -> None:
    """Raises `role_missing` for the officer, who stops what others have given, and gives nothing in a person's place."""
    if owner_of(found, catalog) != caller.organization_id:
        raise ExchangeError("role_missing", "Only the person says so, to the owner of the dataset.")


def moved(session: Session, found: ConsentRecord, wanted: State, caller: Principal | None, state: Any, told: Told) -> None:
    """Move a record that is held, and write it down. Raises `illegal_state`."""
    try:
        require_move(found.state, wanted, told.by)
    except IllegalMove as error:
        raise illegal(error) from error
    action = "resumed" if wanted == "given" and found.given_at is not None else wanted
    change = note(session, f"consent_{action}", name_of(found))
    client = caller.actor if caller else None
    act = Act(by=told.by, at=now(), change=change, client=client, reason=told.reason, evidence=told.evidence)
    move(session, found, wanted, act)
    record(session, entry_of(action, found, caller, owner_of(found, state.catalog), told.by))


def stop(state: Any, find: Find, wanted: State, caller: Principal | None, told: Callable[[ConsentRecord], Told]) -> dict[str, Any]:
    """Bring a record to a state in which it lets nothing pass: {state, effective_at, still_shared, barrier}.

    Repeating it answers the same. Who holds a code (no caller) is told the state of a record that has ended otherwise.
    Raises `not_found`, `illegal_state`, `barrier_pending`, `database_unavailable`.
    """
    database: Database = state.database
    with database.transaction() as session:
        found = find(session)
        if found.state != wanted and not (caller is None and found.ended_at is not None):
            moved(session, found, wanted, caller, state, told(found))
        change = found.change
    barrier = wait_until_passed(state, change)
    with database.reading() as session:
        going_on = still_shared(session, state, found.dataset, as_text(found.sref))
        since = _since(session, found)
    return {"state": found.state, "effective_at": rfc3339(since), "still_shared": going_on, "barrier": barrier}


def wait_until_passed(state: Any, change: int) -> dict[str, int]:
    """Return once nothing that this change forbids can leave any replica: {change, replicas, waited_ms}.

    Raises `barrier_pending` if one of them has not said so in time; the change is stored all the same, and repeating the call waits on.
    """
    barrier: Barrier = state.barrier
    return asdict(barrier.wait(change))


def allow(session: Session, state: Any, find: Find, was: State, caller: Principal, told: Told) -> tuple[ConsentRecord, str | None]:
    """Bring a record that `was` requested or paused to `given`: the record, and the withdrawal code of one that is newly given.

    Raises `not_found`, `role_missing`, `illegal_state`.
    """
    found = find(session)
    require_owner(caller, found, state.catalog)
    if found.state == "given" and (found.resumed_at is not None) == (was == "paused"):
        return found, None  # it was told twice
    if found.state != was:
        raise illegal(IllegalMove(found.state, "given", told.by))
    moved(session, found, "given", caller, state, told)
    if was == "paused":
        return found, None
    code, (found.code_key_id, found.code_hash) = Receipts(state).code()
    session.flush()
    return found, code


def illegal(error: IllegalMove) -> ExchangeError:
    """The problem: the states that may follow, or that none does."""
    hint = f"What may follow: {', '.join(error.legal)}." if error.legal else "This record has ended; a new consent is a new record."
    return ExchangeError("illegal_state", f"The record is {error.state}.", hint=hint, legal=error.legal)


def _since(session: Session, found: ConsentRecord) -> datetime:
    return found.ended_at or histories(session, [found.id])[found.id][-1].at
