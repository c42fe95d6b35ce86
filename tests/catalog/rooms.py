"""Catalogue and contracts with their real routes, database and changes, between stand-ins for what is not theirs:
who is calling is said by the token's name, and policy allows all but advertising.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from joserfc import jws
from joserfc.jwk import ECKey
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from gateway.access.decision import Decision
from gateway.answers import answer_errors
from gateway.audit.models import AuditEntry
from gateway.catalog import examples
from gateway.catalog.api import router as catalog_router
from gateway.catalog.directory import DatasetView
from gateway.catalog.directory import Directory as Catalog
from gateway.changes import ChangeRow, Changes
from gateway.contracts.api import router as contracts_router
from gateway.contracts.directory import ContractView
from gateway.contracts.directory import Directory as Contracts
from gateway.database import Database, new_id, now
from gateway.errors import ExchangeError
from gateway.identity.directory import Directory as People
from gateway.identity.models import Client, Organization
from gateway.identity.person_facts import PersonFacts
from gateway.identity.principal import Principal
from gateway.identity.scopes import SCOPES
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import Keys, write_keys
from gateway.limits import Callers
from gateway.notices.api import router as notices_router
from gateway.notices.feed import Feed
from gateway.settings import Settings

ISSUER = "http://exchange.test"
TITLE = {"en": "No", "fr": "Non"}
OBLIGATIONS: tuple[dict[str, Any], ...] = (
    {"kind": "keep", "pointer": "/zone", "standing": "enforced"},
    {"kind": "retain", "period": "P90D", "standing": "promised"},
)


class KnownPeople(People):
    """A token is the name of a client."""

    def __init__(self, keys: Keys, keks: KeyEncryptionKeys) -> None:
        super().__init__(ISSUER, keys, keks)
        self.principals: dict[str, Principal] = {}

    def authenticate(self, token: str) -> Principal:
        if token not in self.principals:
            raise ExchangeError("token_invalid")
        return self.principals[token]


class AllButAdvertising:
    """Stands for the policy: its answers are the same for everyone."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def decide(
        self,
        action: str,
        *,
        caller: Principal | None,
        dataset: DatasetView,
        purpose: str | None = None,
        contract: ContractView | None = None,
    ) -> Decision:
        assert contract is not None
        assert caller is not None
        self.asked.append(f"{action} {dataset.slug} {purpose} {contract.state}")
        allow = purpose != "advertising"
        reasons = ({"code": "policy_allows" if allow else "purpose_not_covered", "title": TITLE},)
        return Decision(new_id("dec"), allow, reasons, OBLIGATIONS if allow else (), "pol_1", now() + timedelta(hours=1))

    def received_schema(self, contract: ContractView) -> dict[str, Any]:
        self.asked.append(f"received {contract.id}")
        return {"type": "object", "properties": {"zone": {"$ref": "#/$defs/zone"}}, "$defs": {"zone": {"type": "string"}}}


