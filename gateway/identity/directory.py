"""The directory: organizations and clients in memory, and the answer to "who is calling" without the database.

Loaded at start and kept by changes, so that what revokes a client has taken effect here when its call returns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.changes import Change
from gateway.database import now
from gateway.errors import ExchangeError
from gateway.identity.models import Client, Organization, RevokedToken
from gateway.identity.people_directory import PersonDirectory, PersonView
from gateway.identity.person_facts import PersonFacts
from gateway.identity.principal import Principal
from gateway.identity.roles import scopes_of
from gateway.identity.signing_keys import SigningKeys
from gateway.identity.tokens import AccessToken, read_token
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import Keys

REMEMBERED = 20_000
"""Tokens whose verification is remembered, about 1 kB each."""


@dataclass(frozen=True, slots=True)
class OrganizationView:
    """An organization as it stands. `kind`: department, partner. `standing`: pending, approved, suspended."""

    id: str
    name: str
    kind: str
    standing: str
    operates: bool


@dataclass(frozen=True, slots=True)
class PreviousCredential:
    """What a client authenticated by before its last rotation, good until `until`."""

    until: datetime
    jwks: dict[str, Any] | None
    secret_id: str | None
    secret_key_id: str | None
    secret_hash: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientView:
    """A client as it stands. `standing`: pending, active, revoked. `strong`: it authenticates by private key."""

    id: str
    organization_id: str
    name: str
    standing: str
    scopes: frozenset[str]
    roles: frozenset[str]
    token_endpoint_auth_method: str
    jwks: dict[str, Any] | None
    secret_key_id: str | None
    secret_hash: bytes | None = field(repr=False)
    secret_id: str | None = None
    jwks_uri: str | None = None
    assertion_alg: str | None = None
    dpop_bound: bool = False
    previous: PreviousCredential | None = None

    @property
    def strong(self) -> bool:
        return self.token_endpoint_auth_method == "private_key_jwt"  # noqa: S105 - the name of a method


@dataclass(frozen=True, slots=True)
class _Seen:
    """A token's principal, with the standing that it was made from: good as long as that is still the current one."""

    principal: Principal
    expires_at: int
    client: ClientView | PersonView
    organization: OrganizationView | None


