"""What is known of the person who calls, as an access token says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PersonFacts:
    """The person who calls. `auth_time`: when they proved who they are, in seconds since 1970; `acr`: how, as their provider names it."""

    id: str
    session_id: str
    auth_time: int
    acr: str | None


def read_person(claims: dict[str, Any]) -> PersonFacts | None:
    """What an access token says of a person, None if it is a client's own. Raises `KeyError`, `TypeError`, `ValueError`."""
    if "sid" not in claims:
        return None
    person_id, session_id, auth_time, acr = claims["sub"], claims["sid"], claims["auth_time"], claims.get("acr")
    if not isinstance(person_id, str) or not isinstance(session_id, str) or type(auth_time) is not int:
        raise TypeError("sub and sid must be strings, auth_time a whole number of seconds")
    if acr is not None and not isinstance(acr, str):
        raise TypeError("acr must be a string")
    return PersonFacts(person_id, session_id, auth_time, acr)
