"""Tokens of persons: an ID token of their provider exchanged for one of ours (RFC 8693), and that one renewed (RFC 6749 section 6).

1. the command line signs a person in at the provider, by a code with PKCE on a loopback redirect (RFC 8252) or on another device (8628);
2. it brings the ID token here, with the text whose SHA-256 is the token's nonce: who only saw the token has not seen that;
3. it gets a token of ten minutes for the person and a refresh token that is good once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError, InvalidScopeError, UnauthorizedClientError
from joserfc import jwt
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from gateway.database import Database, new_id, now
from gateway.errors import ExchangeError
from gateway.identity import people, sign_ins
from gateway.identity.directory import Directory
from gateway.identity.local_accounts import LocalAccounts
from gateway.identity.once import Once
from gateway.identity.people_models import PersonSession
from gateway.identity.person_facts import PersonFacts
from gateway.identity.provider import SKEW_S, Identity, IdTokenRefused, OpenIdProvider, ProviderAway
from gateway.identity.scopes import SCOPES
from gateway.identity.sign_ins import SignIn
from gateway.keys import Keys, b64, unb64
from gateway.settings import FurtherProvider, Settings

COMMAND_LINE = "exchange-cli"
"""The public client (RFC 6749 section 2.1) that every command line is, at the exchange."""
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant
LOCAL_ACCOUNT = "urn:civic-exchange:oauth:grant-type:local-account"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a kind
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the name of a kind
SERVER_ERROR = 500
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider that is configured, the command line's client there, and the browsers' one with its secret."""

    at: OpenIdProvider
    client_id: str
    scope: str
    web_client_id: str
    web_client_secret: SecretStr


