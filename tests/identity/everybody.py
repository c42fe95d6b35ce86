"""A whole exchange in this process, with a person in each role and tokens as it would sign them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from joserfc import jwt
from sqlalchemy import select
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.database import Database, new_id, now
from gateway.identity import people
from gateway.identity.models import Client, Organization
from gateway.identity.roles import OPERATING, ROLES
from gateway.identity.scopes import SCOPES
from gateway.keys import read_keys
from gateway.settings import Settings
from gateway.setup import set_up
from tests.identity.exchange import ISSUER

PLENTY = 1_000_000


class Everybody:
    """`as_person(role)` and `as_client(*scopes)` are headers. `operator` is the client that setup made, with every role and scope."""

    def __init__(self, folder: Path, **told: Any) -> None:
        named = ("client_requests", "organization_requests", "anonymous_requests", "withdrawals", "sessions", "registrations")
        limits = {f"{name}_per_minute": PLENTY for name in named}
        self.settings = Settings(environment="development", issuer=ISSUER, data_dir=folder, **(limits | told))
        self.made = set_up(self.settings, "City of Test")
        self._signer = read_keys(self.settings.resolved_key_file).signing["token"]
        self.persons: dict[str, str] = {}
        self.clients: dict[str, str] = {}
        self._invite()
        self.app = create_app(self.settings)
        self.http = TestClient(self.app, base_url=ISSUER)

    def _invite(self) -> None:
        keys, database = read_keys(self.settings.resolved_key_file), Database(self.settings.resolved_database_url)
        with database.transaction() as session:
            city = session.scalars(select(Organization).where(Organization.operates)).one()
            department = Organization(id=new_id("org"), name="Transit", kind="department", standing="approved", created_at=now())
            session.add(department)
            session.flush()
            for role in ROLES:
                person = people.know(session, keys, ISSUER, f"local:{role}")
                if role != "resident":
                    people.give_roles(session, None, person, city if role in OPERATING else department, [role])
                self.persons[role] = person.id
            for scope in ("", *SCOPES):
                client = self._client(department.id, [scope] if scope else [])
                session.add(client)
                self.clients[scope] = client.id
            self.organization, self.department = city.id, department.id
        database.close()

    def _client(self, organization: str, scopes: list[str]) -> Client:
        how = "client_secret_basic"
        return Client(
            id=new_id("cli"), organization_id=organization, name="Client", standing="active", scopes=scopes, roles=[],
            token_endpoint_auth_method=how, created_at=now(),
        )  # fmt: skip

    def as_person(self, role: str, *, ago_s: int = 0, acr: str | None = None) -> dict[str, str]:
        """A person in this role who signed in so many seconds ago."""
        said = {"sub": self.persons[role], "sid": new_id("ses"), "auth_time": int(time.time()) - ago_s}
        return self._bearer("exchange-cli", list(SCOPES), said | ({"acr": acr} if acr else {}))

    def as_client(self, scope: str) -> dict[str, str]:
        """A client of a department that has this scope alone, or none."""
        return self._bearer(self.clients[scope], [scope] if scope else [], {"client_auth_method": "client_secret_basic"})

    @property
    def operator(self) -> dict[str, str]:
        return self._bearer(self.made.client_id, list(SCOPES), {"client_auth_method": "client_secret_basic"})

    def _bearer(self, client: str, scopes: list[str], more: dict[str, Any]) -> dict[str, str]:
        second = int(time.time())
        said = {"iss": ISSUER, "aud": ISSUER, "sub": client, "client_id": client, "iat": second, "exp": second + 600}
        said |= {"jti": secrets.token_hex(8), "scope": " ".join(scopes)} | more
        token = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": self._signer.kid}, said, self._signer, algorithms=["ES256"])
        return {"Authorization": f"Bearer {token}"}


@contextmanager
def everybody(folder: Path, **told: Any) -> Iterator[Everybody]:
    made = Everybody(folder, **told)
    with made.http:
        yield made
