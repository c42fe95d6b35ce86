"""The public keys of a client: what a JWKS must be to be taken (RFC 7517), and which of its keys a signature may be by."""

from __future__ import annotations

from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import Key, import_key

from gateway.errors import Invalid
from gateway.keys import unb64

ALGORITHMS = ("ES256", "EdDSA", "Ed25519", "PS256")
"""What a client may sign with: FAPI 2.0 section 5.4.1, and RFC 9864's own name for the second."""

MOST_KEYS = 10
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
PUBLIC = {"EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}, "RSA": {"n", "e"}}
DESCRIBING = {"kty", "kid", "use", "key_ops", "alg"}
ALGORITHMS_OF = {"EC": {"ES256"}, "OKP": {"EdDSA", "Ed25519"}, "RSA": {"PS256"}}
CURVE_OF = {"EC": "P-256", "OKP": "Ed25519"}


def check_jwks(jwks: dict[str, Any], pointer: str = "/jwks") -> dict[str, Any]:
    """The set as it is kept: every key has a `kid`, by thumbprint (RFC 7638) where none was given.

    Raises `Invalid` with every place that does not fit; no value of a key stands in it.
    """
    wrong = [{"pointer": f"{pointer}/{_escape(name)}", "detail": "is not a member of a JWKS here"} for name in jwks if name != "keys"]
    keys = jwks.get("keys")
    if not isinstance(keys, list) or not 1 <= len(keys) <= MOST_KEYS:
        wrong.append({"pointer": f"{pointer}/keys", "detail": f"must be a list of 1 to {MOST_KEYS} public keys"})
        raise Invalid(wrong)
    kept = []
    for number, jwk in enumerate(keys):
        found = _faults_of_key(jwk)
        wrong += [{"pointer": f"{pointer}/keys/{number}{below}", "detail": detail} for below, detail in found]
        if not found:
            kept.append({**jwk, "kid": jwk.get("kid") or import_key(_material(jwk)).thumbprint()})
    names = [jwk["kid"] for jwk in kept]
    if len(set(names)) < len(names):
        wrong.append({"pointer": f"{pointer}/keys", "detail": "must not name two keys alike, nor hold one twice"})
    if wrong:
        raise Invalid(wrong)
    return {"keys": kept}


def keys_for(jwks: dict[str, Any] | None, algorithm: str, key_id: object) -> list[Key]:
    """The keys that a signature with this `alg` and `kid` may be by; without `kid` all that fit the algorithm."""
    return [key for _, key in named_keys_for(jwks, algorithm, key_id)]


def named_keys_for(jwks: dict[str, Any] | None, algorithm: str, key_id: object) -> list[tuple[str, Key]]:
    """As `keys_for`, each with its `kid`."""
    if algorithm not in ALGORITHMS or jwks is None:
        return []
    return [
        (jwk["kid"], import_key(_material(jwk)))
        for jwk in jwks["keys"]
        if algorithm in ALGORITHMS_OF[jwk["kty"]] and jwk.get("alg", algorithm) == algorithm and key_id in {None, jwk["kid"]}
    ]


def bare_public_key(jwk: dict[str, Any]) -> Key:
    """The key of a JWK that describes itself, as in a DPoP proof; what it says beside its numbers is passed over.

    Raises `ValueError` for a private key, for one of another curve or size, and for what is no key.
    """
    if PRIVATE & jwk.keys():
        raise ValueError("it is a private key")
    kty = jwk.get("kty")
    if not isinstance(kty, str) or kty not in PUBLIC or not all(isinstance(jwk.get(name), str) for name in PUBLIC[kty]):
        raise ValueError("it is no key of a type that is taken")
    if jwk.get("crv") != CURVE_OF.get(kty) or _faults_of_material(jwk, kty):
        raise ValueError("it is no key of a size that is taken")
    return import_key(_material(jwk))


class _Registry(jws.JWSRegistry):
    max_header_length = 4096
    """joserfc's 512 bytes have no room for an RSA key in the header, which a DPoP proof has."""

    def get_alg(self, name: str) -> Any:
        """Without joserfc's warning for `EdDSA`: RFC 9864 renames it, FAPI 2.0 and the clients of today say it."""
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


_REGISTRY = _Registry()


def signed_by(key: Key, compact: str) -> bool:
    """True if the compact JWS is signed by this key, with one of `ALGORITHMS`."""
    try:
        jws.deserialize_compact(compact, key, registry=_REGISTRY)
    except JoseError:
        return False
    return True


def _faults_of_key(jwk: object) -> list[tuple[str, str]]:
    """(pointer below the key, what is wrong) for each fault."""
    if not isinstance(jwk, dict):
        return [("", "must be an object")]
    private = [
        (f"/{name}", "is private: send the public key only, and make a new one, for this one has been told")
        for name in jwk
        if name in PRIVATE
    ]
    if private:
        return private
    kty = jwk.get("kty")
    if not isinstance(kty, str) or kty not in PUBLIC:
        return [("/kty", "must be EC, OKP or RSA")]
    wrong = [(f"/{_escape(name)}", "is not taken here") for name in jwk if name not in PUBLIC[kty] | DESCRIBING]
    wrong += [(f"/{name}", "must be a string") for name in sorted(PUBLIC[kty]) if not isinstance(jwk.get(name), str)]
    return wrong + _faults_of_description(jwk, kty) or _faults_of_material(jwk, kty)


def _faults_of_description(jwk: dict[str, Any], kty: str) -> list[tuple[str, str]]:
    wrong = []
    kid = jwk.get("kid", "kid")
    if not isinstance(kid, str) or not 1 <= len(kid) <= 128 or not kid.isascii() or not kid.isprintable():
        wrong.append(("/kid", "must be 1 to 128 printable ASCII characters"))
    if jwk.get("use", "sig") != "sig":
        wrong.append(("/use", "must be sig"))
    if jwk.get("key_ops", ["verify"]) != ["verify"]:
        wrong.append(("/key_ops", 'must be ["verify"]'))
    if "alg" in jwk and (not isinstance(jwk["alg"], str) or jwk["alg"] not in ALGORITHMS_OF[kty]):
        wrong.append(("/alg", f"must be {' or '.join(sorted(ALGORITHMS_OF[kty]))} for this type of key"))
    if kty in CURVE_OF and jwk.get("crv") != CURVE_OF[kty]:
        wrong.append(("/crv", f"must be {CURVE_OF[kty]}"))
    return wrong


def _faults_of_material(jwk: dict[str, Any], kty: str) -> list[tuple[str, str]]:
    try:
        if kty == "RSA" and not 2048 <= int.from_bytes(unb64(jwk["n"])).bit_length() <= 8192:
            return [("/n", "must have 2,048 to 8,192 bits")]
        if kty == "RSA" and not 65537 <= int.from_bytes(unb64(jwk["e"])) < 2**32:
            return [("/e", "must be 65,537, or not much larger")]  # a large one makes each signature dear to verify
        import_key(_material(jwk))
    except (JoseError, ValueError, TypeError, OverflowError):
        return [("", f"is not a valid public key of type {kty}")]
    return []


def _material(jwk: dict[str, Any]) -> Any:
    """The numbers of the key alone: what it says of its use has been checked, and is not joserfc's to judge again."""
    return {name: jwk[name] for name in ("kty", *sorted(PUBLIC[jwk["kty"]]))}


def _escape(name: object) -> str:
    """A member's name as a part of a JSON Pointer (RFC 6901)."""
    return str(name)[:64].replace("~", "~0").replace("/", "~1")
