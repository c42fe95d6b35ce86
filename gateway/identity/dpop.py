"""DPoP (RFC 9449): what a proof of possession must be to be taken, and the nonces that proofs carry.

A proof is judged here without any store; that it comes once is the matter of `proofs.py`.
"""

from __future__ import annotations

import hmac
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import Key

from gateway.identity.client_keys import ALGORITHMS, ALGORITHMS_OF, PRIVATE, bare_public_key, signed_by
from gateway.identity.tokens import jws_header
from gateway.keys import SecretKey, b64, unb64

AHEAD_S = 10
"""A client's clock may be this far ahead of ours: FAPI 2.0 section 5.3.2.1 asks for 10 s and forbids more than 60 s."""
BEHIND_S = 60
"""So old a proof may be, in seconds: for clocks that are behind, and for the way here."""
NONCE_S = 120
"""Seconds for which one nonce is handed out. It is taken as long again, so that nobody is refused at the turn."""
JTI = re.compile(r"[\x20-\x7e]{1,256}")
REMEMBERED_KEYS = 10_000
LAST_SECOND = 2**37
"""No time lies so far ahead: some thousand years. Larger numbers are more than a float or a calendar holds."""
DEFAULT_PORTS = {"http": 80, "https": 443}
ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class ProofRefused(Exception):
    """`error`: `invalid_dpop_proof`, or `use_dpop_nonce` where a proof lacks nothing but our nonce (RFC 9449 sections 5, 8 and 9)."""

    def __init__(self, description: str, error: str = "invalid_dpop_proof") -> None:
        super().__init__(description)
        self.error = error
        self.description = description


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that is right. `thumbprint`: of its key (RFC 7638). `digest`: of key and `jti`, what may come once.
    `expires_at`: the second since 1970 from which the proof is too old anyway, at a replica too whose clock is `AHEAD_S` behind.
    """

    thumbprint: str
    digest: bytes
    expires_at: int


class Nonces:
    """Nonces that nobody keeps: a keyed hash of the time, so that each replica knows those of all. Thread-safe."""

    def __init__(self, key: SecretKey, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock
        self._made: dict[int, str] = {}

    def current(self) -> str:
        """The nonce to hand out now."""
        return self._of(int(self._clock()) // NONCE_S)

    def accepts(self, nonce: object) -> bool:
        """True for the nonce of this span and the one before, and of the next, which a replica may have begun whose clock is ahead."""
        if not isinstance(nonce, str) or not nonce.isascii():
            return False
        span = int(self._clock()) // NONCE_S
        return any(hmac.compare_digest(nonce, self._of(near)) for near in (span, span - 1, span + 1))

    def _of(self, span: int) -> str:
        made = self._made.get(span)
        if made is None:
            made = b64(self._key.mac(b"dpop", span.to_bytes(8, "big"))[:16])
            self._made = {near: nonce for near, nonce in self._made.items() if abs(near - span) <= 1} | {span: made}
        return made


class ProofReader:
    """Judges proofs for the exchange whose issuer this is. Thread-safe."""

    def __init__(self, issuer: str, nonces: Nonces) -> None:
        self._issuer = issuer
        self._nonces = nonces
        self._keys: dict[tuple[str, ...], tuple[Key, str]] = {}

    def read(self, proof: str, *, method: str, path: str, token: str | None = None) -> Proof:
        """The proof, checked as RFC 9449 section 4.3 asks, for a request of `method` to `path` under the issuer, with `token`.

        `path` is as it was sent, percent-encoded, without its query. A request without `token` asks for one, and its proof may lack a
        nonce, but not have a wrong one: docs/decisions/0009-first-proof.md. Raises `ProofRefused`.
        """
        try:
            header, claims = jws_header(proof), json.loads(unb64(proof.split(".")[1]))
            key, thumbprint = self._key(header)
            if not signed_by(key, proof):
                raise ProofRefused("The signature of the proof is not by the key in it.")
            self._remember(header["jwk"], key, thumbprint)
            if not isinstance(claims, dict):
                raise ProofRefused("The claims of the proof are not an object.")
        except (ValueError, KeyError, TypeError, RecursionError, JoseError, OverflowError) as error:
            raise ProofRefused("The proof is not a signed JWT, without crit and b64, with a public key in its header.") from error
        jti = claims.get("jti")
        if not isinstance(jti, str) or not JTI.fullmatch(jti):
            raise ProofRefused("The proof needs a jti of 1 to 256 printable ASCII characters.")
        if claims.get("htm") != method:
            raise ProofRefused("The htm of the proof is not the method of the request.")
        if not self._is_here(claims.get("htu"), path):
            raise ProofRefused("The htu of the proof is not the address of the request: the issuer and the path, without query.")
        if token is not None and claims.get("ath") != b64(sha256(token.encode()).digest()):
            raise ProofRefused("The ath of the proof is not the hash of the access token.")
        issued = _check_times(claims)
        if (token is not None or "nonce" in claims) and not self._nonces.accepts(claims.get("nonce")):
            raise ProofRefused("The proof needs the nonce of the DPoP-Nonce header.", "use_dpop_nonce")
        digest = sha256(f"{thumbprint}\n{jti}".encode()).digest()
        return Proof(thumbprint, digest, math.ceil(issued) + BEHIND_S + AHEAD_S)

    def _key(self, header: Mapping[str, Any]) -> tuple[Key, str]:
        """The key in the header and its thumbprint."""
        if header.get("typ") != "dpop+jwt":
            raise ProofRefused("The typ of the proof must be dpop+jwt.")
        algorithm, jwk = header.get("alg"), header.get("jwk")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise ProofRefused(f"The alg of the proof must be one of {' '.join(ALGORITHMS)}.")
        if not isinstance(jwk, dict) or algorithm not in ALGORITHMS_OF.get(str(jwk.get("kty")), ()):
            raise ProofRefused("The jwk of the proof must be a key for its alg.")
        if jwk.get("use", "sig") != "sig" or jwk.get("alg", algorithm) != algorithm:
            raise ProofRefused("The jwk of the proof is for another use.")
        if PRIVATE & jwk.keys():
            raise ProofRefused("The jwk of the proof is a private key: make a new one, for this one has been told.")
        known = self._keys.get(_name(jwk))
        if known is not None:
            return known
        key = bare_public_key(jwk)
        return key, key.thumbprint()

    def _remember(self, jwk: Mapping[str, Any], key: Key, thumbprint: str) -> None:
        """Reading a key costs as much as a signature. Only one that has signed: memory is not for whoever names keys of others."""
        name = _name(jwk)
        if name not in self._keys:
            if len(self._keys) >= REMEMBERED_KEYS:
                self._keys = {}
            self._keys[name] = key, thumbprint

    def _is_here(self, htu: object, path: str) -> bool:
        if not isinstance(htu, str):
            return False
        here = self._issuer + path
        try:
            return htu == here or normalized(htu) == normalized(here)
        except ValueError:
            return False


def normalized(url: str) -> str:
    """A URL without query and fragment, normalised by syntax and scheme (RFC 3986 sections 6.2.2 and 6.2.3, as RFC 9449 section 4.3 asks).

    Raises `ValueError` for what is no URL.
    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None or not parts.hostname:
        raise ValueError("it names no host, or a user")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port not in {None, DEFAULT_PORTS.get(parts.scheme)} else ""
    return f"{parts.scheme}://{host}{port}{ESCAPED.sub(_unescaped, parts.path) or '/'}"


