"""Client metadata (RFC 7591 section 2), read strictly: what a program says of itself when it registers or changes itself.

Authlib's own reader is not used: it fails with 500 on members of a wrong type, takes any `jwks_uri`, and mints a secret for every client.
A member that is wrong is named in the answer; members that nobody here knows are passed over, as the RFC asks.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import Invalid
from gateway.identity.client_authentication import METHODS
from gateway.identity.client_keys import ALGORITHMS, check_jwks
from gateway.identity.documents import check_line
from gateway.outward import Outward, OutwardFailed, OutwardRefused

GRANTS = ("client_credentials",)
DETAILS = ("data_contract",)
LONGEST_TEXT = 200
MOST_TEXTS = 20
LINKS = ("client_uri", "logo_uri", "tos_uri", "policy_uri")
ASSIGNED = ("registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at")
"""What the exchange says and a client never sends (RFC 7592 section 2.2)."""
SECRETS = ("client_secret", "registration_access_token")
"""Never kept as they are."""
SHOWN = (
    *("client_name", "token_endpoint_auth_method", "token_endpoint_auth_signing_alg", "grant_types", "response_types", "scope"),
    *("jwks", "jwks_uri", "dpop_bound_access_tokens", "authorization_details_types", "contacts", "software_id", "software_version"),
    *LINKS,
)


class MetadataRefused(Exception):
    """A member that does not fit. `error` is one of RFC 7591 section 3.2.2; the message names the member and no value."""

    def __init__(self, member: str, detail: str, error: str = "invalid_client_metadata") -> None:
        super().__init__(f"{member}: {detail}")
        self.error = error


@dataclass(frozen=True, slots=True)
class Metadata:
    """What was read. `scopes` is None where the client asks for all that it may have; `document` is what it sent, but for secrets."""

    name: str | None
    method: str
    scopes: tuple[str, ...] | None
    jwks: dict[str, Any] | None
    jwks_uri: str | None
    assertion_alg: str | None
    dpop_bound: bool
    document: dict[str, Any]


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises `MetadataRefused`, also for a member that is there twice."""
    try:
        document = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise MetadataRefused("The body", "must be a JSON object in UTF-8 that names each member once") from error
    if not isinstance(document, dict):
        raise MetadataRefused("The body", "must be a JSON object")
    if _has_unstorable(document):
        raise MetadataRefused("The body", "must hold no NUL and no half of a surrogate pair")
    return document


def read(document: dict[str, Any]) -> Metadata:
    """What the metadata says; nothing is called yet. Raises `MetadataRefused`."""
    if "software_statement" in document:
        raise MetadataRefused("software_statement", "is not taken here", error="unapproved_software_statement")
    _check_grants(document)
    for name in ("contacts",):
        _texts(document, name)
    for name in ("software_id", "software_version", *LINKS):
        _text(document, name, longest=2000 if name in LINKS else LONGEST_TEXT)
    method = _text(document, "token_endpoint_auth_method") or METHODS[0]
    if method not in METHODS:
        raise MetadataRefused("token_endpoint_auth_method", f"must be {' or '.join(METHODS)}")
    jwks, jwks_uri = _keys(document, by_key=method == "private_key_jwt")
    algorithm = _text(document, "token_endpoint_auth_signing_alg")
    if algorithm is not None and (algorithm not in ALGORITHMS or method != "private_key_jwt"):
        raise MetadataRefused("token_endpoint_auth_signing_alg", f"must be {', '.join(ALGORITHMS)}, with private_key_jwt")
    scope = _text(document, "scope", longest=2000)
    return Metadata(
        name=_text(document, "client_name"),
        method=method,
        scopes=tuple(dict.fromkeys(scope.split())) if scope is not None else None,
        jwks=jwks,
        jwks_uri=jwks_uri,
        assertion_alg=algorithm,
        dpop_bound=_flag(document, "dpop_bound_access_tokens"),
        document={name: value for name, value in document.items() if name not in SECRETS},
    )


def check_scopes(metadata: Metadata, allowed: Collection[str]) -> tuple[str, ...]:
    """The scopes that the client gets, of those that it may have. Raises `MetadataRefused`."""
    asked = metadata.scopes if metadata.scopes is not None else tuple(sorted(allowed))
    if not asked or not set(asked) <= set(allowed):
        raise MetadataRefused("scope", "must be one or more of the scopes that the registration token allows")
    return asked


