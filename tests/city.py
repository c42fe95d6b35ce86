"""A small city for tests of the rooms that need neither log nor policy: real database, directories, tokens and routes."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import Depends, FastAPI
from joserfc import jwt
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from consent.index import ConsentIndex
from gateway.answers import answer_errors
from gateway.audit import api as audit_api
from gateway.audit import published_log
from gateway.audit.record import Entry, record
from gateway.audit.tiles import Tiles
from gateway.barrier.leases import Leases, Seat
from gateway.barrier.replica import Replica
from gateway.barrier.wait import Barrier
from gateway.catalog.directory import Directory as Catalog
from gateway.catalog.models import Dataset, SchemaVersion
from gateway.changes import Changes
from gateway.consents import api as consents_api
from gateway.consents import erase
from gateway.contracts.directory import Directory as Contracts
from gateway.database import Database, new_id, now
from gateway.http import refuse_unknown_query
from gateway.identity.directory import Directory
from gateway.identity.models import Client, Organization
from gateway.identity.scopes import ROLES, SCOPES
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import write_keys
from gateway.limits import Callers, Requests
from gateway.settings import Settings

ISSUER = "http://exchange.test"
FOOTFALL = "port-credit-footfall"


class NothingUnderWay:
    """What leaves a city without streams."""

    async def settle(self, n: int) -> None:
        """Nothing was judged."""

    def abort_all(self) -> None:
        """Nothing is open."""


class City:
    """Transit provides `port-credit-footfall`, of which visitors are the subject, and `stops`, which has none. Planner is a start-up.

    The city's own organization operates; its client has every role. `as_(client)` gives the headers of a call.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.settings = Settings(environment="development", issuer=ISSUER, data_dir=folder)
        self.keys = write_keys(self.settings.resolved_key_file)
        self.identity, self.catalog, self.consents = (
            Directory(ISSUER, self.keys, KeyEncryptionKeys.of(self.settings)),
            Catalog(),
            ConsentIndex(),
        )
        self.changes = Changes(database)
        with database.transaction() as session:
            self.city, self.transit, self.planner = (self._organization(session, name) for name in ("City", "Transit", "Planner"))
            session.flush()
            self.officer = self._client(session, self.city, *ROLES)
            self.provider, self.consumer = (self._client(session, owner) for owner in (self.transit, self.planner))
            self._dataset(session, FOOTFALL, subject="/visitor", scheme="opaque")
            self._dataset(session, "stops")
        for room in (self.identity, self.catalog, self.consents):
            self.changes.listen(room.on_changes)
        self.changes.start(self._load)
        self.leases = Leases(database, math.inf)
        self.replica = Replica(self.leases, Seat.at("city", 0), self.changes, NothingUnderWay())
        self.barrier = Barrier(self.leases, self._note_down, by="city")
        self.barrier.start()
        database.after_commit.append(self.barrier.wait_for_last)
        self.http = TestClient(self._app(), base_url=ISSUER)

    def as_(self, client: str, *scopes: str) -> dict[str, str]:
        second = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": client,
            "client_id": client,
            "client_auth_method": "client_secret_basic",
            "iat": second,
            "exp": second + 600,
            "jti": secrets.token_hex(8),
            "scope": " ".join(scopes or SCOPES),
        }
        key = self.keys.signing["token"]
        token = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, claims, key, algorithms=["ES256"])
        return {"Authorization": f"Bearer {token}"}

    def _note_down(self, entry: Entry) -> None:
        with self.database.transaction() as session:
            record(session, entry)

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        await self.replica.start()
        yield
        await anyio.to_thread.run_sync(self.replica.stop)

    def _load(self, session: Session) -> None:
        for room in (self.identity, self.catalog, self.consents):
            room.load(session)

    def _app(self) -> FastAPI:
        app = FastAPI(dependencies=[Depends(refuse_unknown_query)], lifespan=self._lifespan)
        app.state.tiles = Tiles(self.settings.resolved_audit_dir)
        app.state.callers = Callers(6000, 12_000)
        app.state.contracts, app.state.withdrawals = Contracts(), Requests(self.settings.withdrawals_per_minute, "withdrawals")
        for name in ("settings", "keys", "database", "changes", "barrier", "identity", "catalog", "consents"):
            setattr(app.state, name, getattr(self, name))
        app.include_router(audit_api.router)
        app.include_router(published_log.router)
        app.include_router(consents_api.router)
        app.include_router(erase.router)
        answer_errors(app)
        return app

    def _organization(self, session: Session, name: str) -> str:
        organization = Organization(
            id=new_id("org"), name=name, kind="partner", standing="approved", contact=None, operates=name == "City", created_at=now()
        )
        session.add(organization)
        return organization.id

    def _client(self, session: Session, organization: str, *roles: str) -> str:
        client = Client(
            id=new_id("cli"),
            organization_id=organization,
            name="Client",
            standing="active",
            scopes=list(SCOPES),
            roles=list(roles),
            token_endpoint_auth_method="client_secret_basic",
            created_at=now(),
        )
        session.add(client)
        return client.id

    def _dataset(self, session: Session, slug: str, subject: str | None = None, scheme: str | None = None) -> None:
        words: dict[str, Any] = {"title": {"en": slug, "fr": slug}, "description": {"en": slug, "fr": slug}}
        session.add(
            Dataset(
                slug=slug,
                owner_id=self.transit,
                **words,
                classification="personal",
                licence={"id": "CC-BY-4.0", "url": "https://creativecommons.org/licenses/by/4.0/", "attribution": "City"},
                subject_pointer=subject,
                subject_scheme=scheme,
                personal_pointers=[subject] if subject else [],
                partitions=1,
                compatibility="backward",
                topic=slug,
                current=1,
                created_at=now(),
            ),
        )
        session.flush()
        session.add(SchemaVersion(dataset_slug=slug, number=1, document={"type": "object"}, created_at=now()))


@contextmanager
def a_city(database: Database, folder: Path) -> Iterator[City]:
    city = City(database, folder)
    with city.http:
        yield city
    city.changes.stop()
    city.barrier.stop()
    city.leases.close()
