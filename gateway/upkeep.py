"""Upkeep: what a gateway does now and then by itself, whoever asks: what is over ends, what was kept long enough is deleted."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import anyio.to_thread
import structlog
from fastapi import FastAPI

from gateway.consents import expiry as consents_expiry
from gateway.contracts.expiry import expire_due
from gateway.contracts.unacknowledged import any_overdue, suspend_overdue
from gateway.database import Database, now
from gateway.identity import onboarding, registration_tokens, sign_ins, signing_keys
from gateway.notices.feed import forget_old
from gateway.settings import Settings
from gateway.subjects import codes, digest

log = structlog.get_logger(__name__)

EXPIRY_S = 2.0
TIDY_S = 30.0


async def expire_contracts(app: FastAPI) -> None:
    """End contracts and consents whose time is over. Their events have stopped to the second; this writes it down."""
    while True:
        await asyncio.sleep(EXPIRY_S)
        try:
            await anyio.to_thread.run_sync(_expire, app)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("expiry_waits", reason=type(error).__name__)


def _expire(app: FastAPI) -> None:
    database: Database = app.state.database
    if app.state.contracts.any_due(now()):
        with database.transaction() as session:
            expire_due(session, now())
    with database.reading() as session:
        consents_due = consents_expiry.any_due(session, now())
    if app.state.identity.signing.any_due(now()):
        with database.transaction() as session:
            signing_keys.step(session, now(), token_lifetime_s=app.state.settings.token_lifetime_s)
    if consents_due:
        with database.transaction() as session:
            consents_expiry.expire_due(session, now())


async def tidy(app: FastAPI) -> None:
    """Now and then: suspend those who leave an erasure unacknowledged, and delete what has been kept long enough."""
    while True:
        await asyncio.sleep(TIDY_S)
        try:
            await anyio.to_thread.run_sync(_tidy_up, app.state.database, app.state.settings)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("tidying_waits", reason=type(error).__name__)


def _tidy_up(database: Database, settings: Settings) -> None:
    at = now()
    with database.reading() as session:
        overdue = any_overdue(session, at)
    if overdue:
        with database.transaction() as session:
            suspend_overdue(session, at)
    with database.transaction() as session:
        forget_old(session, at - timedelta(days=settings.notices_days))
        codes.forget_expired(session, at)
        onboarding.forget_old(session, at)
        registration_tokens.forget_old(session, at - timedelta(days=30))
        sign_ins.forget_old(session)
        digest.forget_old(session, (at - timedelta(days=settings.disclosures_days)).date())
