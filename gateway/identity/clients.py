"""What is done to API clients: make, approve, change, rotate, revoke, remove. Each in the caller's transaction, noted and recorded."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway import changes
from gateway.audit.record import Entry, record
from gateway.database import new_id, now
from gateway.errors import ExchangeError, Invalid
from gateway.identity.client_authentication import hash_of_secret
from gateway.identity.client_keys import check_jwks
from gateway.identity.models import Client, Organization
from gateway.identity.principal import Principal
from gateway.keys import Keys

KEYS = frozenset({"jwks", "jwks_uri"})


def make(
    session: Session,
    keys: Keys,
    by: Principal | None,
    organization: Organization,
    *,
    name: str,
    scopes: Sequence[str],
    roles: Sequence[str],
    token_endpoint_auth_method: str,
    jwks: dict[str, Any] | None,
    jwks_uri: str | None = None,
    standing: str = "active",
    assertion_alg: str | None = None,
    dpop_bound: bool = False,
    **told: str,
) -> tuple[Client, str | None]:
    """A new client and its secret, which is kept nowhere. `told` goes into the audit entry. Raises `Invalid`."""
    _check_roles(organization, roles)
    by_key = token_endpoint_auth_method == "private_key_jwt"  # noqa: S105 - the name of a method
    if by_key != ((jwks is None) != (jwks_uri is None)):
        raise Invalid([{"pointer": "/jwks", "detail": "must be there with private_key_jwt, and only then"}])
    client = Client(
        id=new_id("cli"),
        organization_id=organization.id,
        name=name,
        standing=standing,
        scopes=list(scopes),
        roles=list(roles),
        token_endpoint_auth_method=token_endpoint_auth_method,
        jwks=check_jwks(jwks) if jwks is not None else None,
        jwks_uri=jwks_uri,
        assertion_alg=assertion_alg,
        dpop_bound=dpop_bound,
        created_at=now(),
    )
    secret = None if by_key else _new_secret(client, keys)
    session.add(client)
    session.flush()
    _tell(session, "client_created", "make", client, by, standing=standing, **told)
    return client, secret


def approve(session: Session, by: Principal, client: Client) -> None:
    """Let a client that registered itself in. Raises `illegal_state`."""
    if client.standing != "pending":
        raise ExchangeError("illegal_state", f"The client is {client.standing}.", state=client.standing, legal=[])
    client.standing = "active"
    session.flush()
    _tell(session, "client_approved", "approve", client, by)


def change(session: Session, by: Principal, client: Client, organization: Organization, members: dict[str, Any]) -> None:
    """Apply a merge patch. Raises `Invalid`, `illegal_state`."""
    if "roles" in members:
        _check_roles(organization, members["roles"])
        _keep_an_operator(session, client, members["roles"])
    if "jwks" in members:
        if client.jwks is None:
            raise Invalid([{"pointer": "/jwks", "detail": "belongs to a client with private_key_jwt"}])
        members = members | {"jwks": check_jwks(members["jwks"])}
    differing = _set(client, members)
    if not differing:
        return
    session.flush()
    _tell(session, "client_changed", "change", client, by, changed=" ".join(sorted(differing)))


def change_itself(session: Session, by: Principal, client: Client, members: dict[str, Any]) -> None:
    """What a client says anew of itself (RFC 7592 section 2.2); all of it has been checked."""
    differing = _set(client, members)
    if not differing:
        return
    session.flush()
    kind = "key" if differing & KEYS else "client"
    _tell(session, "client_changed", "change", client, by, kind=kind, changed=" ".join(sorted(differing)))


def _set(client: Client, members: Mapping[str, Any]) -> set[str]:
    """Take on what differs; returns its names. Keys that are replaced so are of no use from now on, nor are those of before a rotation."""
    differing = {name: value for name, value in members.items() if getattr(client, name) != value}
    for name, value in differing.items():
        setattr(client, name, value)
    if differing.keys() & KEYS:
        _retire(client, None)
    return set(differing)


def rotate(
    session: Session, keys: Keys, by: Principal | None, client: Client, jwks: dict[str, Any] | None, overlap: timedelta = timedelta(0)
) -> str | None:
    """A new secret, or the new keys given. The old ones are good for `overlap` more, and one older than those no longer; without overlap
    they are of no use from now on. Raises `Invalid`, `illegal_state`.
    """
    _check_live(client)
    if client.jwks_uri is not None:
        raise Invalid(
            [{"pointer": "/jwks", "detail": "is not for a client that publishes its keys at its jwks_uri: it rotates them there"}]
        )
    if (client.jwks is not None) != (jwks is not None):
        raise Invalid([{"pointer": "/jwks", "detail": "must be there for a client with private_key_jwt, and only then"}])
    _retire(client, now() + overlap if overlap else None)
    secret = None
    if jwks is not None:
        client.jwks = check_jwks(jwks)
    else:
        secret = _new_secret(client, keys)
    session.flush()
    _tell(session, "client_changed", "rotate", client, by, kind="key", overlap_s=str(int(overlap.total_seconds())))
    return secret


def revoke_old(session: Session, by: Principal, client: Client) -> None:
    """End an overlap: the credential of before the last rotation is of no use from now on. Raises `illegal_state`."""
    if client.previous_until is None or client.previous_until <= now():
        raise ExchangeError("illegal_state", "The client has no older credential that is still good.", state=client.standing, legal=[])
    client.previous_until = client.previous_secret_key_id = client.previous_secret_hash = client.previous_secret_id = None
    client.previous_jwks = None
    session.flush()
    _tell(session, "client_changed", "revoke_old", client, by, kind="key")


def _retire(client: Client, until: datetime | None) -> None:
    """Put the credential of now in the place of the one before it, until then."""
    client.previous_until = until
    client.previous_jwks = client.jwks if until else None
    client.previous_secret_key_id = client.secret_key_id if until else None
    client.previous_secret_hash = client.secret_hash if until else None
    client.previous_secret_id = client.secret_id if until else None


def revoke(session: Session, by: Principal, client: Client) -> None:
    """Its tokens are refused from now on, and none is issued again. Raises `illegal_state`."""
    _check_live(client)
    _keep_an_operator(session, client, [])
    client.standing = "revoked"
    session.flush()
    _tell(session, "client_revoked", "revoke", client, by)


def remove(session: Session, by: Principal | None, client: Client) -> None:
    """Forget it; the audit log keeps its identifier. Raises `illegal_state`."""
    _keep_an_operator(session, client, [])
    session.delete(client)
    session.flush()
    _tell(session, "client_revoked", "remove", client, by)


def _new_secret(client: Client, keys: Keys) -> str:
    key = keys.secret("client_secret")
    secret = f"exs_{secrets.token_urlsafe(32)}"
    client.secret_key_id, client.secret_hash, client.secret_id = key.id, hash_of_secret(key, client.id, secret), new_id("sec")
    return secret


def _check_roles(organization: Organization, roles: Sequence[str]) -> None:
    if roles and not organization.operates:
        raise Invalid([{"pointer": "/roles", "detail": "are for clients of the organization that operates the exchange"}])


def _check_live(client: Client) -> None:
    if client.standing == "revoked":
        raise ExchangeError("illegal_state", "The client is revoked, which is final.", state=client.standing, legal=[])


def _keep_an_operator(session: Session, client: Client, roles: Sequence[str]) -> None:
    """Without an operator nobody could make one: the last active one stays."""
    if "operator" in roles or "operator" not in client.roles or client.standing != "active":
        return
    # Locked, so that two operators cannot remove each other at the same moment.
    colleagues = select(Client).where(Client.organization_id == client.organization_id, Client.standing == "active").with_for_update()
    if not any("operator" in other.roles for other in session.scalars(colleagues) if other.id != client.id):
        raise ExchangeError("illegal_state", "This is the last client with the role operator.", state=client.standing, legal=[])


def _tell(
    session: Session, change_kind: str, action: str, client: Client, by: Principal | None, *, kind: str = "client", **more: str
) -> None:
    number = changes.note(session, change_kind, client.id)
    entry = Entry(
        kind=kind,
        action=action,
        actor=by.actor if by else None,
        organization=by.organization_id or None if by else None,
        change=number,
        detail={"client": client.id, "organization": client.organization_id} | more,
        consumer=client.organization_id,
    )
    record(session, entry)
