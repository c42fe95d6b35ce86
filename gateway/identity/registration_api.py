"""Registration tokens of an organization, and letting in or cutting off what was registered with them, over HTTP.

The registration itself (RFC 7591, RFC 7592) is in `registration_endpoints.py`.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from gateway.database import Reading, Transaction, now
from gateway.errors import ExchangeError, Invalid
from gateway.http import After, Limit, etag, page, parse_period
from gateway.idempotency import IdempotentRoute
from gateway.identity import clients, onboarding, registration_tokens
from gateway.identity.documents import (
    CLIENT_EXAMPLE,
    REGISTRATION_TOKEN_EXAMPLE,
    ClientDocument,
    NewRegistrationToken,
    RegistrationTokenDocument,
    show_client,
    show_registration_token,
)
from gateway.identity.models import Client, Organization, RegistrationToken
from gateway.identity.principal import Allow, Anybody, Principal, challenge
from gateway.keys import SecretKey
from gateway.limits import network_of

router = APIRouter(prefix="/v1", tags=["identity"], route_class=IdempotentRoute)

ADMINISTRATORS = ("operator", "partner_admin")
"""An operator for every organization, a partner admin for the own one."""
Administrator = Annotated[Principal, Allow("clients:write", roles=ADMINISTRATORS)]
Approver = Annotated[Principal, Allow("clients:write", roles=ADMINISTRATORS, fresh=True)]

DAY, LONGEST = timedelta(days=1), timedelta(days=90)
MOST_BY_CLAIM = 10
"""Clients that a token which was got for a claim may register."""
ORGANIZATION = re.compile(r"org_[0-9a-z]{26}", re.ASCII)
CLIENT = re.compile(r"cli_[0-9a-z]{26}", re.ASCII)
TOKEN = re.compile(r"rgt_[0-9a-z]{26}", re.ASCII)
TOKEN_EXAMPLE = REGISTRATION_TOKEN_EXAMPLE | {"token": "exr_VdJ0c1RzUGFuZGFzQXJlQmxhY2tBbmRXaGl0ZSE"}
WANTED_EXAMPLE = {"scopes": REGISTRATION_TOKEN_EXAMPLE["scopes"], "uses": 1, "expires_in": "P1D", "approved": True}


def _shows(example: dict[str, Any], status: int = 200) -> dict[int | str, dict[str, Any]]:
    return {status: {"content": {"application/json": {"example": example}}}}


@router.post(
    "/organizations/{organization_id}/registration-tokens",
    status_code=201,
    summary="Make a registration token (RFC 7591 initial access token)",
    response_model_exclude_none=True,
    responses=_shows(TOKEN_EXAMPLE, 201),
)
def make_registration_token(
    organization_id: str,
    wanted: Annotated[NewRegistrationToken, Body(openapi_examples={"example": {"value": WANTED_EXAMPLE}})],
    request: Request,
    session: Transaction,
    caller: Anybody,
    response: Response,
) -> RegistrationTokenDocument:
    """With a token, by the operator or a partner admin of the organization; without one, once, for the `claim` of who asked for it."""
    key = _key(request)
    until = _until(wanted)
    _check_scopes(wanted)
    organization = _claimed(request, session, key, organization_id, wanted) if caller is None else None
    if caller is not None:
        organization = _administered(session, request, caller, organization_id, wanted)
    assert organization is not None
    token, value = registration_tokens.make(
        session, key, caller, organization, scopes=wanted.scopes, uses=wanted.uses, until=until, approved=wanted.approved
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Location"] = f"/v1/organizations/{organization.id}/registration-tokens/{token.id}"
    return show_registration_token(token, value)


@router.get(
    "/organizations/{organization_id}/registration-tokens",
    summary="Registration tokens of an organization",
    responses=_shows({"items": [REGISTRATION_TOKEN_EXAMPLE], "next": None}),
    response_model=None,
)
def list_registration_tokens(
    organization_id: str,
    request: Request,
    response: Response,
    session: Reading,
    caller: Administrator,
    limit: Limit = 50,
    after: After = None,
) -> dict[str, Any]:
    """Never their values: used up, expired and revoked ones too, until they are forgotten a month after their time."""
    of = _organization_of(session, caller, organization_id)
    return page(
        session,
        select(RegistrationToken).where(RegistrationToken.organization_id == of.id),
        RegistrationToken.id,
        lambda row: show_registration_token(row).model_dump(mode="json", exclude_none=True),
        limit=limit,
        after=after,
        request=request,
        response=response,
    )


@router.delete("/organizations/{organization_id}/registration-tokens/{token_id}", status_code=204, summary="Revoke a registration token")
def revoke_registration_token(organization_id: str, token_id: str, session: Transaction, caller: Administrator) -> None:
    """It registers nobody when this has answered. Clients that it registered stay: revoke them one by one."""
    of = _organization_of(session, caller, organization_id)
    mine = select(RegistrationToken).where(RegistrationToken.id == token_id, RegistrationToken.organization_id == of.id)
    token = session.scalar(mine.with_for_update()) if TOKEN.fullmatch(token_id) else None
    if token is None:
        raise ExchangeError("not_found")
    registration_tokens.revoke(session, caller, token)


@router.post(
    "/clients/{client_id}/approve",
    summary="Let in a client that registered itself",
    response_model_exclude_none=True,
    responses=_shows(CLIENT_EXAMPLE),
)
def approve_client(client_id: str, session: Transaction, caller: Approver, response: Response) -> ClientDocument:
    """By the operator, or a partner admin of its organization. It gets tokens from now on."""
    client = _find_client(session, caller, client_id)
    clients.approve(session, caller, client)
    return _shown(client, response)


@router.post(
    "/clients/{client_id}/revoke-old",
    summary="End the overlap of a rotation",
    response_model_exclude_none=True,
    responses=_shows(CLIENT_EXAMPLE),
)
def revoke_old_credential(client_id: str, session: Transaction, caller: Administrator, response: Response) -> ClientDocument:
    """The secret or keys of before the last rotation are of no use when this has answered."""
    client = _find_client(session, caller, client_id)
    clients.revoke_old(session, caller, client)
    return _shown(client, response)


def administered(caller: Principal) -> Select[Client]:
    """The clients that this administrator may act on."""
    every = select(Client)
    return every if "operator" in caller.roles else every.where(Client.organization_id == caller.organization_id)


def _claimed(request: Request, session: Session, key: SecretKey, organization_id: str, wanted: NewRegistrationToken) -> Organization:
    if wanted.claim is None:
        raise ExchangeError("token_missing", headers={"WWW-Authenticate": challenge(request)})
    if wanted.uses > MOST_BY_CLAIM:
        raise Invalid([{"pointer": "/uses", "detail": f"must be {MOST_BY_CLAIM} at most with a claim"}])
    request.app.state.registrations_limit.count(network_of(request))
    if not ORGANIZATION.fullmatch(organization_id):
        raise ExchangeError("claim_invalid")
    organization = onboarding.use_claim(session, key, organization_id, wanted.claim)
    if organization.standing != "approved":
        raise ExchangeError("illegal_state", f"The organization is {organization.standing}.", state=organization.standing, legal=[])
    return organization


def _administered(
    session: Session, request: Request, caller: Principal, organization_id: str, wanted: NewRegistrationToken
) -> Organization:
    if wanted.claim is not None:
        raise Invalid([{"pointer": "/claim", "detail": "is for who has no token: send the one or the other"}])
    if "clients:write" not in caller.scopes:
        header = challenge(request, error="insufficient_scope", scope="clients:write")
        raise ExchangeError("scope_missing", "The token lacks clients:write.", headers={"WWW-Authenticate": header})
    if not caller.roles.intersection(ADMINISTRATORS):
        raise ExchangeError("role_missing", f"This needs the role {' or '.join(ADMINISTRATORS)}.")
    return _organization_of(session, caller, organization_id)


def _check_scopes(wanted: NewRegistrationToken) -> None:
    beyond = sorted(registration_tokens.FOR_OPERATORS.intersection(wanted.scopes))
    if beyond:
        raise Invalid([{"pointer": "/scopes", "detail": f"must not hold {' '.join(beyond)}: a client gets these at /v1/clients only"}])


def _until(wanted: NewRegistrationToken) -> datetime:
    at = now()
    if wanted.expires_in is not None and wanted.valid_until is not None:
        raise Invalid([{"pointer": "/valid_until", "detail": "says what expires_in says: send one of them"}])
    length = parse_period(wanted.expires_in) if wanted.expires_in is not None else DAY
    if length > LONGEST or (wanted.valid_until is not None and not at < wanted.valid_until <= at + LONGEST):
        pointer = "/expires_in" if wanted.valid_until is None else "/valid_until"
        raise Invalid([{"pointer": pointer, "detail": "must lie ahead, by 90 days at most"}])
    return wanted.valid_until or at + length


def _organization_of(session: Session, caller: Principal, organization_id: str) -> Organization:
    """One that the caller administers, so that who does not cannot learn whether it is there. Raises `not_found`."""
    mine = "operator" in caller.roles or organization_id == caller.organization_id
    found = session.get(Organization, organization_id) if mine and ORGANIZATION.fullmatch(organization_id) else None
    if found is None:
        raise ExchangeError("not_found")
    return found


def _find_client(session: Session, caller: Principal, client_id: str) -> Client:
    mine = administered(caller).where(Client.id == client_id)
    found = session.scalar(mine.with_for_update()) if CLIENT.fullmatch(client_id) else None
    if found is None:
        raise ExchangeError("not_found")
    return found


def _shown(client: Client, response: Response) -> ClientDocument:
    response.headers["ETag"] = etag(client.version)
    return show_client(client)


def _key(request: Request) -> SecretKey:
    key: SecretKey = request.app.state.keys.secret("client_secret")
    return key
