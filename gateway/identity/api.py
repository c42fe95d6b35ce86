"""Organizations, API clients and `me` over HTTP. OAuth's own endpoints are in `oauth.py`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from gateway.database import Reading, Transaction, rfc3339
from gateway.errors import ExchangeError, Invalid
from gateway.http import After, IfMatch, Limit, etag, page, require_match
from gateway.idempotency import IdempotentRoute
from gateway.identity import clients, organizations
from gateway.identity.documents import (
    CLIENT_EXAMPLE,
    ME_EXAMPLE,
    ORGANIZATION_EXAMPLE,
    ClientChange,
    ClientDocument,
    Me,
    NewClient,
    NewOrganization,
    OrganizationChange,
    OrganizationDocument,
    Rotation,
    show_client,
    show_organization,
)
from gateway.identity.models import Client, Organization
from gateway.identity.principal import Allow, Principal

router = APIRouter(prefix="/v1", tags=["identity"], route_class=IdempotentRoute)

Caller = Annotated[Principal, Allow()]
Operator = Annotated[Principal, Allow("organizations:write", roles=("operator",))]
Approver = Annotated[Principal, Allow("organizations:write", roles=("operator",), fresh=True)]
ClientReader = Annotated[Principal, Allow("clients:write")]
ClientMaker = Annotated[Principal, Allow("clients:write", roles=("operator",))]

IDENTIFIER = re.compile(r"(org|cli)_[0-9a-z]{26}", re.ASCII)
OVERSEERS = frozenset({"operator", "privacy_officer", "auditor"})
SECRET_EXAMPLE = CLIENT_EXAMPLE | {"client_secret": "exs_VdJ0c1RzUGFuZGFzQXJlQmxhY2tBbmRXaGl0ZSE"}
JWKS_EXAMPLE = {
    "keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x0vM6bqJ4t1tJ9Z9sBHd4b6bbk9eM9lH3DbZX9Vq0pQ",
            "kid": "2026-11",
        }
    ]
}


def shows(example: dict[str, Any], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: a real example of its answer."""
    return {status: {"content": {"application/json": {"example": example}}}}


def example(value: dict[str, Any]) -> Any:
    """A body, with a real example of it."""
    return Body(openapi_examples={"example": {"value": value}})


@router.get("/me", summary="Who I am", response_model_exclude_none=True, responses=shows(ME_EXAMPLE))
def me(request: Request, caller: Caller) -> Me:
    """A client, or a person who signed in: organization, roles, scopes, and the contracts that this token names."""
    directory = request.app.state.identity
    shown: dict[str, Any] = {
        "roles": sorted(caller.roles),
        "scopes": sorted(caller.scopes),
        "contracts": sorted(caller.contracts),
        "strong": caller.strong,
        "expires_at": rfc3339(caller.expires_at),
    }
    organization = directory.organization(caller.organization_id)
    if organization is not None:
        shown["organization"] = {name: getattr(organization, name) for name in ("id", "name", "kind", "standing")}
    if caller.person is not None:
        at = datetime.fromtimestamp(caller.person.auth_time, UTC)
        shown["person"] = {"id": caller.person.id, "auth_time": rfc3339(at), "acr": caller.person.acr}
    else:
        client = directory.client(caller.client_id)
        shown["client"] = {name: getattr(client, name) for name in ("id", "name", "token_endpoint_auth_method")}
    return Me.model_validate(shown)


@router.get(
    "/organizations",
    summary="Departments and partners",
    responses=shows({"items": [ORGANIZATION_EXAMPLE], "next": None}),
    response_model=None,
)
def list_organizations(
    request: Request, response: Response, session: Reading, caller: Caller, limit: Limit = 50, after: After = None
) -> dict[str, Any]:
    return page(
        session,
        _organizations_for(caller),
        Organization.id,
        _plain_organization,
        limit=limit,
        after=after,
        request=request,
        response=response,
    )