def _unescaped(match: re.Match[str]) -> str:
    """An unreserved character as itself, any other in capital hex (RFC 3986 sections 6.2.2.1 and 6.2.2.2)."""
    character = chr(int(match[0][1:], 16))
    return character if character in UNRESERVED else match[0].upper()


def _name(jwk: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(jwk.get(member)) for member in (("kty", "n", "e") if jwk.get("kty") == "RSA" else ("kty", "crv", "x", "y")))


def _check_times(claims: Mapping[str, Any]) -> float:
    """The `iat`, which must be near; `nbf` and `exp`, which nobody must send, are held to. Raises `ProofRefused`."""
    second = time.time()
    issued = claims.get("iat")
    if not is_time(issued) or not second - BEHIND_S <= issued <= second + AHEAD_S:
        raise ProofRefused(f"The iat of the proof must be now: {BEHIND_S} s ago at most, {AHEAD_S} s ahead at most. Look at the clock.")
    earliest, latest = claims.get("nbf", issued), claims.get("exp", second + 1)
    if not is_time(earliest) or not is_time(latest) or earliest > second + AHEAD_S or latest <= second - AHEAD_S:
        raise ProofRefused("The proof is not valid yet, or no longer.")
    return issued


def is_time(value: object) -> TypeGuard[float]:
    """True for a NumericDate (RFC 7519 section 2)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LAST_SECOND
