"""Dynamic client registration (RFC 7591) and its management (RFC 7592): what is done, each in one transaction.

A program registers with a registration token and gets a *registration access token*, with which it reads, changes and removes itself.
That token is replaced at each use. The one before stays good until its successor has been used, so that an answer which was lost on the
way locks nobody out; then it is worth nothing, and its use is told of in the log (docs/decisions/).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client import Counter
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.database import Database, now
from gateway.identity import clients, registration_tokens
from gateway.identity.client_authentication import hash_of_secret
from gateway.identity.client_metadata import ASSIGNED, SHOWN, Metadata, MetadataRefused, check_scopes, check_urls, read
from gateway.identity.models import Client, ClientRegistration, Organization
from gateway.identity.principal import Principal
from gateway.identity.published_keys import PublishedKeys
from gateway.identity.registration_tokens import Grant
from gateway.keys import Keys
from gateway.notices.feed import notify
from gateway.outward import Outward

log = structlog.get_logger(__name__)

PURPOSE = b"registration_access_token"

registrations = Counter("exchange_registrations_total", "Calls of clients that register or manage themselves, by act.", ["act"])


class NotAuthorized(Exception):
    """The token is not one that is good for this. Which of all reasons it is, is not told."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A client, its metadata, and what stands in this answer and nowhere again."""

    client: Client
    document: Mapping[str, Any]
    token: str
    secret: str | None = None

    def shown(self, issuer: str) -> dict[str, Any]:
        """The client information response (RFC 7591 section 3.2.1)."""
        client = self.client
        answer: dict[str, Any] = {name: self.document[name] for name in SHOWN if name in self.document}
        answer |= {
            "client_id": client.id,
            "client_id_issued_at": int(client.created_at.timestamp()),
            "client_name": client.name,
            "token_endpoint_auth_method": client.token_endpoint_auth_method,
            "grant_types": ["client_credentials"],
            "response_types": [],
            "scope": " ".join(client.scopes),
            "dpop_bound_access_tokens": client.dpop_bound,
            "registration_access_token": self.token,
            "registration_client_uri": f"{issuer}/oauth/register/{client.id}",
            "standing": client.standing,
        }
        if client.jwks is not None:
            answer["jwks"] = client.jwks
        if self.secret is not None:
            answer |= {"client_secret": self.secret, "client_secret_expires_at": 0}
        return answer


