"""Persons over HTTP: who there is, which roles they have here, whether they may sign in; and one's own signing out."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request, Response
from pydantic import AfterValidator
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from gateway.database import Reading, Transaction
from gateway.errors import ExchangeError, Invalid
from gateway.http import After, Document, Limit, Time, etag, page
from gateway.idempotency import IdempotentRoute
from gateway.identity import people, sign_ins
from gateway.identity.documents import Line
from gateway.identity.models import Organization
from gateway.identity.people_models import Person, PersonSession
from gateway.identity.principal import Allow, Principal
from gateway.identity.roles import ROLES

router = APIRouter(prefix="/v1", tags=["identity"], route_class=IdempotentRoute)

Operator = Annotated[Principal, Allow("organizations:write", roles=("operator",))]
Appointer = Annotated[Principal, Allow("organizations:write", roles=("operator",), fresh=True)]
Admin = Annotated[Principal, Allow("clients:write", roles=("operator", "partner_admin"))]
SignedIn = Annotated[Principal, Allow(person=True)]

IDENTIFIER = re.compile(r"per_[0-9a-z]{26}", re.ASCII)
PERSON_EXAMPLE = {
    "id": "per_01k9x3v6t2h8m4c7d5e9f0g1a5",
    "name": "Ada Lovelace",
    "issuer": "https://login.city.example",
    "organization": "org_01k9x3v6t2h8m4c7d5e9f0g1a2",
    "roles": ["partner_admin"],
    "claimed_roles": [],
    "standing": "active",
    "created_at": "2026-11-23T12:00:00Z",
    "roles_changed_at": "2026-11-23T12:05:00Z",
}
ROLES_EXAMPLE = {"organization": PERSON_EXAMPLE["organization"], "roles": PERSON_EXAMPLE["roles"]}


def check_person_roles(value: list[str]) -> list[str]:
    """Raises `ValueError` for one that nobody is given, or that is there twice."""
    given = [name for name in ROLES if name != "resident"]
    if any(role not in given for role in value):
        raise ValueError(f"must be of {', '.join(given)}")
    if len(set(value)) < len(value):
        raise ValueError("must name each once")
    return value


class PersonDocument(Document):
    """A person. `roles` were given here, `claimed_roles` come from their provider at each sign-in."""

    id: str
    name: str | None = None
    issuer: str
    organization: str | None = None
    roles: list[str]
    claimed_roles: list[str]
    standing: Literal["active", "suspended"]
    created_at: Time
    roles_changed_at: Time


class PersonRoles(Document):
    """All roles that a person has here, for this organization; without one there is none."""

    organization: Line | None = None
    roles: Annotated[list[str], AfterValidator(check_person_roles)]


def _shows(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


@router.get("/persons", summary="Persons", responses=_shows({"items": [PERSON_EXAMPLE], "next": None}), response_model=None)
def list_persons(
    request: Request, response: Response, session: Reading, caller: Admin, limit: Limit = 50, after: After = None
) -> dict[str, Any]:
    """An operator sees all, a partner's admin those of their organization."""
    return page(session, _visible(caller), Person.id, _plain, limit=limit, after=after, request=request, response=response)


@router.get("/persons/{person_id}", summary="One person", response_model_exclude_none=True, responses=_shows(PERSON_EXAMPLE))
def read_person(person_id: str, session: Reading, caller: Admin, response: Response) -> PersonDocument:
    return _shown(_find(session, _visible(caller), person_id), response)


@router.post(
    "/persons/{person_id}/roles", summary="Say which roles a person has", response_model_exclude_none=True, responses=_shows(PERSON_EXAMPLE)
)
def give_roles(
    person_id: str,
    wanted: Annotated[PersonRoles, Body(openapi_examples={"example": {"value": ROLES_EXAMPLE}})],
    session: Transaction,
    caller: Appointer,
    response: Response,
) -> PersonDocument:
    """By another operator than that person. A role that is taken away is of no use from now on, a new one waits a day to approve."""
    person = _find(session, select(Person).with_for_update(), person_id)
    people.give_roles(session, caller, person, _organization(session, wanted.organization), wanted.roles)
    return _shown(person, response)


@router.post("/persons/{person_id}/suspend", summary="Suspend a person", response_model_exclude_none=True, responses=_shows(PERSON_EXAMPLE))
def suspend_person(person_id: str, session: Transaction, caller: Operator, response: Response) -> PersonDocument:
    """Their tokens and sessions are refused from now on, and none is begun."""
    person = _find(session, select(Person).with_for_update(), person_id)
    people.move(session, caller, person, "suspend")
    return _shown(person, response)


@router.post(
    "/persons/{person_id}/restore",
    summary="Let a suspended person sign in again",
    response_model_exclude_none=True,
    responses=_shows(PERSON_EXAMPLE),
)
def restore_person(person_id: str, session: Transaction, caller: Appointer, response: Response) -> PersonDocument:
    person = _find(session, select(Person).with_for_update(), person_id)
    people.move(session, caller, person, "restore")
    return _shown(person, response)


@router.post("/me/sign-out", status_code=204, summary="Sign out")
def sign_out(session: Transaction, caller: SignedIn) -> None:
    """This sign-in's tokens, and the token that renews them, are refused from now on at every replica."""
    assert caller.person is not None
    row = session.get(PersonSession, caller.person.session_id)
    if row is not None:
        sign_ins.end(session, row, "signed_out")


def _visible(caller: Principal) -> Select[Person]:
    if "operator" in caller.roles:
        return select(Person)
    return select(Person).where(Person.organization_id == caller.organization_id)


def _find(session: Session, visible: Select[Person], person_id: str) -> Person:
    found = session.scalar(visible.where(Person.id == person_id)) if IDENTIFIER.fullmatch(person_id) else None
    if found is None:
        raise ExchangeError("not_found")
    return found


def _organization(session: Session, organization_id: str | None) -> Organization | None:
    if organization_id is None:
        return None
    found = session.get(Organization, organization_id) if organization_id.isascii() else None
    if found is None:
        raise Invalid([{"pointer": "/organization", "detail": "names no organization"}])
    return found


def _shown(row: Person, response: Response) -> PersonDocument:
    response.headers["ETag"] = etag(row.version)
    return PersonDocument.model_validate(_members(row))


def _members(row: Person) -> dict[str, Any]:
    members = {name: getattr(row, name) for name in ("id", "name", "issuer", "claimed_roles", "standing", "created_at", "roles_changed_at")}
    return members | {"organization": row.organization_id, "roles": row.granted_roles}


def _plain(row: Person) -> dict[str, Any]:
    return PersonDocument.model_validate(_members(row)).model_dump(mode="json", exclude_none=True)
