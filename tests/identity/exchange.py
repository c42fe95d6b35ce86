"""A small exchange for tests of identity: real database, keys, directory and routes; nothing of the other rooms."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OKPKey
from starlette.testclient import TestClient

from gateway.answers import sign_in_first
from gateway.changes import ChangeRow, Changes, Counter
from gateway.console.pages import Pages
from gateway.database import Base, Database
from gateway.errors import ExchangeError, Invalid
from gateway.http import refuse_unknown_query
from gateway.identity import api, oauth, persons_api, registration_api, registration_endpoints, sign_in_pages
from gateway.identity.authorization_server import AuthorizationServer
from gateway.identity.browser_sessions import BrowserSessions, SignInNeeded
from gateway.identity.damping import Damping
from gateway.identity.directory import Directory
from gateway.identity.onboarding import asks_limit
from gateway.identity.proofs import Proofs
from gateway.identity.published_keys import PublishedKeys
from gateway.identity.registration import Registration
from gateway.identity.scopes import SCOPES
from gateway.identity.setup import found
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import write_keys
from gateway.limits import Callers, Requests
from gateway.outward import Outward
from gateway.settings import Settings

ISSUER = "http://exchange.test"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Exchange:
    """`http` calls it. `contracts` maps identifiers to (provider, consumer). The operator's token is made at first use."""

    def __init__(self, folder: Path, outward: Outward | None = None, **settings: Any) -> None:
        told = {"registrations_per_minute": 10_000} | settings
        self.settings = Settings(environment="development", issuer=ISSUER, data_dir=folder, **told)
        self.outward = outward or Outward()
        self.keys = write_keys(self.settings.resolved_key_file)
        self.database = Database(self.settings.resolved_database_url)
        Base.metadata.create_all(self.database.engine)
        with self.database.transaction() as session:
            session.add(Counter(id=1, n=0))
        self.directory = Directory(ISSUER, self.keys, KeyEncryptionKeys.of(self.settings))
        self.changes = Changes(self.database)
        self.changes.listen(self.directory.on_changes)
        self.changes.start(self.directory.load)
        self.contracts: dict[str, tuple[str, str]] = {}
        with self.database.transaction() as session:
            organization, operator, self.operator_secret = found(session, self.keys, "City of Mississauga")
            self.organization_id, self.operator_id = organization.id, operator.id
        self.app = self._app()
        self.http = TestClient(self.app, base_url=ISSUER)
        self._operator_token = ""

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.state.settings, app.state.keys, app.state.database = self.settings, self.keys, self.database
        app.state.identity = self.directory
        self.published_keys = PublishedKeys(self.outward)
        app.state.callers = Callers(6000, 12_000)
        app.state.damping = Damping(20)
        app.state.proofs = self.new_proofs()
        app.state.authorization = AuthorizationServer(
            self.settings, self.keys, self.database, self.directory, self.contracts.get, app.state.proofs, self.published_keys
        )
        app.state.registration = Registration(self.database, self.keys, self.outward, self.published_keys)
        people = app.state.authorization.people
        app.state.browsers = BrowserSessions(self.settings, self.keys, self.database, self.directory, people)
        app.state.pages = Pages(self.settings.issuer)
        app.state.sessions_limit = Requests(self.settings.sessions_per_minute, "sessions")
        app.state.registrations_limit = Requests(self.settings.registrations_per_minute, "registrations")
        app.state.asks_limit = asks_limit()
        for room in (api, registration_api, persons_api):
            app.include_router(room.router, dependencies=[Depends(refuse_unknown_query)])
        for others in (oauth, registration_endpoints, sign_in_pages):
            app.include_router(others.router)
        app.add_exception_handler(SignInNeeded, sign_in_first)
        app.add_exception_handler(ExchangeError, _problem)
        app.add_exception_handler(RequestValidationError, _invalid)
        return app

    def new_proofs(self) -> Proofs:
        """As a replica of this exchange has them at its start."""
        return Proofs(ISSUER, self.keys.secret("dpop_nonce"), self.database)

    def mount(self, more: APIRouter) -> None:
        self.app.include_router(more)

    def close(self) -> None:
        self.changes.stop()
        self.database.close()

    # -- calls ---------------------------------------------------------------------------------------------------------

    @property
    def operator(self) -> dict[str, str]:
        """The operator's headers."""
        if not self._operator_token:
            self._operator_token = self.token(self.operator_id, self.operator_secret)
        return bearer(self._operator_token)

    def ask_token(self, client_id: str, secret: str, /, **form: str) -> Any:
        return self.http.post("/oauth/token", auth=(client_id, secret), data={"grant_type": "client_credentials"} | form)

    def token(self, client_id: str, secret: str, **form: str) -> str:
        answer = self.ask_token(client_id, secret, **form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def ask_token_by_key(self, assertion: str, *, headers: dict[str, str] | None = None, **form: str) -> Any:
        proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return self.http.post("/oauth/token", data={"grant_type": "client_credentials"} | proof | form, headers=headers)

    def make_organization(self, name: str = "Port Credit Mobility Inc.", *, approve: bool = True, kind: str = "partner") -> str:
        made = self.http.post("/v1/organizations", json={"name": name, "kind": kind}, headers=self.operator)
        assert made.status_code == 201, made.text
        if approve:
            assert self.http.post(f"/v1/organizations/{made.json()['id']}/approve", headers=self.operator).status_code == 200
        return str(made.json()["id"])

    def ask_client(self, organization: str, /, **members: Any) -> Any:
        wanted = {
            "organization": organization,
            "name": "Route planner",
            "scopes": ["catalog:read", "clients:write", "events:read"],
            "token_endpoint_auth_method": "client_secret_basic",
        }
        # Not `json=`: that cannot send what a hostile client can, such as half a surrogate pair.
        body = json.dumps(wanted | members)
        return self.http.post("/v1/clients", content=body, headers=self.operator | {"Content-Type": "application/json"})

    def make_client(self, organization: str, /, **members: Any) -> dict[str, Any]:
        made = self.ask_client(organization, **members)
        assert made.status_code == 201, made.text
        document: dict[str, Any] = made.json()
        return document

    def make_strong_client(self, organization: str, key: Key, **members: Any) -> str:
        jwks = {"keys": [key.as_dict(private=False)]}
        return str(self.make_client(organization, token_endpoint_auth_method="private_key_jwt", jwks=jwks, **members)["id"])

    def changes_since(self, number: int) -> list[str]:
        with self.database.reading() as session:
            return [row.kind for row in session.query(ChangeRow).where(ChangeRow.n > number).order_by(ChangeRow.n)]


@contextmanager
def an_exchange(folder: Path, **settings: Any) -> Iterator[Exchange]:
    exchange = Exchange(folder, **settings)
    with exchange.http:
        yield exchange
    exchange.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def assertion(client_id: str, key: Key, algorithm: str = "ES256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A client assertion as FAPI asks for it; `claims` replace its own, None takes one out."""
    second = int(time.time())
    all_claims = {"iss": client_id, "sub": client_id, "aud": ISSUER, "iat": second, "exp": second + 60, "jti": secrets.token_hex(8)}
    said = {name: value for name, value in (all_claims | claims).items() if value is not None}
    return jwt.encode({"alg": algorithm} | (header or {}), said, key, registry=Unwarned())


class Unwarned(jws.JWSRegistry):
    def get_alg(self, name: str) -> Any:
        """Any algorithm, without a word on its age."""
        return self.algorithms[name]


def new_key(kind: str = "EC") -> ECKey | OKPKey:
    return ECKey.generate_key("P-256") if kind == "EC" else OKPKey.generate_key("Ed25519")


ALL_SCOPES = list(SCOPES)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ExchangeError)
    body = error.problem(ISSUER, request.url.path)
    return JSONResponse(body, error.status, error.headers, media_type="application/problem+json")


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found_wrong = [{"pointer": "/" + "/".join(map(str, one["loc"][1:])), "detail": one["msg"]} for one in error.errors()]
    return await _problem(request, Invalid(found_wrong))
