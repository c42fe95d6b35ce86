"""An OpenID provider at which people sign in: what it publishes, and whether an ID token is its own (OpenID Connect Core 1.0).

The operator names it, so that its address may be a private one. What it publishes is kept; a key that is not known yet is asked
for at once, so that it may roll its keys over. Blocks: call it in worker threads.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import structlog
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key

from gateway.identity.tokens import jws_header

log = structlog.get_logger(__name__)

FETCH_S = 5.0
"""Seconds that the provider has for an answer."""
MOST_BYTES = 512 * 1024
KEPT_S = 3600.0
AGAIN_S = 5.0
"""An unknown key, or a provider that was away, is asked for again after so many seconds at the earliest."""
SKEW_S = 30
"""Seconds that its clock may differ from ours."""
LONGEST_AGE_S = 300
"""An ID token is exchanged within so many seconds of its issue."""
LATEST = 2**37
"""Seconds since 1970 of a time beyond which no calendar goes."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""Asymmetric ones alone: by `none` or HS256 anybody who knows the client could write a token."""


class ProviderAway(Exception):
    """The provider does not answer, or what it answers is not what OpenID Connect Discovery 1.0 says."""


class IdTokenRefused(Exception):
    """The ID token is not one that the exchange takes; the message says why and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in, as the provider says. `auth_time` in seconds since 1970, None if it does not say when; `digest` names the token."""

    issuer: str
    subject: str = field(repr=False)
    auth_time: int | None
    acr: str | None
    expires_at: int
    digest: bytes = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)


