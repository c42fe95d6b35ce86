"""How a client proves itself to the authorization server: by secret, or by a signed assertion (RFC 7523 section 3).

Authlib's own two methods are not used: they tell an unknown client from a wrong secret, fail on bytes that are not UTF-8,
take RS256 and an `aud` that is a list, and do not take PS256 or EdDSA.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import unquote_plus

import structlog
from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc6749.errors import InvalidClientError
from joserfc.jwk import ECKey, Key, OKPKey
from prometheus_client import Counter
from starlette.datastructures import Headers

from gateway.database import now
from gateway.identity.client_keys import ALGORITHMS, named_keys_for, signed_by
from gateway.identity.directory import ClientView, Directory
from gateway.identity.dpop import is_time
from gateway.identity.once import Once
from gateway.identity.published_keys import PublishedKeys
from gateway.identity.tokens import jws_header
from gateway.keys import SecretKey, b64, unb64

log = structlog.get_logger(__name__)

METHODS = ("client_secret_basic", "private_key_jwt")
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_LIFE_S = 300
LONGEST_NAME = 64
SKEW_S = 10
"""A clock may be this far from ours: FAPI 2.0 section 5.3.2.1 asks for 10 s and forbids more than 60 s."""
JTI = re.compile(r"[\x20-\x7e]{1,256}")

authentications = Counter(
    "exchange_client_authentications_total",
    "Clients that proved themselves, by method and by which of their credentials: the current or the previous one.",
    ["method", "credential"],
)


class ClientNotAuthenticated(InvalidClientError):  # type: ignore[misc] # Authlib has no types
    """`invalid_client`, 401. Whether the client is unknown, revoked or of another method, or its secret wrong, is not told."""

    def __init__(self, description: str = "Client authentication failed.") -> None:
        super().__init__(description=description, status_code=401)

    def get_headers(self) -> list[tuple[str, str]]:
        headers: list[tuple[str, str]] = super(InvalidClientError, self).get_headers()
        return [*headers, ("WWW-Authenticate", 'Basic realm="exchange", charset="UTF-8"')]


@dataclass(slots=True)
class AuthenticatedClient:
    """A client that has proved itself, in the manner of Authlib's `ClientMixin`, with what its request asks for."""

    view: ClientView
    authorization_details: list[dict[str, Any]]
    key_thumbprint: str | None = None
    """Of the key that its token will be bound to."""

    def get_client_id(self) -> str:
        return self.view.id

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """All of the client's scopes if none is asked for; None (refused) if one is asked for that it does not have."""
        asked = set((scope or "").split()) or self.view.scopes
        return " ".join(sorted(asked)) if asked <= self.view.scopes else None


@dataclass(frozen=True, slots=True)
class LiveSecret:
    """A secret that is good now: what names it, whether it is the `current` or the `previous` one, and its keyed hash."""

    id: str
    which: str
    hash: bytes = field(repr=False)


NO_SECRET = LiveSecret("", "current", bytes(32))


@dataclass(frozen=True, slots=True)
class _Key:
    """A public key that is good now, with its `kid` and which set it is of."""

    id: str
    which: str
    key: Key


def _decoys() -> dict[str, Any]:
    """A JWKS with a key for each algorithm, whose private half nobody has."""
    modulus = secrets.randbits(2048) | 1 << 2047 | 1  # not two primes: making those takes a second, and checking a signature as long
    made: list[dict[str, Any]] = [
        dict(ECKey.generate_key("P-256").as_dict(private=False)),
        dict(OKPKey.generate_key("Ed25519").as_dict(private=False)),
        {"kty": "RSA", "n": b64(modulus.to_bytes(256)), "e": "AQAB"},
    ]
    return {"keys": [jwk | {"kid": ""} for jwk in made]}