class PersonTokens:
    """The grants of persons at `POST /oauth/token`. Synchronous and thread-safe: call it in a worker thread."""

    def __init__(self, settings: Settings, keys: Keys, database: Database, directory: Directory) -> None:
        self._settings = settings
        self._keys = keys
        self._database = database
        self._directory = directory
        self._once = Once(database)
        self.local = LocalAccounts(settings, keys, database)
        self.providers = _providers(settings)
        self._grants: dict[str, Callable[[Mapping[str, str]], SignIn]] = {"refresh_token": self._refresh}
        if self.providers:
            self._grants[TOKEN_EXCHANGE] = self._exchange
        if settings.with_local_accounts:
            self._grants[LOCAL_ACCOUNT] = self._by_password

    def offers(self, grant_type: str) -> bool:
        return grant_type in self._grants and (bool(self.providers) or self._settings.with_local_accounts)

    def added_to(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """The server's metadata (RFC 8414) with what a command line must know to sign a person in."""
        offered = [name for name in self._grants if self.offers(name)]
        if not offered:
            return dict(metadata)
        providers = [{"issuer": one.at.issuer, "client_id": one.client_id, "scope": one.scope} for one in self.providers if one.client_id]
        return {
            **metadata,
            "grant_types_supported": [*metadata["grant_types_supported"], *offered],
            # Not among the methods of clients: a program never comes as a public one (FAPI 2.0 section 5.3.2.1).
            "exchange_sign_in": {"client_id": COMMAND_LINE, "token_endpoint_auth_method": "none", "openid_providers": providers},
        }

    def token(self, headers: Headers, form: Mapping[str, str]) -> JSONResponse:
        """The answer to a grant that `offers` says is offered. Raises `OAuth2Error`."""
        if not is_of_a_person(headers, form):
            raise UnauthorizedClientError(f"This grant is for the public client {COMMAND_LINE}, which names itself by client_id.")
        if form.get("resource", self._settings.issuer) != self._settings.issuer:
            raise OAuth2Error("The only resource here is the exchange itself.", error="invalid_target")
        try:
            return self._answer(self._grants[form["grant_type"]](form), form)
        except ExchangeError as error:
            if error.status >= SERVER_ERROR:
                return _unavailable()
            body = {"error": "temporarily_unavailable", "error_description": error.detail}
            return JSONResponse(body, error.status, NO_STORE | error.headers)
        except ProviderAway:
            return _unavailable("The OpenID provider does not answer: try again in a moment.")

    # -- the grants ----------------------------------------------------------------------------------------------------

    def _exchange(self, form: Mapping[str, str]) -> SignIn:
        """RFC 8693 section 2.1."""
        if form.get("subject_token_type") != ID_TOKEN or "subject_token" not in form or "actor_token" in form:
            raise InvalidRequestError(f"subject_token must be an ID token, subject_token_type {ID_TOKEN}, and there is no actor.")
        if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
            raise InvalidRequestError(f"requested_token_type must be {ACCESS_TOKEN}.")
        token, verifier = form["subject_token"], form.get("nonce_verifier")
        provider = self._provider_of(token)
        try:
            nonce = nonce_of(verifier) if verifier is not None else None
            identity = provider.at.read_id_token(token, client_id=provider.client_id, nonce=nonce, nonce_may_lack=True)
        except IdTokenRefused as refused:
            raise InvalidGrantError(str(refused)) from refused
        if not self._once.use(identity.digest, datetime.fromtimestamp(identity.expires_at + SKEW_S, UTC)):
            raise InvalidGrantError("The ID token was used before: sign in again.")
        return self._begin(identity, form)

    def _by_password(self, form: Mapping[str, str]) -> SignIn:
        """An extension grant (RFC 6749 section 4.5): where there is no provider to be sent to, the exchange is it."""
        identity = self.local.identify(form.get("username", ""), form.get("password", ""))
        if identity is None:
            raise InvalidGrantError("That name and password are not of an account here.")
        return self._begin(identity, form)

    def _refresh(self, form: Mapping[str, str]) -> SignIn:
        if "refresh_token" not in form:
            raise InvalidRequestError("refresh_token is missing.")
        with self._database.transaction() as session:
            renewed = sign_ins.go_on(session, self._keys.secret("person"), form["refresh_token"])
        if renewed is None:
            raise InvalidGrantError("The refresh token is unknown, over or used: sign in again.")
        return renewed

    def _provider_of(self, token: str) -> Provider:
        try:
            issuer = json.loads(unb64(token.split(".")[1]))["iss"]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise InvalidGrantError("That is not an ID token.") from error
        for provider in self.providers:
            if provider.at.issuer == issuer and provider.client_id:
                return provider
        raise InvalidGrantError("The ID token is of no provider that the exchange knows.")

    def _begin(self, identity: Identity, form: Mapping[str, str]) -> SignIn:
        scope = form.get("scope") or " ".join(SCOPES)
        if not set(scope.split()) <= set(SCOPES):
            raise InvalidScopeError
        with self._database.transaction() as session:
            person = people.sign_in(session, self._keys, self._settings, identity)
            if person.standing != "active":
                raise InvalidGrantError("This person is suspended: ask the operator.")
            return sign_ins.begin(
                session,
                self._keys.secret("person"),
                person,
                kind="token",
                client_id=COMMAND_LINE,
                scope=scope,
                auth_time=identity.auth_time or 0,  # a provider that does not say when: long ago
                acr=identity.acr,
                lifetime=timedelta(hours=self._settings.person_session_h),
            )

    # -- the answer ----------------------------------------------------------------------------------------------------

    def _answer(self, signed_in: SignIn, form: Mapping[str, str]) -> JSONResponse:
        row = signed_in.row
        asked = form.get("scope") if form["grant_type"] == "refresh_token" else None
        if asked is not None and not set(asked.split()) <= set(row.scope.split()):
            raise InvalidScopeError
        scopes = frozenset((asked or row.scope).split())
        expires_at = int(min(now() + timedelta(seconds=self._settings.token_lifetime_s), row.expires_at).timestamp())
        token_id = new_id("tok")
        try:
            caller = self._directory.person_as_principal(
                facts_of(row), client_id=row.client_id, scopes=scopes, expires_at=expires_at, token_id=token_id
            )
        except ExchangeError as error:
            raise InvalidGrantError(error.detail) from error
        body = {
            "access_token": self._sign(row, " ".join(sorted(scopes)), expires_at, token_id),
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": max(0, expires_at - int(now().timestamp())),
            "scope": " ".join(sorted(caller.scopes)),
            "refresh_token": signed_in.secret,
        }
        return JSONResponse(body, headers=NO_STORE)

    def _sign(self, row: PersonSession, scope: str, expires_at: int, token_id: str) -> str:
        """RFC 9068 section 2.2, with `auth_time` and `acr` of section 2.2.1."""
        claims: dict[str, Any] = {
            "iss": self._settings.issuer,
            "aud": self._settings.issuer,
            "sub": row.person_id,
            "client_id": row.client_id,
            "iat": int(now().timestamp()),
            "exp": expires_at,
            "jti": token_id,
            "scope": scope,
            "sid": row.id,
            "auth_time": int(row.auth_time.timestamp()),
        }
        key = self._directory.signing.signer("token")
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, claims | ({"acr": row.acr} if row.acr else {}), key)


def is_of_a_person(headers: Headers, form: Mapping[str, str]) -> bool:
    """True for a grant that asks for no client to prove itself."""
    return form.get("client_id") == COMMAND_LINE and "authorization" not in headers and "client_assertion" not in form


def facts_of(row: PersonSession) -> PersonFacts:
    """Who signed in, and when."""
    return PersonFacts(row.person_id, row.id, int(row.auth_time.timestamp()), row.acr)


def nonce_of(verifier: str) -> str:
    """The nonce that goes with the ID token; its text stays with who asked for the token, and proves that it is them."""
    return b64(sha256(verifier.encode("utf-8", "replace")).digest())


def _providers(settings: Settings) -> tuple[Provider, ...]:
    city = FurtherProvider(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        scope=settings.oidc_scope,
        web_client_id=settings.oidc_web_client_id,
        web_client_secret=settings.oidc_web_client_secret,
    )
    named = ((city,) if city.issuer else ()) + settings.oidc_further
    return tuple(Provider(OpenIdProvider(one.issuer), one.client_id, one.scope, one.web_client_id, one.web_client_secret) for one in named)


def _unavailable(description: str = "Try again in a moment.") -> JSONResponse:
    body = {"error": "temporarily_unavailable", "error_description": description}
    return JSONResponse(body, 503, NO_STORE | {"Retry-After": "2"})
