"""Restore: apply again what was forbidden and the database has lost, then carry its counter past what is remembered.

Each thing in a transaction of its own, by the state that it finds: what was interrupted is begun anew and does nothing twice. Until
the last change is written, and remembered, gateways refuse the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
from sqlalchemy import update
from sqlalchemy.orm import Session

from consent.erasure import erased_by
from gateway.app import create_app
from gateway.audit.adopt import adopt
from gateway.audit.record import Entry, record
from gateway.audit.sequence import LogStopped
from gateway.changes import Counter, hold_the_only_seat, last, note
from gateway.database import Database, new_id
from gateway.errors import SettingsRefused
from gateway.keys import Keys
from gateway.remembered.follower import Follower
from gateway.remembered.kinds import RESTORED, together
from gateway.remembered.place import Place, PlaceAway, Remembered
from gateway.remembered.redoing import Outcome, Redoing
from gateway.remembered.standing import lacking
from gateway.settings import Settings
from gateway.streams.log import EventLog

Progress = Callable[[int, int], object]
"""(done, of all), in things."""


@dataclass(frozen=True, slots=True)
class Reapplied:
    """A thing that was brought to where it was left: by which change it had come there, and by which it did now (dry run: None)."""

    was: int
    kind: str
    object: str
    change: int | None


@dataclass(slots=True)
class Restored:
    """What a restoration found and did. `missing` counts what the database lacked of what is remembered; 0: nothing was to be done.

    `change` is the number of the last change now; `adopted` counts the entries of the audit log that are published and lost, whose leaves
    the database has again. With `dry_run` all was tried and nothing was written.
    """

    dry_run: bool
    before: int = 0
    remembered: int = 0
    missing: int = 0
    change: int = 0
    adopted: int = 0
    reapplied: list[Reapplied] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)


class _DryRun(Exception):
    """Rolls a transaction back that was only to be tried."""


def restore(settings: Settings, *, dry_run: bool, progress: Progress) -> Restored:
    """Restore the exchange's database; on SQLite no gateway may serve it meanwhile.

    Raises `SettingsRefused` if the place that remembers does not answer, `AnotherGatewayIsLive`, `database_unavailable`.
    """
    app = create_app(settings)
    state = app.state
    leave = hold_the_only_seat(state.database)
    try:
        return asyncio.run(_restore(state, dry_run=dry_run, progress=progress))
    except PlaceAway as error:
        place: Place = state.follower.place
        raise SettingsRefused(f"{place.where} does not answer, and without it nobody knows what was forbidden: {error}") from error
    finally:
        leave()
        state.engine.close()
        state.leases.close()
        state.database.close()


async def _restore(state: Any, *, dry_run: bool, progress: Progress) -> Restored:
    event_log: EventLog = state.log
    await event_log.start()
    try:
        done = await redo(state.database, state.keys, state.follower.place, dry_run=dry_run, progress=progress)
        await anyio.to_thread.run_sync(_adopt, state, done)
        return done
    finally:
        await event_log.stop()


async def redo(database: Database, keys: Keys, place: Place, *, dry_run: bool, progress: Progress) -> Restored:
    """Bring this database to where the place remembers that it was. Raises `PlaceAway`, `database_unavailable`."""
    entries = [entry async for entry in place.everything()]
    done = Restored(dry_run, remembered=max((entry.n for entry in entries), default=0))
    missing = await anyio.to_thread.run_sync(_look, database, entries, done)
    if not missing:
        return done
    await anyio.to_thread.run_sync(_redo_all, database, keys, missing, done, progress)
    if not dry_run:
        await anyio.to_thread.run_sync(_finish, database, done)
        follower = Follower(database, place)
        follower.begin_at(done.remembered)
        await follower.carry()
    return done


def _look(database: Database, entries: list[Remembered], done: Restored) -> list[Remembered]:
    with database.reading() as session:
        done.before = done.change = last(session)
        missing = lacking(session, entries)
    done.missing = len({entry.n for entry in missing})
    return missing


def _redo_all(database: Database, keys: Keys, missing: list[Remembered], done: Restored, progress: Progress) -> None:
    """What is applied again gets numbers after all that are remembered, in whatever history."""
    with _transaction(database, dry_run=done.dry_run) as session:
        session.execute(update(Counter).where(Counter.id == 1, Counter.n < done.remembered).values(n=done.remembered))
    erased, things = frozenset(erased_by(missing)), together(missing)
    for place, (kind, entries) in enumerate(things, 1):
        with _transaction(database, dry_run=done.dry_run) as session:
            outcome = kind.reapply(Redoing(session, keys, erased), entries)
        _keep(done, entries[-1], outcome)
        progress(place, len(things))


def _keep(done: Restored, entry: Remembered, outcome: Outcome) -> None:
    if outcome.change is not None:
        done.reapplied.append(Reapplied(entry.n, entry.kind, entry.object, None if done.dry_run else outcome.change))
    done.by_hand += outcome.by_hand


def _finish(database: Database, done: Restored) -> None:
    with database.transaction() as session:
        done.change = note(session, RESTORED, new_id("rst"))
        detail = {
            "before": str(done.before),
            "remembered": str(done.remembered),
            "missing": str(done.missing),
            "reapplied": str(len(done.reapplied)),
            "by_hand": str(len(done.by_hand)),
        }
        record(session, Entry(kind="database", action="restored", change=done.change, detail=detail))


def _adopt(state: Any, done: Restored) -> None:
    """Let the audit log go on from what is published."""
    try:
        with _transaction(state.database, dry_run=done.dry_run) as session:
            done.adopted = adopt(session, state.tiles, state.sequencer.signer.verifier)
            if done.adopted:
                record(session, Entry(kind="database", action="log_adopted", detail={"entries": str(done.adopted)}))
    except LogStopped as error:
        done.by_hand.append(f"the audit log: {error}")


@contextmanager
def _transaction(database: Database, *, dry_run: bool) -> Iterator[Session]:
    try:
        with database.transaction() as session:
            yield session
            if dry_run:
                session.flush()
                raise _DryRun
    except _DryRun:
        return
