"""The composition root: every live object of the gateway is made here, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio.to_thread
import structlog
from fastapi import Depends, FastAPI
from prometheus_client import make_asgi_app
from sqlalchemy.orm import Session

from consent.index import ConsentIndex
from gateway import answers, operations
from gateway.access import api as access_api
from gateway.access import policies_api
from gateway.access.bundle_server import bundle_routes
from gateway.access.decide import Access
from gateway.access.decision import PolicyEngine
from gateway.access.desk import Desk
from gateway.access.embedded import EmbeddedEngine
from gateway.access.follow import Activation
from gateway.access.grounds import Grounds
from gateway.access.opa import OpaEngine
from gateway.access.preview import Previews
from gateway.audit import api as audit_api
from gateway.audit import published_log
from gateway.audit.denials import Denials
from gateway.audit.note import log_signer
from gateway.audit.release import AuditWriter
from gateway.audit.sequencer import Sequencer
from gateway.audit.tiles import Tiles
from gateway.audit.witness_policy import read_policy
from gateway.audit.witnesses import Witnesses
from gateway.barrier import api as barrier_api
from gateway.barrier.leases import Leases, Seat, lease_of
from gateway.barrier.protocol import ENDED_ITSELF
from gateway.barrier.replica import Replica
from gateway.barrier.wait import Barrier
from gateway.browser import security_headers
from gateway.catalog import api as catalog_api
from gateway.catalog.directory import Directory as Catalog
from gateway.changes import Changes, hold_the_only_seat
from gateway.consents import api as consents_api
from gateway.consents import erase
from gateway.console import api as console_api
from gateway.console.pages import Pages
from gateway.contracts import api as contracts_api
from gateway.contracts.directory import Directory as Contracts
from gateway.database import Database
from gateway.errors import ExchangeError
from gateway.http import refuse_other_media_types, refuse_unknown_query
from gateway.identity import api as identity_api
from gateway.identity import (
    oauth,
    persons_api,
    registration_api,
    registration_endpoints,
    sign_in_pages,
)
from gateway.identity.authorization_server import AuthorizationServer
from gateway.identity.browser_sessions import BrowserSessions
from gateway.identity.damping import Damping
from gateway.identity.directory import Directory as People
from gateway.identity.onboarding import asks_limit
from gateway.identity.proofs import Proofs
from gateway.identity.published_keys import PublishedKeys
from gateway.identity.registration import Registration
from gateway.key_encryption import KeyEncryptionKeys, private_signing_key
from gateway.keys import read_keys
from gateway.limits import Callers
from gateway.limits import Requests as Limits
from gateway.middleware import Requests
from gateway.notices import api as notices_api
from gateway.notices.feed import Feed
from gateway.outward import Outward
from gateway.remembered.follower import Follower
from gateway.remembered.guard import Guard
from gateway.remembered.open import open_place
from gateway.remembered.place import PlaceAway
from gateway.settings import Settings
from gateway.streams import api as streams_api
from gateway.streams.estimate import count_events
from gateway.streams.kafka_log import KafkaLog
from gateway.streams.live import Streams
from gateway.streams.log import EventLog, LogUnavailable
from gateway.streams.recover import recover_forever
from gateway.streams.sqlite_log import SQLiteLog
from gateway.subjects import api as subjects_api
from gateway.subjects.digest import Disclosures
from gateway.upkeep import expire_forever, tidy_forever

log = structlog.get_logger(__name__)

TOPIC_S = 15.0
CHECK_S = 4.0
"""How long a start waits for the place that remembers. After that it is asked again and again, and nothing is delivered before."""


def create_app(settings: Settings) -> FastAPI:
    """The gateway's application. Opens nothing but the key file; the lifespan starts and stops the rest.

    Raises `SettingsRefused`.
    """
    app = FastAPI(
        title="Civic Exchange",
        version=version("civic-exchange"),
        description="A city and its partners share live data under contracts, policy and consent.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    state = app.state
    state.settings = settings
    state.keys = read_keys(settings.resolved_key_file)
    state.keks = KeyEncryptionKeys.of(settings)
    state.pages = Pages(settings.issuer)
    state.database = Database(settings.resolved_database_url)
    state.changes = Changes(state.database)
    state.audit = AuditWriter(state.database, lambda: state.replica.lease())  # noqa: PLW0108 - the replica comes last
    state.tiles = Tiles(settings.resolved_audit_dir)
    state.sequencer = _sequencer(state)
    state.denials = Denials(state.audit)
    state.identity = People(settings.issuer, state.keys, state.keks)
    state.catalog = Catalog()
    state.contracts = Contracts()
    state.consents = ConsentIndex()
    state.notices = Feed()
    _set_up_policy(state)
    _open_the_door(state)
    state.log = _log(settings)
    state.disclosures = Disclosures(state.database)
    state.callers = Callers(settings.client_requests_per_minute, settings.organization_requests_per_minute)
    state.damping = Damping(settings.failed_logins_per_minute)
    state.withdrawals = Limits(settings.withdrawals_per_minute, "withdrawals")
    state.sessions_limit = Limits(settings.sessions_per_minute, "sessions")
    state.streams = _streams(state)
    _stand_at_the_barrier(state)
    _set_the_desk(state)
    place = open_place(settings, state.keys, state.database, state.log)
    state.follower = Follower(state.database, place, went_back=lambda: _stand_back(state), whole_again=_begin_anew)
    # The order matters: what is known first, then what was decided from it, then what was judged by that, then who is told.
    known = (state.identity, state.catalog, state.contracts, state.consents)
    for room in (*known, state.activation, state.access, state.grounds, state.streams, state.notices):
        state.changes.listen(room.on_changes)
    _routes(app)
    return app


def _sequencer(state: Any) -> Sequencer:
    """Raises `SettingsRefused` if the file of witnesses is none."""
    signer, file = log_signer(state.keys, state.keks, state.settings), state.settings.audit_witnesses
    witnesses = Witnesses(read_policy(file, signer.verifier), state.tiles) if file is not None else None
    return Sequencer(state.database, state.tiles, signer, witnesses)


def _set_up_policy(state: Any) -> None:
    settings: Settings = state.settings
    state.seat = Seat.at(settings.host, settings.port)
    state.engine = _engine(settings)
    state.access = Access(state.engine, state.database, state.identity, state.catalog, state.denials)
    key = partial(private_signing_key, state.keys, state.keks, "policy_bundle")
    state.activation = Activation(state.engine, state.database, key, state.seat.id, state.access.switch.has)
    state.grounds = Grounds(state.access)


def _set_the_desk(state: Any) -> None:
    """What officers do with policy, over all the rest."""
    count = partial(count_events, state.streams)
    state.desk = Desk(state.settings, state.database, state.barrier, state.identity, state.catalog, state.contracts, count)
    state.previews = Previews(state.desk)


def _open_the_door(state: Any) -> None:
    """Those who find out who calls, and let new ones in."""
    state.proofs = Proofs(state.settings.issuer, state.keys.secret("dpop_nonce"), state.database)
    outward = Outward(networks=state.settings.networks, plain_http=state.settings.development)
    state.published_keys = PublishedKeys(outward)
    state.authorization = AuthorizationServer(
        state.settings,
        state.keys,
        state.database,
        state.identity,
        state.contracts.parties,
        state.proofs,
        state.published_keys,
    )
    state.browsers = BrowserSessions(state.settings, state.keys, state.database, state.identity, state.authorization.people)
    state.registration = Registration(state.database, state.keys, outward, state.published_keys)
    state.registrations_limit = Limits(state.settings.registrations_per_minute, "registrations")
    state.asks_limit = asks_limit()


def _streams(state: Any) -> Streams:
    return Streams(
        settings=state.settings,
        keys=state.keys,
        keks=state.keks,
        database=state.database,
        changes=state.changes,
        event_log=state.log,
        audit=state.audit,
        catalog=state.catalog,
        contracts=state.contracts,
        access=state.access,
        consents=state.consents,
        disclosures=state.disclosures,
    )


def _stand_at_the_barrier(state: Any) -> None:
    settings: Settings = state.settings
    state.leases = Leases(state.database, lease_of(state.database, settings.lease_s))
    seat: Seat = state.seat
    state.replica = Replica(state.leases, seat, state.changes, state.streams.outbound)
    # Who fences a replica looks for what it published and could not write down any more.
    gate = state.streams.gate
    state.barrier = Barrier(state.leases, state.audit.append, by=seat.id, on_fenced=gate.something_may_lack_its_entry)


def _stand_back(state: Any) -> None:
    """The database lacks what was forbidden: nothing more is delivered from what is known of it."""
    state.streams.outbound.abort_all()
    state.streams.stop_streams()


def _begin_anew() -> None:
    """The database was restored while this process had another history in memory: the next one starts from the database."""
    sys.stderr.flush()
    os._exit(ENDED_ITSELF)


def create_admin_app(app: FastAPI) -> FastAPI:
    """Metrics, and the policy bundle for OPA: for the private address, whatever the gateway's readiness."""
    admin = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    admin.mount("/metrics", make_asgi_app())
    if isinstance(app.state.engine, OpaEngine):
        admin.include_router(bundle_routes(app.state.engine.bundles, app.state.settings.policy_token.get_secret_value()))
    return admin


