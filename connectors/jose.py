"""Keys and signatures of a client (RFC 7515, RFC 7517): ES256, EdDSA and PS256, which is what the exchange takes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, KeyParameters, OKPKey, RSAKey, import_key

ALGORITHM_OF = {"EC": "ES256", "OKP": "EdDSA", "RSA": "PS256"}
RSA_BITS = 3072


def b64_digest(data: bytes) -> str:
    """SHA-256 in base64url without padding, as RFC 9449 section 4.2 writes a token's."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")


def digest_of(text: bytes) -> str:
    """`sha-256=:<base64>:` of the bytes (RFC 9530 section 2)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(text).digest()).decode('ascii')}:"


def new_key(algorithm: str = "ES256") -> dict[str, Any]:
    """A new private JWK, named by its thumbprint (RFC 7638): P-256 for ES256, Ed25519 for EdDSA, RSA of 3,072 bits for PS256.

    Keep it secret; register `public_jwks` of it. Raises `ValueError` for another algorithm.
    """
    key: Key
    said: KeyParameters = {"use": "sig", "alg": algorithm}
    if algorithm == "ES256":
        key = ECKey.generate_key("P-256", parameters=said, private=True)
    elif algorithm == "EdDSA":
        key = OKPKey.generate_key("Ed25519", parameters=said, private=True)
    elif algorithm == "PS256":
        key = RSAKey.generate_key(RSA_BITS, parameters=said, private=True)
    else:
        raise ValueError("A client signs by ES256, EdDSA or PS256.")
    return dict(key.as_dict(private=True, kid=key.thumbprint()))


def public_jwks(key: Mapping[str, Any]) -> dict[str, Any]:
    """The JWK Set (RFC 7517 section 5) that shows the public half of `key`."""
    signer = Signer(key)
    return {"keys": [signer.public | {"kid": signer.kid, "use": "sig", "alg": signer.algorithm}]}


class _Registry(jws.JWSRegistry):
    def get_alg(self, name: str) -> Any:
        """Without joserfc's warning for `EdDSA`: RFC 9864 renames it, FAPI 2.0 section 5.4.1 and the exchange say it."""
        return self.algorithms[name]


class Signer:
    """A private JWK that signs. Nothing secret stands in its repr. Raises `ValueError` for a key that no algorithm here fits."""

    def __init__(self, jwk: Mapping[str, Any]) -> None:
        kty = jwk.get("kty")
        if kty not in ALGORITHM_OF:
            raise ValueError("A client's key is of the type EC (P-256), OKP (Ed25519) or RSA.")
        self.algorithm = ALGORITHM_OF[kty]
        self._key = import_key(dict(jwk))
        self.kid: str = jwk.get("kid") or self._key.thumbprint()

    def __repr__(self) -> str:
        return f"Signer({self.kid!r}, {self.algorithm})"

    @property
    def public(self) -> dict[str, Any]:
        return dict(self._key.as_dict(private=False))

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT in the compact form (RFC 7519)."""
        return jwt.encode({"alg": self.algorithm, "kid": self.kid}, dict(claims), self._key, registry=_Registry())

    def sign_detached(self, payload: bytes) -> str:
        """A detached JWS (RFC 7515 appendix F)."""
        header = {"alg": self.algorithm, "kid": self.kid}
        return jws.detach_content(jws.serialize_compact(header, payload, self._key, registry=_Registry()))
