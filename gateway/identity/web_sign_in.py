"""A browser signs a person in at their OpenID provider: code, PKCE, nonce and state, by a confidential client (OpenID Connect Core 1.0).

What must be known when the person comes back is sealed in a cookie that lives ten minutes: any replica takes up what another began.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus, urlencode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.identity.once import Once
from gateway.identity.person_tokens import Provider, nonce_of
from gateway.identity.principal import FRESH_S
from gateway.identity.provider import SKEW_S, Identity, IdTokenRefused, ProviderAway
from gateway.keys import SecretKey, b64, unb64
from gateway.settings import Settings

COOKIE = "__Host-exchange-login"
LIVES_S = 600
LONGEST_AGO_S = 43_200
"""A sign-in at the provider that is older than twelve hours is asked for anew."""
LONGEST_COOKIE = 4096
NONCE_BYTES = 12
BOUND_TO = b"a sign-in that has begun"


class SignInRefused(Exception):
    """Nobody was signed in; `words` say why, for a person, by language, and hold nothing that was sent."""

    def __init__(self, en: str, fr: str) -> None:
        super().__init__(en)
        self.words = {"en": en, "fr": fr}


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that has begun in a browser. `following`: the path to go on to. `issuer` is empty before a way was chosen."""

    following: str
    fresh: bool
    until: int
    state: str = field(repr=False)
    verifier: str = field(repr=False)
    nonce: str = field(repr=False)
    issuer: str = ""


class WebSignIn:
    """The exchange as the web client of the providers that it knows. Thread-safe; `finish` and `address` block."""

    def __init__(self, settings: Settings, key: SecretKey, once: Once, providers: tuple[Provider, ...]) -> None:
        self._settings = settings
        self._once = once
        self._seal = AESGCM(key.mac(b"sealed sign-in"))
        self._redirect = f"{settings.issuer}/login/callback"
        self.providers = {one.at.issuer: one for one in providers if one.web_client_id}

    def begin(self, following: str, issuer: str, *, fresh: bool) -> Begun:
        state, verifier, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        return Begun(following, fresh, int(time.time()) + LIVES_S, state, verifier, nonce, issuer)

    def seal(self, begun: Begun) -> str:
        """What the browser keeps of it."""
        nonce = os.urandom(NONCE_BYTES)
        return b64(nonce + self._seal.encrypt(nonce, json.dumps(asdict(begun)).encode(), BOUND_TO))

    def open(self, cookie: str, state: str) -> Begun:
        """The sign-in that this browser began with this `state`. Raises `SignInRefused`."""
        try:
            if len(cookie) > LONGEST_COOKIE:
                raise ValueError("too long")
            raw = unb64(cookie)
            begun = Begun(**json.loads(self._seal.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], BOUND_TO)))
        except (ValueError, TypeError, InvalidTag) as error:  # TypeError: sealed by another version
            raise SignInRefused(
                "This sign-in was not begun in this browser, or long ago.",
                "Cette connexion n'a pas été commencée dans ce navigateur, ou il y a longtemps.",
            ) from error
        if begun.until < time.time() or not hmac.compare_digest(state.encode(), begun.state.encode()):
            raise SignInRefused(
                "This sign-in was not begun in this browser, or long ago.",
                "Cette connexion n'a pas été commencée dans ce navigateur, ou il y a longtemps.",
            )
        return begun

    def address(self, begun: Begun) -> str:
        """Where the provider signs the person in. Raises `ProviderAway`."""
        provider = self.providers[begun.issuer]
        asked = {
            "response_type": "code",
            "client_id": provider.web_client_id,
            "redirect_uri": self._redirect,
            "scope": provider.scope,
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": nonce_of(begun.verifier),
            "code_challenge_method": "S256",
            # Always one: a provider that is told one says when the person signed in (OpenID Connect Core 1.0 section 2).
            "max_age": str(FRESH_S if begun.fresh else LONGEST_AGO_S),
        }
        if begun.fresh and self._settings.oidc_acr:
            asked["acr_values"] = self._settings.oidc_acr
        endpoint = _endpoint(provider, "authorization_endpoint")
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    def finish(self, begun: Begun, came: Mapping[str, str]) -> Identity:
        """Who signed in, by the parameters with which the browser came back. Raises `SignInRefused`, `ProviderAway`."""
        provider = self.providers.get(begun.issuer)
        if provider is None:
            raise SignInRefused("This sign-in was begun in another way.", "Cette connexion a été commencée d'une autre manière.")
        told_by_all = bool(provider.at.metadata().get("authorization_response_iss_parameter_supported"))
        # RFC 9207: a code of another provider must not be taken to this one.
        if came.get("iss", "" if told_by_all else begun.issuer) != begun.issuer:
            raise SignInRefused(
                "The answer is of another provider than the one that was asked.",
                "La réponse vient d'un autre fournisseur que celui qui a été interrogé.",
            )
        if "code" not in came:
            raise SignInRefused("The provider has signed nobody in.", "Le fournisseur n'a connecté personne.")
        form = {"grant_type": "authorization_code", "code": came["code"], "redirect_uri": self._redirect, "code_verifier": begun.verifier}
        # RFC 6749 section 2.3.1: both are encoded as in a form before they are put together.
        client = (quote_plus(provider.web_client_id), quote_plus(provider.web_client_secret.get_secret_value()))
        token = provider.at.post(_endpoint(provider, "token_endpoint"), form, client).get("id_token")
        if not isinstance(token, str):
            raise SignInRefused("The provider does not take back what it gave.", "Le fournisseur n'accepte pas ce qu'il a donné.")
        try:
            identity = provider.at.read_id_token(token, client_id=provider.web_client_id, nonce=begun.nonce)
        except IdTokenRefused as refused:
            raise SignInRefused(str(refused), "Le jeton d'identité du fournisseur n'est pas accepté.") from refused
        if not self._once.use(identity.digest, datetime.fromtimestamp(identity.expires_at + SKEW_S, UTC)):
            raise SignInRefused(
                "The ID token was used before: sign in again.", "Le jeton d'identité a déjà servi : connectez-vous de nouveau."
            )
        return identity


def _endpoint(provider: Provider, name: str) -> str:
    endpoint: Any = provider.at.metadata().get(name)
    if not isinstance(endpoint, str):
        raise ProviderAway(f"it names no {name}")
    return endpoint