def let_go(app: FastAPI) -> None:
    """Answer all who wait, because the process is about to end: streams, long polls, and OPA, which waits for a bundle."""
    app.state.streams.stop_streams()
    app.state.contracts.stop()
    app.state.notices.stop()
    if isinstance(app.state.engine, OpaEngine):
        app.state.engine.bundles.close()


def _engine(settings: Settings) -> PolicyEngine:
    if settings.policy_url:
        return OpaEngine(settings.policy_url, settings.policy_token.get_secret_value())
    return EmbeddedEngine()


def _log(settings: Settings) -> EventLog:
    if settings.log_url:
        return KafkaLog(settings.log_url.removeprefix("kafka://"))
    return SQLiteLog(settings.data_dir / "log.db")


def _routes(app: FastAPI) -> None:
    answers.answer_errors(app)
    strict = [Depends(refuse_unknown_query), Depends(refuse_other_media_types)]
    # Routes are tried in order: those of the stream plane, which are asked for most, stand first.
    app.include_router(streams_api.publishing, dependencies=strict)
    app.include_router(streams_api.router, dependencies=strict)
    people = (identity_api, persons_api, registration_api, consents_api, erase, subjects_api)
    stored = (catalog_api, access_api, policies_api, contracts_api, notices_api, audit_api, published_log, barrier_api)
    for room in (*people, *stored, console_api, operations):
        app.include_router(room.router, dependencies=strict)
    # OAuth's endpoints, and that to which a provider sends people back, ignore unknown parameters, as their RFCs ask.
    for others in (oauth, registration_endpoints, sign_in_pages, answers):
        app.include_router(others.router)
    operations.serve_documentation(app)
    app.add_middleware(Guard, standing=lambda: app.state.follower.standing)
    app.add_middleware(Requests, in_flight=app.state.streams.in_flight, headers=security_headers(app.state.settings))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    leave = await anyio.to_thread.run_sync(hold_the_only_seat, state.database)
    try:
        await _check_the_database(state)
    except BaseException:
        leave()
        raise
    state.audit.start()
    state.sequencer.start()
    state.denials.start()
    state.disclosures.start()
    await anyio.to_thread.run_sync(state.changes.start, lambda session: _load(app, session))
    # After this process has applied what it forbids, that is remembered elsewhere too, and it waits for the others.
    state.database.after_commit.append(state.follower.committed)
    state.barrier.places.start()
    state.barrier.start()
    state.database.after_commit.append(state.barrier.wait_for_last)
    await state.streams.start()
    state.make_topic = _topic_maker(state.log, asyncio.get_running_loop())
    state.activation.start()
    await state.replica.start()
    tasks = [
        asyncio.create_task(recover_forever(state.streams)),
        asyncio.create_task(expire_forever(app)),
        asyncio.create_task(tidy_forever(app)),
        asyncio.create_task(state.follower.run()),
    ]
    log.info("started", environment=state.settings.environment, change=state.changes.applied)
    try:
        yield
    finally:
        await state.follower.stop()
        for task in tasks:
            task.cancel()
        let_go(app)
        with suppress(TimeoutError):
            await state.streams.stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        await state.log.stop()
        await anyio.to_thread.run_sync(_stop, state, leave)
        log.info("stopped")


