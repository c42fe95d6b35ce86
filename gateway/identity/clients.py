"""What is done to API clients: make, change, rotate, revoke, remove. Each in the caller's transaction, noted and recorded."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
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
) -> tuple[Client, str | None]:
    """A new, active client and its secret, which is kept nowhere. Raises `Invalid`."""
    _check_roles(organization, roles)
    by_key = token_endpoint_auth_method == "private_key_jwt"  # noqa: S105 - the name of a method
    if by_key != (jwks is not None):
        raise Invalid([{"pointer": "/jwks", "detail": "must be there with private_key_jwt, and only then"}])
    client = Client(
        id=new_id("cli"),
        organization_id=organization.id,
        name=name,
        standing="active",
        scopes=list(scopes),
        roles=list(roles),
        token_endpoint_auth_method=token_endpoint_auth_method,
        jwks=check_jwks(jwks) if jwks is not None else None,
        created_at=now(),
    )
    secret = None if by_key else _new_secret(client, keys)
    session.add(client)
    session.flush()
    _tell(session, "client_created", "make", client, by)
    return client, secret


def change(session: Session, by: Principal, client: Client, organization: Organization, members: dict[str, Any]) -> None:
    """Apply a merge patch. Raises `Invalid`, `illegal_state`."""
    if "roles" in members:
        _check_roles(organization, members["roles"])
        _keep_an_operator(session, client, members["roles"])
    if "jwks" in members:
        if client.jwks is None:
            raise Invalid([{"pointer": "/jwks", "detail": "belongs to a client with private_key_jwt"}])
        members = members | {"jwks": check_jwks(members["jwks"])}
    differing = {name: value for name, value in members.items() if getattr(client, name) != value}
    if not differing:
        return
    for name, value in differing.items():
        setattr(client, name, value)
    session.flush()
    _tell(session, "client_changed", "change", client, by, changed=" ".join(sorted(differing)))


def rotate(session: Session, keys: Keys, by: Principal, client: Client, jwks: dict[str, Any] | None) -> str | None:
    """A new secret, or the new keys given; the old ones are of no use from now on. Raises `Invalid`, `illegal_state`."""
    _check_live(client)
    if (client.jwks is not None) != (jwks is not None):
        raise Invalid([{"pointer": "/jwks", "detail": "must be there for a client with private_key_jwt, and only then"}])
    secret = None
    if jwks is not None:
        client.jwks = check_jwks(jwks)
    else:
        secret = _new_secret(client, keys)
    session.flush()
    _tell(session, "client_changed", "rotate", client, by, kind="key")
    return secret


def revoke(session: Session, by: Principal, client: Client) -> None:
    """Its tokens are refused from now on, and none is issued again. Raises `illegal_state`."""
    _check_live(client)
    _keep_an_operator(session, client, [])
    client.standing = "revoked"
    session.flush()
    _tell(session, "client_revoked", "revoke", client, by)


def remove(session: Session, by: Principal, client: Client) -> None:
    """Forget it; the audit log keeps its identifier. Raises `illegal_state`."""
    _keep_an_operator(session, client, [])
    session.delete(client)
    session.flush()
    _tell(session, "client_revoked", "remove", client, by)


def _new_secret(client: Client, keys: Keys) -> str:
    key = keys.secret("client_secret")
    secret = f"exs_{secrets.token_urlsafe(32)}"
    client.secret_key_id, client.secret_hash = key.id, hash_of_secret(key, client.id, secret)
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