def check_urls(metadata: Metadata, outward: Outward, fetch_keys: Callable[[str], object]) -> None:
    """That what the client points to is at a public address, and that its keys are where it says. It waits for others: hold no
    transaction meanwhile. Raises `MetadataRefused`.
    """
    for name in LINKS:
        if name in metadata.document:
            _called(name, outward.check, metadata.document[name])
    if metadata.jwks_uri is not None:
        _called("jwks_uri", fetch_keys, metadata.jwks_uri)


def _called(member: str, call: Callable[[str], object], url: str) -> None:
    try:
        call(url)
    except (OutwardRefused, OutwardFailed) as error:
        raise MetadataRefused(member, str(error)) from error


def _check_grants(document: Mapping[str, Any]) -> None:
    if not set(_texts(document, "grant_types") or GRANTS) <= set(GRANTS):
        raise MetadataRefused("grant_types", f"must be {' '.join(GRANTS)}")
    if _texts(document, "response_types"):
        raise MetadataRefused("response_types", "must be empty: there is no authorization endpoint")
    if _texts(document, "redirect_uris"):
        raise MetadataRefused("redirect_uris", "must be empty: no grant that is offered redirects", error="invalid_redirect_uri")
    if not set(_texts(document, "authorization_details_types") or DETAILS) <= set(DETAILS):
        raise MetadataRefused("authorization_details_types", f"must be {' '.join(DETAILS)}")
    # A demand for security is not one to pass over.
    if _flag(document, "tls_client_certificate_bound_access_tokens"):
        raise MetadataRefused("tls_client_certificate_bound_access_tokens", "is not offered: bind tokens by DPoP (RFC 9449)")


def _keys(document: Mapping[str, Any], *, by_key: bool) -> tuple[dict[str, Any] | None, str | None]:
    jwks, uri = document.get("jwks"), _text(document, "jwks_uri", longest=2000)
    if "jwks" in document and uri is not None:
        raise MetadataRefused("jwks_uri", "must not be there together with jwks (RFC 7591 section 2)")
    if by_key != ("jwks" in document or uri is not None):
        detail = "must be there, or jwks_uri, with private_key_jwt" if by_key else "is for clients with private_key_jwt"
        raise MetadataRefused("jwks" if by_key or "jwks" in document else "jwks_uri", detail)
    if "jwks" not in document:
        return None, uri
    if not isinstance(jwks, dict):
        raise MetadataRefused("jwks", "must be a JWK Set (RFC 7517)")
    try:
        return check_jwks(jwks), None
    except Invalid as error:
        first = error.members["errors"][0]
        raise MetadataRefused("jwks", f"at {first['pointer']}: {first['detail']}") from error


def _text(document: Mapping[str, Any], name: str, *, longest: int = LONGEST_TEXT) -> str | None:
    """A member that is one line of text; None if it is not there."""
    if name not in document:
        return None
    value = document[name]
    try:
        if not isinstance(value, str) or not 1 <= len(check_line(value)) <= longest:
            raise ValueError(name)
    except ValueError as error:
        raise MetadataRefused(name, f"must be one line of text of 1 to {longest} characters") from error
    return value


def _texts(document: Mapping[str, Any], name: str) -> list[str]:
    """A member that is a list of such; empty if it is not there."""
    value = document.get(name, [])
    if not isinstance(value, list) or len(value) > MOST_TEXTS:
        raise MetadataRefused(name, f"must be a list of {MOST_TEXTS} strings at most")
    for entry in value:
        _text({name: entry}, name)
    return list(value)


def _flag(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise MetadataRefused(name, "must be true or false")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is there twice")
    return members


def _no_number(_name: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")


def _has_unstorable(value: object) -> bool:
    """True for text that PostgreSQL does not keep: NUL, surrogates."""
    if isinstance(value, str):
        return "\0" in value or any(unicodedata.category(character) == "Cs" for character in value)
    if isinstance(value, dict):
        return any(_has_unstorable(name) or _has_unstorable(below) for name, below in value.items())
    return isinstance(value, list) and any(_has_unstorable(below) for below in value)
