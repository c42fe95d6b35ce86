"""Access tokens: JWTs of RFC 9068, signed with ES256, for one audience, the exchange itself."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from gateway.errors import ExchangeError
from gateway.identity.person_facts import PersonFacts, read_person
from gateway.keys import unb64

LONGEST = 16 * 1024
"""Characters of the longest token that is looked at: room for some hundred contracts."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says whose signature, type, issuer, audience and time are right. Times in seconds since 1970."""

    client_id: str
    scopes: frozenset[str]
    authorization_details: tuple[dict[str, Any], ...]
    contracts: frozenset[str]
    strong: bool
    issued_at: int
    expires_at: int
    token_id: str
    key_thumbprint: str | None
    """RFC 7638, of the key that the token is bound to (RFC 9449 section 6.1)."""
    person: PersonFacts | None = None


def read_token(token: str, keys: KeySet, issuer: str) -> AccessToken:
    """Validate as in RFC 9068 section 4. Raises `token_invalid`, `token_expired`."""
    try:
        claims = _verified_claims(token, keys)
        details = tuple(claims.get("authorization_details", ()))
        person = read_person(claims)
        said = AccessToken(
            client_id=_text(claims, "client_id"),
            scopes=frozenset(_text(claims, "scope").split()),
            authorization_details=details,
            contracts=frozenset(detail["contract"] for detail in details),
            strong=person is None and claims["client_auth_method"] == "private_key_jwt",
            issued_at=_second(claims, "iat"),
            expires_at=_second(claims, "exp"),
            token_id=_text(claims, "jti"),
            key_thumbprint=_text(claims["cnf"], "jkt") if "cnf" in claims else None,
            person=person,
        )
        if claims["iss"] != issuer or claims["aud"] != issuer or claims["sub"] != (person.id if person else said.client_id):
            raise ValueError("it is for another issuer, audience or client")
    except (JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExchangeError("token_invalid") from error
    if said.expires_at <= time.time():
        raise ExchangeError("token_expired")
    return said


def _verified_claims(token: str, keys: KeySet) -> dict[str, Any]:
    header = jws_header(token)
    # Without this anything that the exchange ever signs as a JWT would pass for an access token (RFC 9068 section 4).
    if str(header.get("typ")).lower() not in {"at+jwt", "application/at+jwt"}:
        raise ValueError("it is not an access token")
    if not isinstance(header.get("kid"), str):
        raise ValueError("it does not say by which key it is signed")  # noqa: TRY004 - as in `jws_header`
    verified = jws.deserialize_compact(token, keys.get_by_kid(header["kid"]), algorithms=["ES256"])
    claims: dict[str, Any] = json.loads(verified.payload)
    return claims


def jws_header(compact: str) -> dict[str, Any]:
    """The header of a compact JWS, unverified. Raises `ValueError` for what is no such thing or too long, and for one that names
    extensions: none is known here (RFC 7515 section 4.1.11), and the payload of a JWT is encoded (RFC 7797 section 7).
    """
    if len(compact) > LONGEST or compact.count(".") != 2 or not compact.isascii():
        raise ValueError("it is not a compact JWS")
    header = json.loads(unb64(compact.partition(".")[0]))
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")  # noqa: TRY004 - the caller expects one error for all that is wrong with it
    if header.keys() & {"crit", "b64"}:
        raise ValueError("its header names extensions (crit, b64), and none is known here")
    return header


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string")
    return value


def _second(claims: dict[str, Any], name: str) -> int:
    value = claims[name]
    if type(value) is not int:
        raise TypeError(f"{name} must be a whole number of seconds")
    return value