class Rooms:
    """`http` calls the routes; `as_("mobility")` gives the headers of the client of that name."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.held = write_keys(folder / "keys.json")
        self.people = KnownPeople(self.held, KeyEncryptionKeys(folder / "keys.json"))
        self.catalog, self.contracts, self.policy = Catalog(), Contracts(), AllButAdvertising()
        self.topics: dict[str, tuple[int, int | None]] = {}
        self.keys: dict[str, ECKey] = {}
        self.changes = Changes(database)
        self.notices = Feed()
        for room in (self.people, self.catalog, self.contracts, self.notices):
            self.changes.listen(room.on_changes)
        self._add_clients()
        self.changes.start(self._load)
        self.app = self._app(folder)
        self.http = TestClient(self.app, base_url=ISSUER)

    def _app(self, folder: Path) -> FastAPI:
        app = FastAPI()
        state = app.state
        state.settings = Settings(environment="development", issuer=ISSUER, data_dir=folder)
        state.keys = self.held
        state.callers = Callers(6000, 12_000)
        state.database, state.identity, state.catalog, state.contracts = self.database, self.people, self.catalog, self.contracts
        state.access, state.make_topic, state.notices = self.policy, self._make_topic, self.notices
        app.include_router(catalog_router)
        app.include_router(contracts_router)
        app.include_router(notices_router)
        answer_errors(app)
        return app

    def _load(self, session: Session) -> None:
        for room in (self.people, self.catalog, self.contracts):
            room.load(session)

    def _make_topic(self, name: str, partitions: int, retention_ms: int | None) -> str:
        self.topics[name] = (partitions, retention_ms)
        return f"id-of-{name}"

    def _add_clients(self) -> None:
        self.add_client("city", "City", roles=("operator",), operates=True)
        self.add_client("bia", "Port Credit BIA")
        self.add_client("mobility", "Mobility Inc.")
        self.add_client("stranger", "Stranger Ltd.")
        self.add_client("officer", "City", roles=("privacy_officer",))
        self.add_client("auditor", "City", roles=("auditor",))
        signed_in = PersonFacts("per_01k9x3v6t2h8m4c7d5e9f0g1a5", "ses_1", int(time.time()), None)
        self.people.principals["officer in person"] = replace(self.people.principals["officer"], person=signed_in)

    def add_client(self, name: str, organization: str, *, roles: tuple[str, ...] = (), operates: bool = False) -> None:
        """A client of this name, with every scope and a key to sign with."""
        at = now()
        self.keys[name] = ECKey.generate_key("P-256", parameters={"kid": f"{name}-key"})
        with self.database.transaction() as session:
            owner = session.scalar(select(Organization).where(Organization.name == organization))
            if owner is None:
                owner = Organization(
                    id=new_id("org"), name=organization, kind="partner", standing="approved", contact=None, operates=operates, created_at=at
                )
                session.add(owner)
                session.flush()
            client = Client(
                id=new_id("cli"),
                organization_id=owner.id,
                name=name,
                standing="active",
                scopes=list(SCOPES),
                roles=list(roles),
                token_endpoint_auth_method="private_key_jwt",
                secret_key_id=None,
                secret_hash=None,
                jwks={"keys": [self.keys[name].as_dict(private=False)]},
                created_at=at,
            )
            session.add(client)
            expires = at + timedelta(hours=1)
            scopes = frozenset(SCOPES)
            self.people.principals[name] = Principal(
                client.id, owner.id, scopes, frozenset(roles), frozenset(), strong=True, expires_at=expires, token_id=name
            )

    def as_(self, name: str, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {name}"} | more

    def organization(self, name: str) -> str:
        return self.people.principals[name].organization_id

    def register(self, slug: str = "footfall", classification: str = "internal", owner: str = "bia", **members: Any) -> dict[str, Any]:
        """A dataset with three fields: /at, /zone, /visitor."""
        body = {**examples.NEW_DATASET, "slug": slug, "classification": classification} | members
        if classification in {"open", "internal"} and "subject_pointer" not in members:
            body |= {"subject_pointer": None, "key_pointer": "/zone", "personal_pointers": []}
        answer = self.http.post("/v1/datasets", json=body, headers=self.as_(owner))
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def offer(self, slug: str = "footfall", **members: Any) -> str:
        answer = self.http.post(f"/v1/datasets/{slug}/offers", json=examples.NEW_OFFER | members, headers=self.as_("bia"))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def propose(self, slug: str = "footfall", purpose: str = "transit-planning", by: str = "mobility", **terms: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/contracts", json={"dataset": slug, "purpose": purpose} | terms, headers=self.as_(by))
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def sign(self, contract: dict[str, Any], by: str = "bia", *, key: bool = False, **members: Any) -> Any:
        """With `key` by that client's key."""
        body: dict[str, Any] = {"text_digest": contract["text_digest"]}
        if key:
            body["signature"] = detached(contract["text_digest"], self.keys[by])
        return self.http.post(f"/v1/contracts/{contract['id']}/sign", json=body | members, headers=self.as_(by))

    def move(self, contract: dict[str, Any], verb: str, by: str, **why: str) -> Any:
        return self.http.post(f"/v1/contracts/{contract['id']}/{verb}", json=why, headers=self.as_(by))

    def active(self, **terms: Any) -> dict[str, Any]:
        """A contract in force between bia and mobility over `footfall`."""
        document: dict[str, Any] = self.sign(self.propose(**terms)).json()
        assert document["state"] == "active", document
        return document

    def change_kinds(self) -> list[str]:
        """Of all changes, save those that only come with a notice."""
        with self.database.reading() as session:
            return list(session.scalars(select(ChangeRow.kind).where(ChangeRow.kind != "notice_written").order_by(ChangeRow.n)))

    def audited(self, kind: str) -> list[dict[str, Any]]:
        with self.database.reading() as session:
            rows = session.scalars(select(AuditEntry).where(AuditEntry.kind == kind).order_by(AuditEntry.number))
            return [json.loads(row.entry) for row in rows]


def detached(text_digest: str, key: Any, algorithm: str = "ES256", algorithms: tuple[str, ...] = ("ES256",)) -> str:
    """A detached JWS over this text (RFC 7515 appendix F)."""
    return str(jws.detach_content(jws.serialize_compact({"alg": algorithm, "kid": key.kid}, text_digest, key, algorithms=list(algorithms))))


@contextmanager
def rooms_on(database: Database, folder: Path) -> Iterator[Rooms]:
    """Rooms over this database, ended with the block."""
    rooms = Rooms(database, folder)
    with rooms.http:
        yield rooms
    rooms.changes.stop()