@router.post("/organizations", status_code=201, summary="Make an organization", responses=shows(ORGANIZATION_EXAMPLE, 201))
def make_organization(
    wanted: Annotated[NewOrganization, example({key: ORGANIZATION_EXAMPLE[key] for key in ("name", "kind", "contact")})],
    session: Transaction,
    caller: Operator,
    response: Response,
) -> OrganizationDocument:
    organization = organizations.make(session, caller, name=wanted.name, kind=wanted.kind, contact=wanted.contact)
    response.headers["Location"] = f"/v1/organizations/{organization.id}"
    return _shown_organization(organization, response)


@router.get("/organizations/{organization_id}", summary="One organization", responses=shows(ORGANIZATION_EXAMPLE))
def read_organization(organization_id: str, session: Reading, caller: Caller, response: Response) -> OrganizationDocument:
    return _shown_organization(_find(session, _organizations_for(caller), Organization.id, organization_id), response)


@router.patch("/organizations/{organization_id}", summary="Change an organization (RFC 7396)", responses=shows(ORGANIZATION_EXAMPLE))
def change_organization(
    organization_id: str,
    wanted: Annotated[OrganizationChange, example({"contact": "data@portcreditmobility.example"})],
    session: Transaction,
    caller: Operator,
    response: Response,
    if_match: IfMatch = None,
) -> OrganizationDocument:
    organization = _find(session, select(Organization), Organization.id, organization_id)
    require_match(if_match, organization.version)
    organizations.change(session, caller, organization, wanted.model_dump(exclude_unset=True))
    return _shown_organization(organization, response)


@router.post("/organizations/{organization_id}/approve", summary="Approve an organization", responses=shows(ORGANIZATION_EXAMPLE))
def approve_organization(organization_id: str, session: Transaction, caller: Approver, response: Response) -> OrganizationDocument:
    return _moved(session, caller, organization_id, "approve", response)


@router.post("/organizations/{organization_id}/suspend", summary="Suspend an organization", responses=shows(ORGANIZATION_EXAMPLE))
def suspend_organization(organization_id: str, session: Transaction, caller: Operator, response: Response) -> OrganizationDocument:
    """Its tokens are refused from now on, until it is approved again."""
    return _moved(session, caller, organization_id, "suspend", response)


@router.get("/clients", summary="API clients", responses=shows({"items": [CLIENT_EXAMPLE], "next": None}), response_model=None)
def list_clients(
    request: Request, response: Response, session: Reading, caller: ClientReader, limit: Limit = 50, after: After = None
) -> dict[str, Any]:
    return page(session, _clients_for(caller), Client.id, _plain_client, limit=limit, after=after, request=request, response=response)


@router.post(
    "/clients", status_code=201, summary="Make an API client", response_model_exclude_none=True, responses=shows(SECRET_EXAMPLE, 201)
)
def make_client(
    wanted: Annotated[
        NewClient, example({key: CLIENT_EXAMPLE[key] for key in ("organization", "name", "scopes", "roles", "token_endpoint_auth_method")})
    ],
    request: Request,
    session: Transaction,
    caller: ClientMaker,
    response: Response,
) -> ClientDocument:
    """A secret stands in this answer and nowhere again. With `private_key_jwt` and `jwks` there is none."""
    organization = _organization(session, wanted.organization)
    if organization is None:
        raise Invalid([{"pointer": "/organization", "detail": "names no organization"}])
    members = wanted.model_dump(exclude={"organization"})
    client, secret = clients.make(session, request.app.state.keys, caller, organization, **members)
    response.headers["Location"] = f"/v1/clients/{client.id}"
    return _shown_client(client, response, secret)


@router.get("/clients/{client_id}", summary="One API client", response_model_exclude_none=True, responses=shows(CLIENT_EXAMPLE))
def read_client(client_id: str, session: Reading, caller: ClientReader, response: Response) -> ClientDocument:
    return _shown_client(_find(session, _clients_for(caller), Client.id, client_id), response)


