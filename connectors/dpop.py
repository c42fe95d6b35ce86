"""Proofs of possession (DPoP, RFC 9449): each request shows by a signature that its sender holds the key that its token is bound to.

The key is made when the client starts and kept in memory alone: the client's registered key may then live where signing is slow or
costly, and who steals a token has to steal it from a running process too.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey

from connectors.jose import b64_digest

SCHEME = "DPoP"


class Prover:
    """Makes proofs, ES256, and keeps the nonce that each origin gave last (RFC 9449 sections 8 and 9). Threads may share it."""

    def __init__(self) -> None:
        self._key = ECKey.generate_key("P-256", private=True)
        self._public = {name: value for name, value in self._key.as_dict(private=False).items() if name in {"kty", "crv", "x", "y"}}
        self._nonces: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Prover({self.thumbprint!r})"

    @property
    def thumbprint(self) -> str:
        """What tokens are bound to: the `cnf.jkt` of RFC 9449 section 6.1."""
        return self._key.thumbprint()

    def proof(self, method: str, target: str, *, origin: str, token: str | None = None) -> str:
        """A proof for one request (RFC 9449 section 4.2). `target`: the address without query and fragment, as the exchange knows it;
        `origin`: where the request goes to, whose nonce is used; `token`: the access token that goes with it, if one does.
        """
        claims: dict[str, Any] = {"jti": str(uuid4()), "htm": method, "htu": target, "iat": int(time.time())}
        if token is not None:
            claims["ath"] = b64_digest(token.encode("ascii"))
        if origin in self._nonces:
            claims["nonce"] = self._nonces[origin]
        return jwt.encode({"typ": "dpop+jwt", "alg": "ES256", "jwk": self._public}, claims, self._key)

    def learn(self, response: httpx2.Response) -> None:
        """Keep the nonce of an answer: the next proof to its origin carries it, so that a good client is rarely asked for one."""
        nonce = response.headers.get("DPoP-Nonce")
        if nonce:
            self._nonces[origin_of(response.request.url)] = nonce


def origin_of(url: httpx2.URL) -> str:
    """Scheme, host and port (RFC 6454 section 4)."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def asks_for_nonce(response: httpx2.Response) -> bool:
    """True if the same request is welcome with the nonce that this answer brings: 400 of a token endpoint, 401 of a resource."""
    if "DPoP-Nonce" not in response.headers:
        return False
    if response.status_code == httpx2.codes.UNAUTHORIZED:
        return 'error="use_dpop_nonce"' in response.headers.get("WWW-Authenticate", "")
    if response.status_code != httpx2.codes.BAD_REQUEST:
        return False
    response.read()
    return b"use_dpop_nonce" in response.content
