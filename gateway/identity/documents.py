"""The documents of organizations and clients on the wire: `schemas/organization.json`, `client.json`, `me.json`."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from gateway.http import Document, Time
from gateway.identity.models import Client, Organization
from gateway.identity.scopes import ROLES, SCOPES


def check_line(value: str) -> str:
    """One line of text: no control characters (PostgreSQL keeps no NUL), no surrogates, no space at either end."""
    if value != value.strip() or any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
        raise ValueError("must be one line of text without space at its ends")
    return value


def check_scopes(value: list[str]) -> list[str]:
    """Raises `ValueError` naming the first that is none, or for one that is there twice."""
    unknown = [scope for scope in value if scope not in SCOPES]
    if unknown:
        raise ValueError(f"{unknown[0][:64]!r} is not a scope")
    return _each_once(value)


def check_roles(value: list[str]) -> list[str]:
    """As `check_scopes`."""
    if any(role not in ROLES for role in value):
        raise ValueError(f"must be of {', '.join(ROLES)}")
    return _each_once(value)


def _each_once(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("must name each once")
    return value


Line = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(check_line)]
Scopes = Annotated[list[str], Field(min_length=1), AfterValidator(check_scopes)]
Roles = Annotated[list[str], AfterValidator(check_roles)]
Kind = Literal["department", "partner"]
Method = Literal["client_secret_basic", "private_key_jwt"]


class OrganizationDocument(Document):
    """A department or partner. Every organization with a token reads it."""

    id: str
    name: str
    kind: Kind
    standing: Literal["pending", "approved", "suspended"]
    contact: str | None = None
    operates: bool
    created_at: Time


class NewOrganization(Document):
    """`contact` is an address that other organizations may see: a mailbox of the organization, not of a person."""

    name: Line
    kind: Kind
    contact: Line | None = None


class OrganizationChange(Document):
    """A merge patch (RFC 7396): what is absent stays, `contact: null` removes it."""

    name: Line = Field(default_factory=str)
    kind: Kind = Field(default_factory=lambda: "partner")
    contact: Line | None = None


class ClientDocument(Document):
    """An API client. `client_secret` stands in the answer that made it and nowhere again."""

    id: str
    organization: str
    name: str
    standing: Literal["pending", "active", "revoked"]
    scopes: list[str]
    roles: list[str]
    token_endpoint_auth_method: Method
    jwks: dict[str, Any] | None = None
    created_at: Time
    client_secret: str | None = None


class NewClient(Document):
    """`jwks` with `private_key_jwt` and only then; `roles` for clients of the operating organization only."""

    organization: str
    name: Line
    scopes: Scopes
    roles: Roles = Field(default_factory=list)
    token_endpoint_auth_method: Method
    jwks: dict[str, Any] | None = None


class ClientChange(Document):
    """A merge patch (RFC 7396). A secret is replaced by `rotate`."""

    name: Line = Field(default_factory=str)
    scopes: Scopes = Field(default_factory=list)
    roles: Roles = Field(default_factory=list)
    jwks: dict[str, Any] = Field(default_factory=dict)


class Rotation(Document):
    """The new public keys of a client with `private_key_jwt`; empty for one with a secret."""

    jwks: dict[str, Any] | None = None


class Named(Document):
    """An identifier and what people call it."""

    id: str
    name: str


class MyOrganization(Named):
    kind: Kind
    standing: str


class MyClient(Named):
    token_endpoint_auth_method: Method


class MyPerson(Document):
    """The person who signed in: `auth_time` is when they last proved who they are."""

    id: str
    auth_time: Time
    acr: str | None = None


class Me(Document):
    """Who the caller is: a client, or a person, who may belong to no organization. `contracts` are those that this token names,
    `strong` says that it was issued to a key.
    """

    organization: MyOrganization | None = None
    client: MyClient | None = None
    person: MyPerson | None = None
    roles: list[str]
    scopes: list[str]
    contracts: list[str]
    strong: bool
    expires_at: Time


def show_organization(row: Organization) -> OrganizationDocument:
    return OrganizationDocument.model_validate(
        {name: getattr(row, name) for name in ("id", "name", "kind", "standing", "contact", "operates", "created_at")}
    )


def show_client(row: Client, secret: str | None = None) -> ClientDocument:
    members = ("id", "name", "standing", "scopes", "roles", "token_endpoint_auth_method", "jwks", "created_at")
    shown = {name: getattr(row, name) for name in members}
    return ClientDocument.model_validate(shown | {"organization": row.organization_id, "client_secret": secret})


ORGANIZATION_EXAMPLE = {
    "id": "org_01k9x3v6t2h8m4c7d5e9f0g1a2",
    "name": "Port Credit Mobility Inc.",
    "kind": "partner",
    "standing": "approved",
    "contact": "data@portcreditmobility.example",
    "operates": False,
    "created_at": "2026-11-23T12:00:00Z",
}
CLIENT_EXAMPLE = {
    "id": "cli_01k9x3v6t2h8m4c7d5e9f0g1a3",
    "organization": "org_01k9x3v6t2h8m4c7d5e9f0g1a2",
    "name": "Route planner",
    "standing": "active",
    "scopes": ["catalog:read", "contracts:read", "contracts:write", "events:read"],
    "roles": [],
    "token_endpoint_auth_method": "client_secret_basic",
    "created_at": "2026-11-23T12:00:00Z",
}
ME_EXAMPLE = {
    "organization": {key: ORGANIZATION_EXAMPLE[key] for key in ("id", "name", "kind", "standing")},
    "client": {key: CLIENT_EXAMPLE[key] for key in ("id", "name", "token_endpoint_auth_method")},
    "roles": [],
    "scopes": ["contracts:read", "events:read"],
    "contracts": ["con_01k9x3v6t2h8m4c7d5e9f0g1a4"],
    "strong": False,
    "expires_at": "2026-11-23T12:10:00Z",
}