@router.patch(
    "/clients/{client_id}", summary="Change an API client (RFC 7396)", response_model_exclude_none=True, responses=shows(CLIENT_EXAMPLE)
)
def change_client(
    client_id: str,
    wanted: Annotated[ClientChange, example({"scopes": ["catalog:read", "events:read"]})],
    session: Transaction,
    caller: ClientMaker,
    response: Response,
    if_match: IfMatch = None,
) -> ClientDocument:
    client = _find(session, select(Client), Client.id, client_id)
    require_match(if_match, client.version)
    organization = session.get_one(Organization, client.organization_id)
    clients.change(session, caller, client, organization, wanted.model_dump(exclude_unset=True))
    return _shown_client(client, response)


@router.delete("/clients/{client_id}", status_code=204, summary="Remove an API client")
def remove_client(client_id: str, session: Transaction, caller: ClientMaker) -> None:
    clients.remove(session, caller, _find(session, select(Client), Client.id, client_id))


@router.post(
    "/clients/{client_id}/rotate",
    summary="Give a client a new secret, or new keys",
    response_model_exclude_none=True,
    responses=shows(SECRET_EXAMPLE),
)
def rotate_client(
    client_id: str,
    request: Request,
    session: Transaction,
    caller: ClientMaker,
    response: Response,
    wanted: Annotated[Rotation | None, example({"jwks": JWKS_EXAMPLE})] = None,
) -> ClientDocument:
    """The old ones are of no use when this has answered. Tokens that were issued live until they expire: `revoke` ends those too."""
    client = _find(session, select(Client), Client.id, client_id)
    secret = clients.rotate(session, request.app.state.keys, caller, client, wanted.jwks if wanted else None)
    return _shown_client(client, response, secret)


@router.post(
    "/clients/{client_id}/revoke", summary="Revoke an API client", response_model_exclude_none=True, responses=shows(CLIENT_EXAMPLE)
)
def revoke_client(client_id: str, session: Transaction, caller: ClientMaker, response: Response) -> ClientDocument:
    """Its tokens are refused from now on, and none is issued again."""
    client = _find(session, select(Client), Client.id, client_id)
    clients.revoke(session, caller, client)
    return _shown_client(client, response)


def _organizations_for(caller: Principal) -> Select[Organization]:
    """Who oversees the exchange sees all, others the approved ones and their own."""
    if caller.roles & OVERSEERS:
        return select(Organization)
    return select(Organization).where(or_(Organization.standing == "approved", Organization.id == caller.organization_id))


def _clients_for(caller: Principal) -> Select[Client]:
    if caller.roles & OVERSEERS:
        return select(Client)
    return select(Client).where(Client.organization_id == caller.organization_id)


def _find(session: Session, visible: Select[Any], key: Any, identifier: str) -> Any:
    """Raises `not_found`."""
    found = session.scalar(visible.where(key == identifier)) if IDENTIFIER.fullmatch(identifier) else None
    if found is None:
        raise ExchangeError("not_found")
    return found


def _organization(session: Session, identifier: str) -> Organization | None:
    return session.get(Organization, identifier) if IDENTIFIER.fullmatch(identifier) else None


def _moved(session: Session, caller: Principal, organization_id: str, verb: str, response: Response) -> OrganizationDocument:
    organization = _find(session, select(Organization), Organization.id, organization_id)
    organizations.move(session, caller, organization, verb)
    return _shown_organization(organization, response)


def _shown_organization(organization: Organization, response: Response) -> OrganizationDocument:
    response.headers["ETag"] = etag(organization.version)
    return show_organization(organization)


def _shown_client(client: Client, response: Response, secret: str | None = None) -> ClientDocument:
    response.headers["ETag"] = etag(client.version)
    if secret is not None:
        response.headers["Cache-Control"] = "no-store"
    return show_client(client, secret)


def _plain_organization(row: Organization) -> dict[str, Any]:
    return show_organization(row).model_dump(mode="json")


def _plain_client(row: Client) -> dict[str, Any]:
    return show_client(row).model_dump(mode="json", exclude_none=True)
