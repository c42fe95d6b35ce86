"""What is wrong with an exchange, and how to mend it: one finding a part, each made by trying the part itself."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import httpx2
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from fastapi import FastAPI
from sqlalchemy import func, not_, select
from sqlalchemy.exc import SQLAlchemyError

from consent.sealing import SubjectKey
from gateway.access import revisions
from gateway.access.bundle import NAME
from gateway.access.decision import ENTRYPOINT, PolicyUnavailable
from gateway.access.models import PolicyRevision
from gateway.app import create_app
from gateway.audit.models import AuditEntry
from gateway.audit.publish import hold_against, read_published
from gateway.audit.sequence import LogStopped, look
from gateway.audit.sequencer import Sequencer
from gateway.barrier.models import Lease
from gateway.changes import hold_the_only_seat, last
from gateway.database import now
from gateway.errors import AnotherGatewayIsLive, ExchangeError, SettingsRefused
from gateway.key_encryption import private_signing_key
from gateway.keys import AUDIT_LOG, Keys
from gateway.remembered.place import Place, PlaceAway
from gateway.remembered.standing import DatabaseWentBack, reached, require_whole
from gateway.resources import ROOT
from gateway.settings import Settings
from gateway.streams.log import LogUnavailable

FREE_BYTES = 1024**3
"""Less free disk than this is a finding: a full disk stops publishing."""
CLOCK_SECONDS = 2.0
"""Tokens, signatures and the audit log bear so much difference between clocks."""
ANSWER_SECONDS = 5.0
FOLLOWS_SECONDS = 2.5
"""In which a gateway has written a change to the place that remembers."""
NOBODY = "none is at work on this database: `exchange serve` starts one"


@dataclass(frozen=True, slots=True)
class Finding:
    """A part, whether it is well, and one line: what it is, or what is wrong and how to mend it."""

    part: str
    well: bool
    says: str


def examine(settings: Settings, *, least_free: int = FREE_BYTES) -> Iterator[Finding]:
    """Try each part. What rests on a part that is not well is not tried. `least_free` is in bytes of disk."""
    engines = "the embedded engines: one machine, not for production" if settings.embedded else "engines of their own"
    yield Finding("settings", True, f"{settings.environment}, issuer {settings.issuer}, {engines}")
    yield _disk(settings, least_free)
    try:
        app = create_app(settings)
    except SettingsRefused as refused:
        yield Finding("keys", False, str(refused))
        return
    yield _keys(app)
    try:
        database = _database(app)
        yield database
        if database.well:
            yield from (look(app) for look in (_gateway, _clock, _policy, _sealing, _audit_log))
            yield asyncio.run(_memory(app))
        yield asyncio.run(_log(app))
    finally:
        app.state.engine.close()
        app.state.database.close()


def _disk(settings: Settings, least_free: int) -> Finding:
    folder = next(place for place in (settings.data_dir.absolute(), *settings.data_dir.absolute().parents) if place.exists())
    free = shutil.disk_usage(folder).free
    if free < least_free:
        return Finding("disk", False, f"{free // 2**20} MiB are free at {folder}: make room, or publishing will stop.")
    return Finding("disk", True, f"{free // 2**30} GiB free at {folder}")


def _database(app: FastAPI) -> Finding:
    try:
        with app.state.database.engine.connect() as connection:
            at = MigrationContext.configure(connection).get_current_revision()
    except (ExchangeError, SQLAlchemyError) as error:
        return Finding("database", False, f"does not answer ({type(error).__name__}): start it, and see EXCHANGE_DATABASE_URL.")
    head = ScriptDirectory(str(ROOT / "gateway" / "migrations")).get_current_head()
    if at is None:
        return Finding("database", False, "is empty: run `exchange setup`.")
    if at != head:
        return Finding("database", False, f"is at {at}, this version needs {head}: run `exchange migrate`.")
    return Finding("database", True, f"{app.state.database.engine.dialect.name}, at {at}")


def _gateway(app: FastAPI) -> Finding:
    settings: Settings = app.state.settings
    if app.state.database.engine.dialect.name != "sqlite":
        return _replicas(app)
    address = f"http://{settings.host}:{settings.port}"
    try:
        hold_the_only_seat(app.state.database)()
    except AnotherGatewayIsLive:
        if _answers(f"{address}/readyz"):
            return Finding("gateway", True, f"is at work and ready at {address}")
        return Finding(
            "gateway", False, f"another_gateway_is_live: one holds this database and is not ready at {address}. See its log, or stop it."
        )
    return Finding("gateway", True, NOBODY)


def _replicas(app: FastAPI) -> Finding:
    with app.state.database.reading() as session:
        leases = session.scalars(select(Lease).where(not_(Lease.fenced)).order_by(Lease.id)).all()
    live = {lease.id for lease in leases if lease.state(now()) == "live"}
    silent = sorted({lease.id for lease in leases} - live)  # of one that was started again the lease before says nothing
    if silent:
        return Finding("gateway", False, f"silent: {', '.join(silent)}. See its log; whoever forbids something next waits, and fences it.")
    return Finding("gateway", True, f"at work: {', '.join(sorted(live))}" if live else NOBODY)


def _clock(app: FastAPI) -> Finding:
    database = app.state.database
    with database.reading() as session:
        if database.engine.dialect.name == "postgresql":
            other: datetime | None = session.execute(select(func.clock_timestamp())).scalar_one()
            whose = "the database's"
        else:
            other = session.execute(select(func.max(AuditEntry.at))).scalar_one()
            whose = "the newest audit entry"
    ahead = (other - now()).total_seconds() if other is not None else 0.0
    if ahead > CLOCK_SECONDS or (whose == "the database's" and ahead < -CLOCK_SECONDS):
        return Finding("clock", False, f"{whose} is {ahead:+.1f} s from this machine's: let both follow one time server (NTP).")
    return Finding("clock", True, f"agrees with {whose}")


def _keys(app: FastAPI) -> Finding:
    settings: Settings = app.state.settings
    keys: Keys = app.state.keys
    says = f"{settings.resolved_key_file} has every key and is its owner's alone"
    away = {wrapped.kek_id for wrapped in keys.wrapped.values() if app.state.keks.find(wrapped.kek_id) is None}
    if away:
        return Finding("keys", False, f"private keys are encrypted under {', '.join(sorted(away))}, which does not come: nothing is signed")
    in_clear = {*keys.signing, AUDIT_LOG} - keys.wrapped.keys()
    if in_clear and app.state.keks.elsewhere:
        mend = "`exchange keys rotate-kek` encrypts them"
        return Finding("keys", False, f"{says}, but private keys are in clear there, for {', '.join(sorted(in_clear))}: {mend}.")
    return Finding("keys", True, f"{says}; private keys are {'in clear' if in_clear else 'encrypted'} there")


def _sealing(app: FastAPI) -> Finding:
    with app.state.database.reading() as session:
        wrapped = session.execute(select(SubjectKey.kek_id, func.count()).group_by(SubjectKey.kek_id).order_by(SubjectKey.kek_id)).all()
    away = [f"{kek_id}, which wraps {count}" for kek_id, count in wrapped if app.state.keks.find(kek_id) is None]
    if away:
        mend = "Readers and publishers wait for it: bring it back; if it is lost for good, see `exchange keys give-up-lost --help`."
        return Finding("sealing", False, f"a key-encryption key is away: {'; '.join(away)}. {mend}")
    return Finding("sealing", True, f"every key-encryption key is there; {sum(count for _, count in wrapped)} keys of people are wrapped")


def _audit_log(app: FastAPI) -> Finding:
    """Whether what is published and the database are one history, and whether witnesses have seen it."""
    sequencer: Sequencer = app.state.sequencer
    try:
        published = read_published(sequencer.tiles, sequencer.signer.verifier)
        with app.state.database.reading() as session:
            tree = look(session)
        hold_against(published, tree)
        state = sequencer.state
    except (LogStopped, OSError) as error:
        mend = "No gateway signs more. After a restored database run `exchange restore`; else find out who changed what."
        return Finding("audit log", False, f"{str(error) or type(error).__name__}. {mend}")
    if state == "quorum_missing":
        return Finding("audit log", False, f"{published.size} entries are published, without the quorum of witnesses: see who is away.")
    return Finding("audit log", True, f"{published.size} entries are published at {sequencer.tiles.folder}")


def _policy(app: FastAPI) -> Finding:
    with app.state.database.reading() as session:
        revision = revisions.active(session)
    if revision is None:
        return Finding("policy", False, "no revision is active, so everything is denied: run `exchange setup`.")
    try:
        (_ask_opa if app.state.settings.policy_url else _try_embedded)(app, revision)
    except (PolicyUnavailable, httpx2.HTTPError, SettingsRefused, ExchangeError) as error:
        return Finding("policy", False, f"everything is denied: {str(error) or type(error).__name__}")
    return Finding("policy", True, f"{revision.id} answers")


def _try_embedded(app: FastAPI, revision: PolicyRevision) -> None:
    key = private_signing_key(app.state.keys, app.state.keks, "policy_bundle")
    app.state.engine.activate(revision.id, revisions.bundle_of(revision, key))


def _ask_opa(app: FastAPI, revision: PolicyRevision) -> None:
    settings: Settings = app.state.settings
    headers = {"Authorization": f"Bearer {settings.policy_token.get_secret_value()}"}
    url = f"{settings.policy_url}/v1/data/{ENTRYPOINT}?provenance=true"
    answer = httpx2.post(url, json={"input": {}}, headers=headers, timeout=ANSWER_SECONDS, trust_env=False)
    if answer.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        raise PolicyUnavailable("OPA does not know EXCHANGE_POLICY_TOKEN: see its tokens.json.")
    answer.raise_for_status()
    has = answer.json().get("provenance", {}).get("bundles", {}).get(NAME, {}).get("revision")
    if has != revision.id:
        raise PolicyUnavailable(
            f"OPA has {has or 'no revision'}, active is {revision.id}: it fetches that from a gateway that is up; see OPA's log."
        )


async def _log(app: FastAPI) -> Finding:
    where = app.state.settings.log_url or "the SQLite log"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await app.state.log.start()
            try:
                await app.state.log.ping()
            finally:
                await app.state.log.stop()
    except (LogUnavailable, TimeoutError, OSError) as error:
        return Finding(
            "log",
            False,
            f"{where} does not answer ({type(error).__name__}): publishing and reading answer 503. Start it, and see EXCHANGE_LOG_URL.",
        )
    return Finding("log", True, f"{where} answers")


async def _memory(app: FastAPI) -> Finding:
    """What is remembered outside the database: whether the database has it, and how far it is behind."""
    place: Place = app.state.follower.place
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await app.state.log.start()
            try:
                behind = await _behind(app, place)
                if behind and _somebody_is_at_work(app):  # who is done with it by then
                    await asyncio.sleep(FOLLOWS_SECONDS)
                    behind = await _behind(app, place)
            finally:
                await app.state.log.stop()
    except DatabaseWentBack as error:
        return Finding("memory", False, str(error))
    except (PlaceAway, SettingsRefused, TimeoutError, OSError) as error:
        mend = "what is forbidden takes effect, but a database restored from a dump would not know it. Mend the log."
        return Finding("memory", False, f"{place.where} does not answer ({type(error).__name__}): {mend}")
    if behind and _somebody_is_at_work(app):
        return Finding("memory", False, f"{place.where} lacks {behind} changes, and nobody writes them there: see the gateway's log.")
    lag = f"; {behind} changes wait for a gateway, which writes them there" if behind else ""
    return Finding("memory", True, f"{place.where} remembers what was forbidden{lag}")


async def _behind(app: FastAPI, place: Place) -> int:
    """Changes that are not remembered yet. Raises `DatabaseWentBack`, `PlaceAway`."""
    tail = await place.tail()
    with app.state.database.reading() as session:
        require_whole(session, place.where, tail)
        return max(0, last(session) - reached(tail))


def _somebody_is_at_work(app: FastAPI) -> bool:
    with app.state.database.reading() as session:
        leases = session.scalars(select(Lease).where(not_(Lease.fenced))).all()
    if app.state.database.engine.dialect.name == "sqlite":  # where a lease does not run out
        return bool(leases) and _answers(f"http://{app.state.settings.host}:{app.state.settings.port}/readyz")
    return any(lease.state(now()) == "live" for lease in leases)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=ANSWER_SECONDS, trust_env=False).is_success
    except httpx2.HTTPError:
        return False