class OpenIdProvider:
    """The provider with this issuer. Thread-safe."""

    def __init__(self, issuer: str, *, transport: httpx2.BaseTransport | None = None) -> None:
        self.issuer = issuer
        self._transport = transport
        self._lock = threading.Lock()
        self._metadata: dict[str, Any] = {}
        self._keys: list[tuple[dict[str, Any], Key]] = []
        self._metadata_until = self._keys_until = self._not_before = 0.0

    def metadata(self) -> Mapping[str, Any]:
        """Its discovery document (OpenID Connect Discovery 1.0 section 3). Raises `ProviderAway`."""
        with self._lock:
            return self._known()

    def read_id_token(self, token: str, *, client_id: str, nonce: str | None, nonce_may_lack: bool = False) -> Identity:
        """Validate as OpenID Connect Core 1.0 section 3.1.3.7 asks. A token with a nonce must have this one.

        One without is taken where `nonce_may_lack`: of the device grant (RFC 8628) some providers put none into it.

        Raises `IdTokenRefused`, `ProviderAway`.
        """
        try:
            header = jws_header(token)
            claims = json.loads(self._verified(token, header))
            if not isinstance(claims, dict):
                raise IdTokenRefused("The ID token has no claims.")
            self._check(claims, client_id)
            if claims.get("nonce") != nonce and not (nonce_may_lack and "nonce" not in claims):
                raise IdTokenRefused("The nonce of the ID token is another.")
        except (JoseError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise IdTokenRefused("That is not an ID token of the provider.") from error
        # Over what was signed: of some signatures there is a second form.
        digest = hashlib.sha256(b"id token\0" + token.rpartition(".")[0].encode()).digest()
        acr = claims.get("acr")
        return Identity(
            issuer=self.issuer,
            subject=claims["sub"],
            auth_time=_second(claims, "auth_time") if "auth_time" in claims else None,
            acr=acr if isinstance(acr, str) else None,
            expires_at=_second(claims, "exp"),
            digest=digest,
            claims=claims,
        )

    def _check(self, claims: Mapping[str, Any], client_id: str) -> None:
        second = time.time()
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        issued, expires, proved = _second(claims, "iat"), _second(claims, "exp"), _second(claims, "auth_time", 0)
        if claims["iss"] != self.issuer:
            raise IdTokenRefused("The ID token is of another issuer.")
        # Others in the audience could bring the token here in the person's name: none is trusted.
        if audience != [client_id] or claims.get("azp", client_id) != client_id:
            raise IdTokenRefused("The ID token was issued for another client.")
        if not isinstance(claims["sub"], str) or not 1 <= len(claims["sub"]) <= 255:
            raise IdTokenRefused("The ID token names nobody.")
        if expires <= second - SKEW_S or issued > second + SKEW_S or _second(claims, "nbf", issued) > second + SKEW_S:
            raise IdTokenRefused("The ID token has expired, or its time has not come.")
        if proved > second + SKEW_S:
            raise IdTokenRefused("The auth_time of the ID token has not come: it would count as fresh for ever.")
        if issued < second - LONGEST_AGE_S - SKEW_S:
            raise IdTokenRefused("The ID token is too old: sign in again.")

    def _verified(self, token: str, header: Mapping[str, Any]) -> bytes:
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise IdTokenRefused("The ID token is not signed by an asymmetric key.")
        for again in (False, True):
            for key in self._keys_for(algorithm, key_id, again=again):
                try:
                    return bytes(jws.deserialize_compact(token, key, registry=_Registry()).payload)
                except JoseError:
                    continue
        raise IdTokenRefused("The signature of the ID token is by no key of the provider.")

    def _keys_for(self, algorithm: str, key_id: object, *, again: bool) -> list[Key]:
        """Those that it may be signed by: with this `kid`, or without one all of the kind. `again`: if there was none, ask anew."""
        with self._lock:
            at = time.monotonic()
            if at >= self._keys_until or (again and at >= self._not_before):
                self._fetch_keys(at)
            return [key for jwk, key in self._keys if _fits(jwk, algorithm) and (key_id is None or jwk.get("kid") == key_id)]

    def _fetch_keys(self, at: float) -> None:
        try:
            found = self._fetch(str(self._known()["jwks_uri"]))["keys"]
            self._keys = [(jwk, key) for jwk in found[:50] for key in _imported(jwk)]
            self._keys_until = at + KEPT_S
        except (KeyError, TypeError) as error:
            raise ProviderAway("it publishes no keys") from error
        except ProviderAway:
            if not self._keys:
                raise  # what is known stays: a provider that is away for a while stops nobody who has a token of it
            log.warning("openid_keys_kept", issuer=self.issuer)
            self._keys_until = at + 60
        finally:
            self._not_before = at + AGAIN_S

    def _known(self) -> dict[str, Any]:
        at = time.monotonic()
        if at >= self._metadata_until:
            try:
                found = self._fetch(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
                if found.get("issuer") != self.issuer:
                    raise ProviderAway("its discovery document is of another issuer")
                self._metadata, self._metadata_until = found, at + KEPT_S
            except ProviderAway:
                if not self._metadata:
                    raise
                self._metadata_until = at + 60
        return self._metadata

    def post(self, url: str, form: Mapping[str, str], auth: tuple[str, str]) -> dict[str, Any]:
        """Its JSON answer to a form, whatever its status. Raises `ProviderAway`."""
        return self._ask("POST", url, data=dict(form), auth=auth)

    def _fetch(self, url: str) -> dict[str, Any]:
        return self._ask("GET", url)

    def _ask(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        try:
            with (
                httpx2.Client(timeout=FETCH_S, trust_env=False, transport=self._transport) as http,
                http.stream(method, url, headers={"Accept": "application/json"}, **more) as answer,
            ):
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > MOST_BYTES:
                        raise ProviderAway("its answer is too long")
                if method == "GET" and answer.status_code != httpx2.codes.OK:
                    raise ProviderAway(f"it answers {answer.status_code}")
            document = json.loads(body)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise ProviderAway(type(error).__name__) from error
        if not isinstance(document, dict):
            raise ProviderAway("its answer is no JSON object")
        return document


class _Registry(jws.JWSRegistry):
    max_header_length = 8192

    def get_alg(self, name: str) -> Any:
        """Without joserfc's warning for `EdDSA`, which providers say."""
        return self.algorithms[name]


def _imported(jwk: object) -> list[Key]:
    """The key, or none: one kind of key that is new must not make the others of no use."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig" or jwk.get("kty") not in {"RSA", "EC", "OKP"}:
        return []
    try:
        return [import_key({name: value for name, value in jwk.items() if name in {"kty", "crv", "x", "y", "n", "e"}})]
    except (JoseError, ValueError, TypeError):
        return []


def _fits(jwk: Mapping[str, Any], algorithm: str) -> bool:
    kinds = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
    return jwk.get("kty") == kinds[algorithm[:2]] and jwk.get("alg", algorithm) == algorithm


def _second(claims: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a time")
    if not 0 <= value < LATEST:
        raise ValueError(f"{name} must be a time of this age")
    return int(value)
