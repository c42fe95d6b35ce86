"""Introspection (RFC 7662): what a token says and whether it is accepted, for its client and for who operates the exchange."""

from __future__ import annotations

import time
from typing import Any

from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from gateway.errors import ExchangeError
from gateway.identity.client_authentication import AuthenticatedClient
from gateway.identity.directory import Directory
from gateway.identity.principal import Principal
from gateway.identity.tokens import AccessToken


class Introspection(IntrospectionEndpoint):  # type: ignore[misc] # Authlib has no types
    """The endpoint. What is no token, or no longer one, or not for the caller to know, is `{"active": false}` and no more."""

    def check_params(self, request: Any, client: AuthenticatedClient) -> None:  # noqa: ARG002
        if "token" not in request.form:
            raise InvalidRequestError("token is missing.")

    def query_token(self, token_string: str, token_type_hint: str | None) -> Introspected | None:  # noqa: ARG002 - a hint may be ignored
        directory: Directory = self.server.directory
        try:
            principal = directory.authenticate(token_string)
            return Introspected(directory.read_token(token_string), principal)
        except ExchangeError:
            return None

    def check_permission(self, token: Introspected, client: AuthenticatedClient, request: Any) -> bool:  # noqa: ARG002
        """Its own tokens; a client of the operating organization, any."""
        asking = self.server.directory.organization(client.view.organization_id)
        return token.said.client_id == client.view.id or (asking is not None and asking.standing == "approved" and asking.operates)

    def introspect_token(self, token: Introspected) -> dict[str, Any]:
        said = token.said
        issuer: str = self.server.directory.issuer
        answer: dict[str, Any] = {
            "active": True,
            "client_id": said.client_id,
            "sub": token.principal.actor,
            "scope": " ".join(sorted(token.principal.scopes)),
            "iss": issuer,
            "aud": issuer,
            "iat": said.issued_at,
            "exp": said.expires_at,
            "jti": said.token_id,
            "token_type": "Bearer" if said.key_thumbprint is None else "DPoP",
        }
        if said.key_thumbprint is not None:
            answer["cnf"] = {"jkt": said.key_thumbprint}
        if said.authorization_details:
            answer["authorization_details"] = list(said.authorization_details)
        return answer


class Introspected:
    """A token that was accepted, in the manner of Authlib's `TokenMixin`."""

    def __init__(self, said: AccessToken, principal: Principal) -> None:
        self.said = said
        self.principal = principal

    def is_expired(self) -> bool:
        return self.said.expires_at <= time.time()

    def is_revoked(self) -> bool:
        return False
