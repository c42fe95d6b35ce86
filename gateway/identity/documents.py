"""The documents of organizations and clients on the wire: `schemas/organization.json`, `client.json`, `me.json`."""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from gateway.database import now
from gateway.http import Document, Period, Time, parse_period
from gateway.identity.models import Client, Organization, OrganizationRequest, RegistrationToken
from gateway.identity.scopes import ROLES, SCOPES


def check_line(value: str) -> str:
    """One line of text: no control characters (PostgreSQL keeps no NUL), no surrogates, no space at either end."""
    if value != value.strip() or any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in value):
        raise ValueError("must be one line of text without space at its ends")
    return value


def check_text(value: str) -> str:
    """Text of some lines: no other control characters, no surrogates."""
    if any(unicodedata.category(character) in {"Cc", "Cs"} and character != "\n" for character in value):
        raise ValueError("must be text")
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


def check_overlap(value: str) -> str:
    """Raises `ValueError` for more than thirty days."""
    if parse_period(value) > timedelta(days=30):
        raise ValueError("must be thirty days at most")
    return value


def _each_once(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("must name each once")
    return value


def check_domain(value: str) -> str:
    """A name on the Internet (RFC 1123), in lower case and ASCII. Raises `ValueError`."""
    if len(value) > 253 or not DOMAIN.fullmatch(value):
        raise ValueError("must be a domain name in lower case, for example portcreditmobility.example")
    return value


DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
Line = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(check_line)]
Scopes = Annotated[list[str], Field(min_length=1), AfterValidator(check_scopes)]
Roles = Annotated[list[str], AfterValidator(check_roles)]
Kind = Literal["department", "partner"]
Method = Literal["client_secret_basic", "private_key_jwt"]


class OrganizationDocument(Document):
    """A department or partner. Every organization with a token reads it, save `intent`, which itself and overseers do."""

    id: str
    name: str
    kind: Kind
    standing: Literal["pending", "approved", "suspended"]
    contact: str | None = None
    intent: str | None = None
    domain: str | None = None
    operates: bool
    created_at: Time


class AskedOrganization(OrganizationDocument):
    """One that was asked for without a token; `claim` stands in this answer and nowhere again."""

    claim: str


class NewOrganization(Document):
    """`contact` is an address that other organizations may see: a mailbox of the organization, not of a person.

    Without a token, `contact`, `intent` (what it wants data for) and `domain` are needed, and `kind` is `partner`.
    """

    name: Line
    kind: Kind = "partner"
    contact: Line | None = None
    intent: Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(check_text)] | None = None
    domain: Annotated[str, AfterValidator(check_domain)] | None = None


class OrganizationChange(Document):
    """A merge patch (RFC 7396): what is absent stays, `contact: null` removes it."""

    name: Line = Field(default_factory=str)
    kind: Kind = Field(default_factory=lambda: "partner")
    contact: Line | None = None


class ClientDocument(Document):
    """An API client. `client_secret` stands in the answer that made it and nowhere again; until `previous_valid_until` the
    credential of before its last rotation is good too.
    """

    id: str
    organization: str
    name: str
    standing: Literal["pending", "active", "revoked"]
    scopes: list[str]
    roles: list[str]
    token_endpoint_auth_method: Method
    jwks: dict[str, Any] | None = None
    jwks_uri: str | None = None
    dpop_bound_access_tokens: bool | None = None
    previous_valid_until: Time | None = None
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
    """The new public keys of a client with `private_key_jwt`; none for one with a secret. `overlap`: how long the old credential is
    good too, thirty days at most; without it, no longer.
    """

    jwks: dict[str, Any] | None = None
    overlap: Annotated[Period, AfterValidator(check_overlap)] | None = None


class NewRegistrationToken(Document):
    """What a program may register with the token: clients of these `scopes`, as many as `uses`, until `valid_until` or for as long as
    `expires_in` says (a day if neither does). `approved`: they are active at once. `claim` is the asker's, instead of an access token.
    """

    scopes: Scopes
    uses: int = Field(default=1, ge=1, le=100)
    expires_in: Period | None = None
    valid_until: Time | None = None
    approved: bool = False
    claim: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")] | None = None


class RegistrationTokenDocument(Document):
    """A registration token; its value, `token`, stands in the answer that made it and nowhere again."""

    id: str
    organization: str
    scopes: list[str]
    uses: int
    used: int
    approved: bool
    created_at: Time
    valid_until: Time
    revoked_at: Time | None = None
    token: str | None = None


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


class Limit(Document):
    """Requests a minute at this replica, and how many are left now."""

    per_minute: int
    left: int


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
    limits: dict[Literal["client", "organization"], Limit]


def show_organization(row: Organization, *, intent: bool = False) -> OrganizationDocument:
    """`intent`: the reader may see what it wants data for."""
    members = ("id", "name", "kind", "standing", "contact", "domain", "operates", "created_at")
    return OrganizationDocument.model_validate({name: getattr(row, name) for name in members} | {"intent": row.intent if intent else None})


def show_request(row: OrganizationRequest) -> OrganizationDocument:
    """An organization that was asked for: `pending`."""
    shown = {name: getattr(row, name) for name in ("id", "name", "contact", "intent", "domain")}
    return OrganizationDocument.model_validate(
        shown | {"kind": "partner", "standing": "pending", "operates": False, "created_at": row.asked_at}
    )


def show_client(row: Client, secret: str | None = None) -> ClientDocument:
    members = ("id", "name", "standing", "scopes", "roles", "token_endpoint_auth_method", "jwks", "jwks_uri", "created_at")
    shown = {name: getattr(row, name) for name in members}
    more = {
        "organization": row.organization_id,
        "client_secret": secret,
        "dpop_bound_access_tokens": row.dpop_bound or None,
        "previous_valid_until": row.previous_until if row.previous_until is not None and row.previous_until > now() else None,
    }
    return ClientDocument.model_validate(shown | more)


def show_registration_token(row: RegistrationToken, value: str | None = None) -> RegistrationTokenDocument:
    members = ("id", "scopes", "uses", "used", "approved", "created_at", "revoked_at")
    shown = {name: getattr(row, name) for name in members}
    return RegistrationTokenDocument.model_validate(
        shown | {"organization": row.organization_id, "valid_until": row.expires_at, "token": value}
    )


ORGANIZATION_EXAMPLE = {
    "id": "org_01k9x3v6t2h8m4c7d5e9f0g1a2",
    "name": "Port Credit Mobility Inc.",
    "kind": "partner",
    "standing": "approved",
    "contact": "data@portcreditmobility.example",
    "intent": "A route planner that knows how full the waterfront is.",
    "domain": "portcreditmobility.example",
    "operates": False,
    "created_at": "2026-11-23T12:00:00Z",
}
REGISTRATION_TOKEN_EXAMPLE = {
    "id": "rgt_01k9x3v6t2h8m4c7d5e9f0g1a5",
    "organization": ORGANIZATION_EXAMPLE["id"],
    "scopes": ["catalog:read", "contracts:read", "contracts:write", "events:read"],
    "uses": 1,
    "used": 0,
    "approved": True,
    "created_at": "2026-11-23T12:00:00Z",
    "valid_until": "2026-11-24T12:00:00Z",
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
    "limits": {"client": {"per_minute": 6000, "left": 5999}, "organization": {"per_minute": 12000, "left": 11999}},
}
