"""Revocation (RFC 7009): a token that its client gives up is refused at every replica when the call has returned."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc7009 import RevocationEndpoint
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from gateway import changes
from gateway.audit.record import Entry, record
from gateway.database import Database, now
from gateway.errors import ExchangeError
from gateway.identity.client_authentication import AuthenticatedClient
from gateway.identity.directory import Directory
from gateway.identity.models import RevokedToken
from gateway.identity.tokens import AccessToken


class Revocation(RevocationEndpoint):  # type: ignore[misc] # Authlib has no types
    """The endpoint. Rubbish, and tokens that have expired or were revoked, are answered as RFC 7009 section 2.2 asks: with 200."""

    def check_params(self, request: Any, client: AuthenticatedClient) -> None:  # noqa: ARG002 - Authlib's signature; a hint may be ignored
        if "token" not in request.form:
            raise InvalidRequestError("token is missing.")

    def query_token(self, token_string: str, token_type_hint: str | None) -> Revocable | None:  # noqa: ARG002 - as above
        directory: Directory = self.server.directory
        try:
            return Revocable(directory.read_token(token_string), directory)
        except ExchangeError:
            return None

    def revoke_token(self, token: Revocable, request: Any) -> None:
        """Raises `barrier_pending`, `database_unavailable`: the token may be accepted still, and the call is to be repeated."""
        client: AuthenticatedClient = request.client
        database: Database = self.server.database
        try:
            with database.transaction() as session:
                revoke(session, token.said, client)
        except IntegrityError:  # two at once: the other one has done it by now, and this one waits with it
            with database.transaction() as session:
                revoke(session, token.said, client)


class Revocable:
    """A token of this exchange, in the manner of Authlib's `TokenMixin`."""

    def __init__(self, said: AccessToken, directory: Directory) -> None:
        self.said = said
        self._directory = directory

    def check_client(self, client: AuthenticatedClient) -> bool:
        """Its own; an operator of the exchange may revoke any, so that one that was found lying about does no harm."""
        organization = self._directory.organization(client.view.organization_id)
        operates = organization is not None and organization.operates and organization.standing == "approved"
        return self.said.client_id == client.view.id or (operates and "operator" in client.view.roles)


def revoke(session: Session, said: AccessToken, by: AuthenticatedClient) -> None:
    """Refuse this token from now on. Repeating it waits at the barrier again and changes nothing."""
    known = session.get(RevokedToken, said.token_id)
    if known is not None:
        changes.await_again(session, known.change)
        return
    number = forbid(session, said.token_id, datetime.fromtimestamp(said.expires_at, UTC))
    entry = Entry(
        kind="client",
        action="revoke_token",
        actor=by.view.id,
        organization=by.view.organization_id,
        change=number,
        detail={"client": said.client_id, "token": said.token_id},
    )
    record(session, entry)


def forbid(session: Session, token_id: str, expires_at: datetime) -> int:
    """Note that this token is refused, until it would have expired, and return the number of the change."""
    session.execute(delete(RevokedToken).where(RevokedToken.expires_at < now()))
    number = changes.note(session, "token_revoked", token_id)
    session.add(RevokedToken(id=token_id, change=number, expires_at=expires_at))
    return number
