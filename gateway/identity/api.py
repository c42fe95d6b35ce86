"""Organizations, API clients and `me` over HTTP. OAuth's own endpoints are in `oauth.py`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from gateway.database import Reading, Transaction, rfc3339
from gateway.errors import ExchangeError, Invalid
from gateway.http import After, IfMatch, Limit, etag, page, parse_period, require_match
from gateway.idempotency import IdempotentRoute
from gateway.identity import clients, onboarding, organizations
from gateway.identity.documents import (
    CLIENT_EXAMPLE,
    ME_EXAMPLE,
    ORGANIZATION_EXAMPLE,
    AskedOrganization,
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
    show_request,
)
from gateway.identity.models import Client, Organization, OrganizationRequest
from gateway.identity.principal import Allow, Principal
from gateway.identity.registration_api import Administrator, administered
from gateway.limits import network_of

router = APIRouter(prefix="/v1", tags=["identity"], route_class=IdempotentRoute)

Caller = Annotated[Principal, Allow()]
OperatorOrStranger = Annotated[Principal | None, Allow("organizations:write", roles=("operator",), anybody=True)]
Operator = Annotated[Principal, Allow("organizations:write", roles=("operator",))]
Approver = Annotated[Principal, Allow("organizations:write", roles=("operator",), fresh=True)]
ClientReader = Annotated[Principal, Allow("clients:write")]
ClientMaker = Annotated[Principal, Allow("clients:write", roles=("operator",))]

IDENTIFIER = re.compile(r"(org|cli)_[0-9a-z]{26}", re.ASCII)
OVERSEERS = frozenset({"operator", "privacy_officer", "auditor"})
ASKED_EXAMPLE = ORGANIZATION_EXAMPLE | {"standing": "pending", "claim": "exo_VdJ0c1RzUGFuZGFzQXJlQmxhY2tBbmRXaGl0ZSE"}
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
    """A client, or a person who signed in: organization, roles, scopes, the contracts that this token names, what is left of its limits."""
    directory = request.app.state.identity
    shown: dict[str, Any] = {
        "roles": sorted(caller.roles),
        "scopes": sorted(caller.scopes),
        "contracts": sorted(caller.contracts),
        "strong": caller.strong,
        "expires_at": rfc3339(caller.expires_at),
        "limits": request.app.state.callers.left(caller.actor, caller.organization_id),
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
        lambda row: show_organization(row, intent=_may_read_intent(caller, row)).model_dump(mode="json"),
        limit=limit,
        after=after,
        request=request,
        response=response,
    )


@router.post("/organizations", status_code=201, summary="Make an organization, or ask for one", responses=shows(ASKED_EXAMPLE, 201))
def make_organization(
    wanted: Annotated[
        NewOrganization, example({key: ORGANIZATION_EXAMPLE[key] for key in ("name", "kind", "contact", "intent", "domain")})
    ],
    request: Request,
    session: Transaction,
    caller: OperatorOrStranger,
    response: Response,
) -> AskedOrganization | OrganizationDocument:
    """By an operator: it is made. By anybody else, without a token or signed in: it is asked for; the answer's `claim`, shown this once,
    gets the first registration token when an operator has approved, and who asked while signed in is its admin then.
    """
    if caller is None or "operator" not in caller.roles:
        network = network_of(request)
        response.headers.update(request.app.state.registrations_limit.count(network))
        request.app.state.asks_limit.count(network)
        return _asked(wanted, request, session, response, caller)
    if "kind" not in wanted.model_fields_set:
        raise Invalid([{"pointer": "/kind", "detail": "must be department or partner"}])
    organization = organizations.make(session, caller, **wanted.model_dump())
    response.headers["Location"] = f"/v1/organizations/{organization.id}"
    return _shown_organization(organization, response, caller)


@router.get("/organizations/{organization_id}", summary="One organization", responses=shows(ORGANIZATION_EXAMPLE))
def read_organization(organization_id: str, session: Reading, caller: Caller, response: Response) -> OrganizationDocument:
    return _shown_organization(_find(session, _organizations_for(caller), Organization.id, organization_id), response, caller)


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
    return _shown_organization(organization, response, caller)


@router.post("/organizations/{organization_id}/approve", summary="Approve an organization", responses=shows(ORGANIZATION_EXAMPLE))
def approve_organization(organization_id: str, session: Transaction, caller: Approver, response: Response) -> OrganizationDocument:
    """One that was made and is pending or suspended, or one that somebody asked for: it is made now, and its claim is worth a token."""
    waiting = onboarding.waiting(session, organization_id) if IDENTIFIER.fullmatch(organization_id) else None
    if waiting is not None:
        return _shown_organization(onboarding.approve(session, caller, waiting), response, caller)
    return _moved(session, caller, organization_id, "approve", response)


@router.post("/organizations/{organization_id}/suspend", summary="Suspend an organization", responses=shows(ORGANIZATION_EXAMPLE))
def suspend_organization(organization_id: str, session: Transaction, caller: Operator, response: Response) -> OrganizationDocument:
    """Its tokens are refused from now on, until it is approved again."""
    return _moved(session, caller, organization_id, "suspend", response)


@router.get(
    "/organization-requests",
    summary="Organizations that were asked for and wait for approval",
    responses=shows({"items": [ORGANIZATION_EXAMPLE | {"standing": "pending"}], "next": None}),
    response_model=None,
)
def list_requests(
    request: Request, response: Response, session: Reading, _caller: Approver, limit: Limit = 50, after: After = None
) -> dict[str, Any]:
    """Oldest first. Nobody has proved who asked: see to the contact and the domain before you approve."""
    return page(
        session,
        onboarding.open_requests(),
        OrganizationRequest.id,
        lambda row: show_request(row).model_dump(mode="json"),
        limit=limit,
        after=after,
        request=request,
        response=response,
    )


@router.post("/organizations/{organization_id}/refuse", status_code=204, summary="Refuse an organization that was asked for")
def refuse_organization(organization_id: str, session: Transaction, _caller: Approver) -> None:
    """It is forgotten, and so is its claim."""
    waiting = onboarding.waiting(session, organization_id) if IDENTIFIER.fullmatch(organization_id) else None
    if waiting is None:
        raise ExchangeError("not_found")
    onboarding.refuse(session, waiting)


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
    caller: Administrator,
    response: Response,
    wanted: Annotated[Rotation | None, example({"jwks": JWKS_EXAMPLE, "overlap": "PT24H"})] = None,
) -> ClientDocument:
    """By the operator, or a partner admin of its organization. The old ones are of no use when this has answered, or after `overlap`.
    Tokens that were issued live until they expire: `revoke` ends those too.
    """
    client = _find(session, administered(caller), Client.id, client_id)
    wanted = wanted or Rotation()
    overlap = parse_period(wanted.overlap) if wanted.overlap else timedelta(0)
    secret = clients.rotate(session, request.app.state.keys, caller, client, wanted.jwks, overlap)
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


def _asked(wanted: NewOrganization, request: Request, session: Session, response: Response, caller: Principal | None) -> AskedOrganization:
    """Says nothing of names that are taken: that is the operator's to see."""
    wrong = [
        {"pointer": f"/{name}", "detail": "must be there"} for name in ("contact", "intent", "domain") if getattr(wanted, name) is None
    ]
    if wanted.kind != "partner":
        wrong.append({"pointer": "/kind", "detail": "must be partner: departments are made by an operator"})
    if wrong:
        raise Invalid(wrong)
    members = wanted.model_dump(exclude={"kind"})
    key = request.app.state.keys.secret("client_secret")
    asked, claim = onboarding.ask(session, key, **members, asked_by=caller.person.id if caller is not None and caller.person else None)
    response.headers["Cache-Control"] = "no-store"
    return AskedOrganization.model_validate(show_request(asked).model_dump() | {"claim": claim})


def _moved(session: Session, caller: Principal, organization_id: str, verb: str, response: Response) -> OrganizationDocument:
    organization = _find(session, select(Organization), Organization.id, organization_id)
    organizations.move(session, caller, organization, verb)
    return _shown_organization(organization, response, caller)


def _shown_organization(organization: Organization, response: Response, caller: Principal) -> OrganizationDocument:
    response.headers["ETag"] = etag(organization.version)
    return show_organization(organization, intent=_may_read_intent(caller, organization))


def _may_read_intent(caller: Principal, organization: Organization) -> bool:
    return bool(caller.roles & OVERSEERS) or organization.id == caller.organization_id


def _shown_client(client: Client, response: Response, secret: str | None = None) -> ClientDocument:
    response.headers["ETag"] = etag(client.version)
    if secret is not None:
        response.headers["Cache-Control"] = "no-store"
    return show_client(client, secret)


def _plain_client(row: Client) -> dict[str, Any]:
    return show_client(row).model_dump(mode="json", exclude_none=True)