class Directory:
    """Who is known, and how they stand. Thread-safe: views are replaced, never changed."""

    def __init__(self, issuer: str, keys: Keys, keks: KeyEncryptionKeys) -> None:
        self.issuer = issuer
        self.signing = SigningKeys(keys, keks)
        self._organizations: dict[str, OrganizationView] = {}
        self._clients: dict[str, ClientView] = {}
        self._seen: dict[bytes, _Seen] = {}
        self.people = PersonDirectory()
        self._revoked: dict[str, datetime] = {}
        """When a token that was revoked would have expired."""

    def load(self, session: Session) -> None:
        """Read all, at start."""
        self._organizations = {row.id: _organization_view(row) for row in session.scalars(select(Organization))}
        self._clients = {row.id: _client_view(row) for row in session.scalars(select(Client))}
        self.people.load(session)
        self.signing.load(session)
        self._revoked = {row.id: row.expires_at for row in session.scalars(select(RevokedToken))}

    def on_changes(self, session: Session, changes: Sequence[Change]) -> None:
        """Read again what these changes are about."""
        self.people.on_changes(session, changes)
        self.signing.on_changes(session, changes)
        if any(change.kind == "signing_key_retired" for change in changes):
            self._seen = {}  # what that key signed is verified again, and fails
        self._on_revoked(session, {change.object for change in changes if change.kind == "token_revoked"})
        organizations = {change.object for change in changes if change.kind.startswith("organization_")}
        clients = {change.object for change in changes if change.kind.startswith("client_")}
        for organization_id in organizations:
            row = session.get(Organization, organization_id)
            if row is not None:
                self._organizations[organization_id] = _organization_view(row)
        for client_id in clients:
            client = session.get(Client, client_id)
            if client is None:
                self._clients.pop(client_id, None)
            else:
                self._clients[client_id] = _client_view(client)

    def _on_revoked(self, session: Session, tokens: AbstractSet[str]) -> None:
        if tokens:
            at = now()
            rows = session.scalars(select(RevokedToken).where(RevokedToken.id.in_(tokens)))
            kept = {token: until for token, until in self._revoked.items() if until > at}
            self._revoked = kept | {row.id: row.expires_at for row in rows}

    def organization(self, organization_id: str) -> OrganizationView | None:
        return self._organizations.get(organization_id)

    def client(self, client_id: str) -> ClientView | None:
        return self._clients.get(client_id)

    def authenticate(self, token: str) -> Principal:
        """The principal of an access token, with today's scopes and roles of its client.

        Microseconds for a token that was seen before. Raises `token_invalid`, `token_expired`.
        """
        digest = sha256(token.encode()).digest()
        seen = self._seen.get(digest)
        if seen is None or not self._is_current(seen):
            seen = self._look_up(self.read_token(token))
            if len(self._seen) >= REMEMBERED:
                self._seen = {}
            self._seen[digest] = seen
        if seen.expires_at <= time.time():
            raise ExchangeError("token_expired")
        self.require_unrevoked(seen.principal.token_id)
        return seen.principal

    def require_unrevoked(self, token_id: str) -> None:
        """Return unless this token was revoked (RFC 7009). Raises `token_invalid`."""
        if token_id in self._revoked:
            raise ExchangeError("token_invalid", "The token was revoked.")

    def public_keys(self) -> dict[str, Any]:
        """The JWKS that tokens and consent receipts are verified with: a key each, so that no receipt is ever taken for a token."""
        return self.signing.jwks()

    def read_token(self, token: str) -> AccessToken:
        """What the token says, if the exchange signed it and its time is not over. Raises `token_invalid`, `token_expired`."""
        return read_token(token, self.signing.public("token"), self.issuer)

    def _is_current(self, seen: _Seen) -> bool:
        if isinstance(seen.client, PersonView):
            return False  # people call rarely, and how they stand is looked up in no time
        organization = seen.organization
        return (
            self._clients.get(seen.client.id) is seen.client
            and self._organizations.get(organization.id if organization else "") is organization
        )

    def person_as_principal(
        self,
        person: PersonFacts,
        *,
        client_id: str,
        scopes: frozenset[str],
        expires_at: int,
        token_id: str,
        key_thumbprint: str | None = None,
    ) -> Principal:
        """A person who signed in, with today's roles, and those of `scopes` that these give. Raises `token_invalid`.

        While their organization is not approved they are nobody's, and have the role `resident` alone. `expires_at` as in a token.
        """
        found = self.people.signed_in(person)
        organization = self._organizations.get(found.organization_id or "")
        if organization is not None and organization.standing != "approved":
            organization = None
        roles = found.roles_in(organization)
        return Principal(
            client_id=client_id,
            organization_id=organization.id if organization else "",
            scopes=scopes & scopes_of(roles),
            roles=roles,
            contracts=frozenset(),
            strong=False,
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            token_id=token_id,
            key_thumbprint=key_thumbprint,
            person=person,
        )

    def _look_up_person(self, said: AccessToken, person: PersonFacts) -> _Seen:
        principal = self.person_as_principal(
            person,
            client_id=said.client_id,
            scopes=said.scopes,
            expires_at=said.expires_at,
            token_id=said.token_id,
            key_thumbprint=said.key_thumbprint,
        )
        return _Seen(principal, said.expires_at, self.people.signed_in(person), None)

    def _look_up(self, said: AccessToken) -> _Seen:
        if said.person is not None:
            return self._look_up_person(said, said.person)
        client = self._clients.get(said.client_id)
        if client is None or client.standing != "active":
            raise ExchangeError("token_invalid", "The client of this token is not active.")
        organization = self._organizations.get(client.organization_id)
        if organization is None or organization.standing != "approved":
            hint = "Ask the operator how the organization stands; its tokens are good again when it is approved."
            raise ExchangeError("token_invalid", "The organization of this client is not approved.", hint=hint)
        principal = Principal(
            client_id=client.id,
            organization_id=organization.id,
            scopes=said.scopes & client.scopes,
            roles=client.roles if organization.operates else frozenset(),
            contracts=said.contracts,
            strong=said.strong and client.strong and said.key_thumbprint is not None,
            expires_at=datetime.fromtimestamp(said.expires_at, UTC),
            token_id=said.token_id,
            key_thumbprint=said.key_thumbprint,
        )
        return _Seen(principal, said.expires_at, client, organization)


def _organization_view(row: Organization) -> OrganizationView:
    return OrganizationView(row.id, row.name, row.kind, row.standing, row.operates)


def _client_view(row: Client) -> ClientView:
    return ClientView(
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        standing=row.standing,
        scopes=frozenset(row.scopes),
        roles=frozenset(row.roles),
        token_endpoint_auth_method=row.token_endpoint_auth_method,
        jwks=row.jwks,
        secret_key_id=row.secret_key_id,
        secret_hash=row.secret_hash,
        secret_id=row.secret_id,
        jwks_uri=row.jwks_uri,
        assertion_alg=row.assertion_alg,
        dpop_bound=row.dpop_bound,
        previous=_previous(row),
    )


def _previous(row: Client) -> PreviousCredential | None:
    if row.previous_until is None:
        return None
    return PreviousCredential(
        row.previous_until, row.previous_jwks, row.previous_secret_id, row.previous_secret_key_id, row.previous_secret_hash
    )
