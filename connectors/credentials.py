"""How a client proves itself: by secret (RFC 6749 section 2.3.1) or by key (RFC 7523), and the tokens that this brings."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
from joserfc import jws, jwt
from joserfc.jwk import ECKey

from connectors.problem import raise_for_problem

ASSERTION_SECONDS = 60
RENEW_SECONDS = 30.0
"""A token is renewed so long before it expires, or at half of a shorter life."""
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    renew_at: float
    """On the monotonic clock, in seconds."""


def new_key() -> dict[str, Any]:
    """A new private P-256 JWK for ES256, named by its thumbprint (RFC 7638). Keep it secret; register `public_jwks` of it."""
    key = ECKey.generate_key("P-256", parameters={"use": "sig", "alg": "ES256"}, private=True)
    return dict(key.as_dict(private=True, kid=key.thumbprint()))


def public_jwks(key: Mapping[str, Any]) -> dict[str, Any]:
    """The JWK Set (RFC 7517 section 5) that shows the public half of `key`."""
    public = ECKey.import_key(dict(key)).as_dict(private=False)
    return {"keys": [public | {"kid": key["kid"], "use": "sig", "alg": "ES256"}]}


def digest_of(text: bytes) -> str:
    """`sha-256=:<base64>:` of the bytes (RFC 9530 section 2)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(text).digest()).decode('ascii')}:"


class Credentials:
    """One client's proof, and the tokens that it holds; threads may share it. Nothing secret stands in its repr."""

    def __init__(self, issuer: str, client_id: str, *, secret: str | None = None, key: Mapping[str, Any] | None = None) -> None:
        if (secret is None) == (key is None):
            raise ValueError("A client proves itself by secret or by key: give one of them.")
        self.issuer = issuer
        self.client_id = client_id
        self._secret = secret
        self._key = ECKey.import_key(dict(key)) if key is not None else None
        self._key_id = key["kid"] if key is not None else None
        self._held: dict[str | None, _Token] = {}
        self._renewing = threading.Lock()

    def __repr__(self) -> str:
        return f"Credentials({self.client_id!r}, by {'key' if self._key else 'secret'})"

    def token(self, http: httpx2.Client, contract: str | None = None) -> str:
        """An access token, narrowed to `contract` (RFC 9396) if given, kept until shortly before it expires. Raises `ProblemError`."""
        with self._renewing:
            held = self._held.get(contract)
            if held is None or time.monotonic() >= held.renew_at:
                held = self._held[contract] = self._ask(http, contract)
            return held.value

    def forget(self, contract: str | None) -> None:
        """Drop a token that was refused; the next call asks for a new one."""
        self._held.pop(contract, None)

    def sign_digest(self, text_digest: str) -> str:
        """A detached JWS over the UTF-8 bytes of a digest (RFC 7515 appendix F), ES256. Raises `ValueError` without a key."""
        if self._key is None:
            raise ValueError("Only a client with a key can sign.")
        header = {"alg": "ES256", "kid": self._key_id}
        return jws.detach_content(jws.serialize_compact(header, text_digest.encode("utf-8"), self._key))

    def _ask(self, http: httpx2.Client, contract: str | None) -> _Token:
        form = {"grant_type": "client_credentials"}
        if contract is not None:
            form["authorization_details"] = json.dumps([{"type": "data_contract", "contract": contract, "actions": ["read"]}])
        asked = time.monotonic()
        if self._key is not None:
            form |= {"client_id": self.client_id, "client_assertion_type": JWT_BEARER, "client_assertion": self._assertion(self._key)}
            response = http.post("/oauth/token", data=form)
        else:
            response = http.post("/oauth/token", data=form, auth=(self.client_id, self._secret or ""))
        raise_for_problem(response)
        granted = response.json()
        lifetime = float(granted["expires_in"])
        return _Token(granted["access_token"], asked + lifetime - min(RENEW_SECONDS, lifetime / 2))

    def _assertion(self, key: ECKey) -> str:
        """RFC 7523 section 3: who speaks, to whom (the issuer and nobody else), once, and not for long."""
        now = int(time.time())
        claims = {"iss": self.client_id, "sub": self.client_id, "aud": self.issuer}
        return jwt.encode(
            {"alg": "ES256", "kid": self._key_id}, claims | {"jti": str(uuid4()), "iat": now, "exp": now + ASSERTION_SECONDS}, key
        )