class ClientAuthentication:
    """Authenticates the client of a token or introspection request. Thread-safe."""

    def __init__(self, directory: Directory, once: Once, secret_key: SecretKey, published: PublishedKeys) -> None:
        self._directory = directory
        self._once = once
        self._secret_key = secret_key
        self._published = published
        # An assertion that no key can have signed is held against one of these, so that it takes as long as another.
        self._decoys = _decoys()

    def authenticate(self, headers: Headers, form: Mapping[str, str]) -> AuthenticatedClient:
        """Raises Authlib's `InvalidClientError` or `InvalidRequestError`, and `database_unavailable`."""
        sent = headers.getlist("authorization")
        by_key = "client_assertion" in form or "client_assertion_type" in form
        if len(sent) + by_key > 1:
            raise InvalidRequestError("A client authenticates in one way at a time (RFC 6749 section 2.3).")
        if by_key:
            return AuthenticatedClient(self._by_key(form), [])
        if sent:
            return AuthenticatedClient(self._by_secret(sent[0], form), [])
        raise ClientNotAuthenticated("Authenticate by client_secret_basic or private_key_jwt.")

    def _by_secret(self, header: str, form: Mapping[str, str]) -> ClientView:
        client_id, secret = _read_basic(header)
        client = self._active(client_id, strong=False)
        given = hash_of_secret(self._secret_key, client_id, secret)
        # As many comparisons whoever it is: whether a client exists, or has an older secret, must not be seen in the time.
        kept = [*(secrets_of(client, self._secret_key.id) if client is not None else ()), NO_SECRET, NO_SECRET][:2]
        used = next((one for one in [one for one in kept if hmac.compare_digest(given, one.hash)] if one.id), None)
        if client is None or used is None or form.get("client_id", client_id) != client_id:
            raise ClientNotAuthenticated
        note_use(client, used.id, used.which)
        return client

    def _by_key(self, form: Mapping[str, str]) -> ClientView:
        assertion = form.get("client_assertion", "")
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise ClientNotAuthenticated(f"client_assertion_type must be {ASSERTION_TYPE}.")
        try:
            header, claims = jws_header(assertion), json.loads(unb64(assertion.split(".")[1]))
            algorithm, client_id = header["alg"], claims["sub"]
            if not isinstance(client_id, str) or not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
                raise ClientNotAuthenticated
            client = self._active(client_id, strong=True)
            keys = self._keys_of(client, algorithm, header.get("kid")) if client is not None else []
            used = next((one for one in keys or self._decoys_for(algorithm) if signed_by(one.key, assertion)), None)
            if client is None or used is None or not keys:
                raise ClientNotAuthenticated
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ClientNotAuthenticated from error
        if form.get("client_id", client_id) != client_id:
            raise ClientNotAuthenticated
        self._use_once(client, check_claims(header, claims, self._directory.issuer))
        note_use(client, used.id, used.which)
        return client

    def _keys_of(self, client: ClientView, algorithm: str, key_id: object) -> list[_Key]:
        """The client's own, and those of before its last rotation as long as they are good."""
        if client.assertion_alg not in {None, algorithm}:
            return []
        jwks = self._published.jwks(client.jwks_uri, key_id) if client.jwks_uri is not None else client.jwks
        keys = [_Key(kid, "current", key) for kid, key in named_keys_for(jwks, algorithm, key_id)]
        if client.previous is not None and client.previous.until > now():
            keys += [_Key(kid, "previous", key) for kid, key in named_keys_for(client.previous.jwks, algorithm, key_id)]
        return keys

    def _active(self, client_id: str, *, strong: bool) -> ClientView | None:
        client = self._directory.client(client_id)
        return client if client is not None and client.standing == "active" and client.strong == strong else None

    def _decoys_for(self, algorithm: str) -> list[_Key]:
        return [_Key(kid, "current", key) for kid, key in named_keys_for(self._decoys, algorithm, None)]

    def _use_once(self, client: ClientView, claims: Mapping[str, Any]) -> None:
        """Durable at once: an assertion is spent whatever becomes of the request."""
        # Twice: it is taken for so long after its exp, and a replica's clock may be so far behind that of one which forgets it.
        until = datetime.fromtimestamp(claims["exp"], UTC) + timedelta(seconds=2 * SKEW_S)
        if not self._once.use(digest_of_assertion(client.id, claims["jti"]), until):
            raise ClientNotAuthenticated("The jti of the assertion was used before.")