class Registration:
    """The registration endpoint. Synchronous and thread-safe: call it in a worker thread."""

    def __init__(self, database: Database, keys: Keys, outward: Outward, published: PublishedKeys) -> None:
        self._database = database
        self._keys = keys
        self._key = keys.secret("client_secret")
        self._outward = outward
        self._published = published

    def register(self, token: str, document: dict[str, Any]) -> Registered:
        """A new client. Raises `NotAuthorized`, `MetadataRefused`, `database_unavailable`."""
        with self._database.reading() as session:
            # Before strangers could make us call anybody, and again, counted, below.
            grant = registration_tokens.look_up(session, self._key, token)
        if grant is None:
            raise NotAuthorized
        metadata = read(document)
        check_scopes(metadata, grant.scopes)
        check_urls(metadata, self._outward, self._published.fetch)
        with self._database.transaction() as session:
            grant = registration_tokens.use(session, self._key, token)
            if grant is None:
                raise NotAuthorized
            made = self._made(session, grant, metadata)
        registrations.labels("register").inc()
        return made

    def read(self, client_id: str, token: str) -> Registered:
        """The client as it stands, with a new token. Raises `NotAuthorized`, `database_unavailable`."""
        with self._database.transaction() as session:
            client, registration = self._mine(session, client_id, token)
            shown = Registered(client, registration.document, self._rotated(registration, token))
        registrations.labels("read").inc()
        return shown

    def change(self, client_id: str, token: str, document: dict[str, Any]) -> Registered:
        """Replace its metadata (RFC 7592 section 2.2). Raises `NotAuthorized`, `MetadataRefused`, `database_unavailable`."""
        with self._database.reading() as session:
            self._mine(session, client_id, token, held=False)
        metadata = self._checked_change(client_id, document)
        check_urls(metadata, self._outward, self._published.fetch)
        with self._database.transaction() as session:
            client, registration = self._mine(session, client_id, token)
            self._check_secret(client, document)
            if metadata.method != client.token_endpoint_auth_method:
                raise MetadataRefused("token_endpoint_auth_method", "stays as it is: register a new client for another")
            members = {
                "name": metadata.name or client.id,
                # Never more than it has now: what an operator took stays taken.
                "scopes": list(check_scopes(metadata, client.scopes)),
                "jwks": metadata.jwks,
                "jwks_uri": metadata.jwks_uri,
                "assertion_alg": metadata.assertion_alg,
                "dpop_bound": metadata.dpop_bound,
            }
            clients.change_itself(session, itself(client), client, members)
            registration.document = metadata.document
            shown = Registered(client, registration.document, self._rotated(registration, token))
        registrations.labels("change").inc()
        return shown

    def remove(self, client_id: str, token: str) -> None:
        """Forget the client; its tokens are refused from now on. Raises `NotAuthorized`, `database_unavailable`."""
        with self._database.transaction() as session:
            client, _ = self._mine(session, client_id, token)
            clients.remove(session, itself(client), client)
        registrations.labels("remove").inc()

    def _made(self, session: Session, grant: Grant, metadata: Metadata) -> Registered:
        organization = session.get_one(Organization, grant.organization_id)
        client, secret = clients.make(
            session,
            self._keys,
            None,
            organization,
            name=metadata.name or organization.name,
            scopes=check_scopes(metadata, grant.scopes),
            roles=[],
            token_endpoint_auth_method=metadata.method,
            jwks=metadata.jwks,
            jwks_uri=metadata.jwks_uri,
            standing="active" if grant.approved else "pending",
            assertion_alg=metadata.assertion_alg,
            dpop_bound=metadata.dpop_bound,
            registration_token=grant.token_id,
        )
        token = _new_token()
        session.add(
            ClientRegistration(
                client_id=client.id,
                registration_token_id=grant.token_id,
                document=metadata.document,
                token_hash=self._hash(client.id, token),
            )
        )
        if not grant.approved:
            _tell_who_approves(session, client)
        return Registered(client, metadata.document, token, secret)

    def _mine(self, session: Session, client_id: str, token: str, *, held: bool = True) -> tuple[Client, ClientRegistration]:
        """The client whose token this is; `held` until the transaction ends, so that of two who use its token one comes after the other."""
        wanted = select(ClientRegistration).where(ClientRegistration.client_id == client_id)
        found = session.scalar(wanted.with_for_update() if held else wanted)
        given = self._hash(client_id, token)
        good = [hash_ for hash_ in ((found.token_hash, found.previous_token_hash) if found else ()) if hash_ is not None]
        right = any(hmac.compare_digest(given, hash_) for hash_ in (*good, bytes(32), bytes(32))[:2])
        if found is None or not right:
            log.warning("registration_access_token_refused")
            raise NotAuthorized
        client = session.get_one(Client, client_id)
        organization = session.get_one(Organization, client.organization_id)
        if client.standing == "revoked" or organization.standing != "approved":
            raise NotAuthorized
        return client, found

    def _rotated(self, registration: ClientRegistration, used: str) -> str:
        """A new token; the one that was used is good until the new one is."""
        token = _new_token()
        registration.previous_token_hash = self._hash(registration.client_id, used)
        registration.token_hash = self._hash(registration.client_id, token)
        return token

    def _checked_change(self, client_id: str, document: dict[str, Any]) -> Metadata:
        if document.get("client_id") != client_id:
            raise MetadataRefused("client_id", "must be the client's own (RFC 7592 section 2.2)")
        for name in ASSIGNED:
            if name in document:
                raise MetadataRefused(name, "must not be there (RFC 7592 section 2.2)")
        return read(document)

    def _check_secret(self, client: Client, document: Mapping[str, Any]) -> None:
        given = document.get("client_secret")
        if given is None and "client_secret" not in document:
            return
        kept = client.secret_hash or bytes(32)
        if not isinstance(given, str) or not hmac.compare_digest(hash_of_secret(self._key, client.id, given), kept):
            raise MetadataRefused("client_secret", "must be the client's own: a client does not choose its secret")

    def _hash(self, client_id: str, token: str) -> bytes:
        return self._key.mac(PURPOSE, client_id.encode(), token.encode())


def itself(client: Client) -> Principal:
    """The client as who acts: it proved that by its registration access token."""
    return Principal(
        client_id=client.id,
        organization_id=client.organization_id,
        scopes=frozenset(),
        roles=frozenset(),
        contracts=frozenset(),
        strong=False,
        expires_at=now(),
        token_id="",
    )


def _new_token() -> str:
    return f"era_{secrets.token_urlsafe(32)}"


def _tell_who_approves(session: Session, client: Client) -> None:
    """In the feed of its organization, and in the operators'."""
    operating = session.scalars(select(Organization.id).where(Organization.operates)).all()
    for organization_id in dict.fromkeys((client.organization_id, *operating)):
        notify(session, organization_id, "client.pending", {"client": client.id, "organization": client.organization_id})