async def _check_the_database(state: Any) -> None:
    """Raises `DatabaseWentBack`. A place that is away stops no start: it is held against the database before anything is delivered."""
    await state.log.start()
    try:
        async with asyncio.timeout(CHECK_S):
            await state.follower.check()
    except (PlaceAway, TimeoutError) as error:
        log.warning("not_held_against_what_is_remembered", reason=str(error) or type(error).__name__)
    finally:
        await state.log.stop()


def _load(app: FastAPI, session: Session) -> None:
    state = app.state
    for room in (state.identity, state.catalog, state.contracts, state.consents, state.access, state.streams):
        room.load(session)


def _stop(state: Any, leave: Any) -> None:
    state.activation.stop()
    state.previews.stop()
    state.denials.stop()
    state.disclosures.stop()
    state.audit.stop()
    state.sequencer.stop()
    state.replica.stop()
    state.changes.stop()
    state.barrier.stop()
    state.engine.close()
    leave()
    state.leases.close()
    state.database.close()


def _topic_maker(event_log: EventLog, loop: asyncio.AbstractEventLoop) -> Any:
    """What the catalogue calls from its worker thread: (name, partitions, retention in ms) -> topic id. Raises `log_unavailable`."""

    def make_topic(name: str, partitions: int, retention_ms: int | None) -> str:
        making = asyncio.run_coroutine_threadsafe(event_log.ensure_topic(name, partitions=partitions, retention_ms=retention_ms), loop)
        try:
            return making.result(TOPIC_S).id
        except (LogUnavailable, TimeoutError) as error:
            making.cancel()
            raise ExchangeError("log_unavailable", headers={"Retry-After": "2"}) from error

    return make_topic
