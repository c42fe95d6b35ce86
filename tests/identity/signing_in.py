"""People who sign in at the city's provider, and what they do with the ID token."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
from joserfc import jws

from gateway.cli.sign_in import digest_of
from gateway.identity.person_tokens import COMMAND_LINE, ID_TOKEN, LOCAL_ACCOUNT, TOKEN_EXCHANGE
from tests.engines.openid import COMMAND_LINE as CLIENT_ID
from tests.engines.openid import ROLES, OpenIdProvider, Visitor
from tests.identity.exchange import Exchange, Unwarned, an_exchange, bearer

REDIRECT = "http://127.0.0.1:5/callback"


@contextmanager
def city(folder: Path, provider: OpenIdProvider, **more: Any) -> Iterator[Exchange]:
    """An exchange whose people sign in at this provider."""
    told = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT_ID, "oidc_roles": ROLES, "oidc_employee_claim": "employee_id"}
    with an_exchange(folder, **(told | more)) as exchange:
        yield exchange


def signed_in_at(provider: OpenIdProvider, login: str, **asked: str) -> tuple[str, str]:
    """A real ID token by code and PKCE, and the text of its nonce."""
    verifier, nonce_verifier, state = (secrets.token_urlsafe(32) for _ in range(3))
    parameters = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT,
        "scope": "openid profile",
        "state": state,
        "nonce": digest_of(nonce_verifier),
        "code_challenge": digest_of(verifier),
        "code_challenge_method": "S256",
        "max_age": "3600",
    } | asked
    visitor = Visitor(login)
    came_back = parse_qs(urlsplit(visitor.sign_in(f"{provider.issuer}/auth?{urlencode(parameters)}", REDIRECT)).query)
    visitor.close()
    assert came_back["state"] == [state]
    form = {"grant_type": "authorization_code", "code": came_back["code"][0], "redirect_uri": REDIRECT, "code_verifier": verifier}
    answer = httpx2.post(f"{provider.issuer}/token", data=form | {"client_id": CLIENT_ID})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id_token"]), nonce_verifier


def id_token(provider: OpenIdProvider, login: str, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
    """An ID token as the provider would sign it, by its own key, with these claims in the place of the right ones; None takes one out."""
    second = int(time.time())
    right = {"iss": provider.issuer, "aud": CLIENT_ID, "sub": login, "iat": second, "exp": second + 600, "auth_time": second}
    said = {name: value for name, value in (right | provider.people.get(login, {}) | claims).items() if value is not None}
    # So that no two are alike: each is good once.
    said |= {"at_hash": secrets.token_hex(8)}
    told = {"alg": provider.algorithm, "kid": provider.key.kid} | (header or {})
    told = {name: value for name, value in told.items() if value is not None}
    return jws.serialize_compact(told, json.dumps(said).encode(), key or provider.key, registry=Unwarned())


def ask(exchange: Exchange, token: str, nonce_verifier: str | None = None, **more: str) -> Any:
    """The answer of the token endpoint to an ID token."""
    form = {"grant_type": TOKEN_EXCHANGE, "client_id": COMMAND_LINE, "subject_token": token, "subject_token_type": ID_TOKEN}
    form |= {"nonce_verifier": nonce_verifier} if nonce_verifier is not None else {}
    return exchange.http.post("/oauth/token", data=form | more)


def granted(exchange: Exchange, token: str, nonce_verifier: str | None = None, **more: str) -> dict[str, Any]:
    answer = ask(exchange, token, nonce_verifier, **more)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def refreshed(exchange: Exchange, refresh_token: str, **more: str) -> Any:
    form = {"grant_type": "refresh_token", "client_id": COMMAND_LINE, "refresh_token": refresh_token}
    return exchange.http.post("/oauth/token", data=form | more)


def by_password(exchange: Exchange, username: str, password: str) -> Any:
    form = {"grant_type": LOCAL_ACCOUNT, "client_id": COMMAND_LINE, "username": username, "password": password}
    return exchange.http.post("/oauth/token", data=form)


class Someone:
    """A person who is signed in: headers, and who they are here."""

    def __init__(self, exchange: Exchange, provider: OpenIdProvider, login: str, **claims: Any) -> None:
        self.exchange = exchange
        self.granted = granted(exchange, id_token(provider, login, **claims))
        self.headers = bearer(self.granted["access_token"])
        self.id: str = self.me()["person"]["id"]

    def me(self) -> dict[str, Any]:
        answer = self.exchange.http.get("/v1/me", headers=self.headers)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document
