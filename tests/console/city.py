"""The gateway of these tests: datasets of a district, contracts over them, consent, and people who sign in."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from connectors.client import Client
from gateway.identity import people
from gateway.identity.models import Organization
from gateway.keys import read_keys
from tests.e2e.district import FOOTFALL, District, dataset_document, pulled, visit
from tests.e2e.wire import assert_calm
from tests.engines import Engines, OpenIdProvider, install
from tests.engines.openid import ROLES, WEB, WEB_SECRET
from tests.gateway import READER, Gateway

OPEN_DATA = ("business-directory", "council-calendar")
TRANSIT = "transit-feed"


class City:
    """A gateway, running, with a provider at which its people sign in. Use it in `with`."""

    def __init__(self, engines: Engines, folder: Path) -> None:
        self.gateway = Gateway(engines, folder / "gateway")
        redirect = f"{self.gateway.url}/login/callback"
        self.provider = OpenIdProvider(install.node_modules(install.OPENID_PROVIDER), folder / "openid", web_redirect=redirect)
        self.provider.people |= {
            "paul": {"name": "Paul Privacy", "groups": ["privacy-office"], "employee_id": "e-9"},
            "rosa": {"name": "Rosa Resident"},
        }
        self.gateway.environment |= {
            "EXCHANGE_OIDC_ISSUER": self.provider.issuer,
            "EXCHANGE_OIDC_WEB_CLIENT_ID": WEB,
            "EXCHANGE_OIDC_WEB_CLIENT_SECRET": WEB_SECRET,
            "EXCHANGE_OIDC_ROLES": json.dumps(ROLES),
            "EXCHANGE_OIDC_EMPLOYEE_CLAIM": "employee_id",
            "EXCHANGE_APPROVAL_WAIT_H": "0",
            "EXCHANGE_LOCAL_ACCOUNTS": "false",
            # Tests try more codes in a minute than people do.
            "EXCHANGE_SESSIONS_PER_MINUTE": "1000",
            "EXCHANGE_WITHDRAWALS_PER_MINUTE": "1000",
        }

    def __enter__(self) -> Self:
        self.provider.start()
        self.gateway.start()
        self.district = District(self.gateway)
        for slug in OPEN_DATA:
            self.district.provider.post("/v1/datasets", dataset_document(slug))
        self.department = self.gateway.partner("Transit Department", kind="department")
        self.department.post("/v1/datasets", dataset_document(TRANSIT))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.gateway.close()
        self.provider.stop()
        if kind is None:
            assert_calm(self.gateway)

    @property
    def url(self) -> str:
        return self.gateway.url

    def start_up(self, name: str = "Start-up") -> Client:
        """A consumer's client that authenticates by key."""
        return self.gateway.partner(name, scopes=READER)

    def belongs(self, login: str, client: Client, *roles: str) -> None:
        """From now on this person of the provider holds these roles in the client's organization."""
        organization_id = client.get("/v1/me")["organization"]["id"]
        keys = read_keys(self.gateway.settings().resolved_key_file)
        database = self.gateway.database()
        with database.transaction() as session:
            person = people.know(session, keys, self.provider.issuer, login)
            people.give_roles(session, None, person, session.get_one(Organization, organization_id), roles)
        database.close()

    def person(self) -> str:
        """A visitor of their own, as events name them."""
        return f"person-{secrets.token_hex(4)}"

    def one_time_code(self, visitor: str) -> str:
        """What the provider hands to a person who asks."""
        return str(self.district.provider.post("/v1/subjects/codes", {"dataset": FOOTFALL, "subject": visitor})["code"])

    def delivered(self, visitor: str, *consumers: Client) -> list[str]:
        """Two events about the visitor, received by each of these under a contract of its own; the contracts."""
        contracts = [self.district.contract(consumer) for consumer in consumers]
        self.district.publish(visit(visitor, 1), visit(visitor, 2))
        for consumer, contract in zip(consumers, contracts, strict=True):
            pulled(consumer, contract)
        return contracts