def digest_of_assertion(client_id: str, jti: str) -> bytes:
    """What may come once: the `jti` of this client (RFC 7523 section 3)."""
    return sha256(f"assertion\n{client_id}\n{jti}".encode()).digest()


def hash_of_secret(key: SecretKey, client_id: str, secret: str) -> bytes:
    """What is kept of a secret. It has 256 random bits, so that a keyed hash is enough and a slow one would only cost time."""
    return key.mac(client_id.encode(), secret.encode())


def secrets_of(client: ClientView, key_id: str) -> Iterator[LiveSecret]:
    """The secrets that the client may use now, kept under the key of this id: its own, and the one of before within its overlap."""
    if client.secret_hash is not None and client.secret_key_id == key_id:
        yield LiveSecret(client.secret_id or client.id, "current", client.secret_hash)
    before = client.previous
    if before is not None and before.until > now() and before.secret_hash is not None and before.secret_key_id == key_id:
        yield LiveSecret(before.secret_id or client.id, "previous", before.secret_hash)


def note_use(client: ClientView, credential: str, which: str) -> None:
    """Tell which credential was used, by its id: whoever rotates sees when the old one no longer is."""
    authentications.labels(client.token_endpoint_auth_method, which).inc()
    log.info("client_authenticated", client=client.id, credential=credential, which=which)


def check_claims(header: Mapping[str, Any], claims: Mapping[str, Any], issuer: str) -> Mapping[str, Any]:
    """The claims of an assertion whose signature is right, as FAPI 2.0 section 5.3.2.1 and RFC 7523 section 3 ask.

    Its signer is known by now and is told what is wrong. Raises `InvalidClientError`.
    """
    second = time.time()
    exp, issued, earliest = claims.get("exp"), claims.get("iat", second), claims.get("nbf", second)
    if str(header.get("typ", "JWT")).lower() not in {"jwt", "client-authentication+jwt"}:
        raise ClientNotAuthenticated("The typ of the assertion must be JWT or client-authentication+jwt.")
    if claims.get("iss") != claims["sub"]:
        raise ClientNotAuthenticated("The iss and sub of the assertion must both be the client_id.")
    if claims.get("aud") != issuer:
        raise ClientNotAuthenticated("The aud of the assertion must be the issuer, as a string.")
    if not isinstance(claims.get("jti"), str) or not JTI.fullmatch(claims["jti"]):
        raise ClientNotAuthenticated("The assertion needs a jti of 1 to 256 printable ASCII characters.")
    if not is_time(exp) or not second - SKEW_S < exp <= second + LONGEST_LIFE_S + SKEW_S:
        raise ClientNotAuthenticated("The exp of the assertion must lie ahead, by five minutes at most.")
    if not is_time(issued) or not is_time(earliest) or max(issued, earliest) > second + SKEW_S or issued > exp:
        raise ClientNotAuthenticated("The iat and nbf of the assertion must be times that have come.")
    return claims


def claimed_client(headers: Headers, form: Mapping[str, str]) -> str:
    """Which client a request says to be from, unproved; empty if it does not say. An assertion without `client_id` may leave it open."""
    sent = headers.getlist("authorization")
    if sent:
        try:
            return _read_basic(sent[0])[0][:LONGEST_NAME]
        except InvalidClientError:
            return ""
    return form.get("client_id", "")[:LONGEST_NAME]


def _read_basic(header: str) -> tuple[str, str]:
    """Client id and secret (RFC 6749 section 2.3.1, RFC 7617). Raises `InvalidClientError`."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise ClientNotAuthenticated("Authenticate by client_secret_basic or private_key_jwt.")
    try:
        client_id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise ClientNotAuthenticated from error
    if not colon:
        raise ClientNotAuthenticated
    return unquote_plus(client_id), unquote_plus(secret)
