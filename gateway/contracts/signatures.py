"""Signatures by key: a detached JWS over the digest of the text that was read."""

from __future__ import annotations

from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel

from gateway.errors import Invalid
from gateway.identity.client_keys import ALGORITHMS, keys_for
from gateway.identity.tokens import jws_header


def verify_detached(signature: str, text_digest: str, jwks: dict[str, Any]) -> str:
    """The id of the key that signed. The payload is not in the signature but is the digest's own bytes (RFC 7515 appendix F).

    ES256, EdDSA or PS256. Raises `Invalid` at /signature.
    """
    if ".." not in signature:
        raise _invalid("must be a detached JWS: header, two dots, signature")
    try:
        protected = jws_header(signature)
    except (ValueError, RecursionError) as error:
        raise _invalid("must be a detached JWS with a JSON header") from error
    if set(protected) - {"alg", "kid", "typ", "cty"}:
        raise _invalid("must have no header parameters but alg, kid, typ and cty")
    algorithm, key_id = protected.get("alg"), protected.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _invalid(f"must be by {', '.join(ALGORITHMS)}")
    if not isinstance(key_id, str):
        raise _invalid("must name its key by `kid`")
    for key in keys_for(jwks, algorithm, key_id):
        try:
            jws.deserialize_compact(signature, key, registry=_Algorithms(), payload=text_digest.encode())
        except (JoseError, ValueError):
            continue
        return key_id
    raise _invalid("is not a signature of this text_digest by that key of the client's JWKS")


def key_named_in(signature: str) -> object:
    """The `kid` of a JWS that nobody has verified; None if it names none."""
    try:
        return jws_header(signature).get("kid")
    except (ValueError, RecursionError):
        return None


class _Algorithms(jws.JWSRegistry):
    def get_alg(self, name: str) -> JWSAlgModel:
        """Without joserfc's warning for `EdDSA`: RFC 9864 renames it, and the clients of today say it."""
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def _invalid(detail: str) -> Invalid:
    return Invalid([{"pointer": "/signature", "detail": detail}])
