"""`/oauth/register`: RFC 7591 and RFC 7592 over HTTP, with OAuth's own errors. Unknown members and parameters are passed over."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from gateway.errors import ExchangeError
from gateway.identity.client_metadata import MetadataRefused, parse
from gateway.identity.registration import NotAuthorized, Registration
from gateway.limits import network_of

router = APIRouter(tags=["oauth"])

LONGEST_BODY = 64 * 1024
CLIENT = re.compile(r"cli_[0-9a-z]{26}", re.ASCII)
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
# RFC 6749 section 5.2: no quotes, no backslashes, ASCII.
UNSPEAKABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
INITIAL = HTTPBearer(
    scheme_name="registration_token",
    description="The token of POST /v1/organizations/{id}/registration-tokens.",
    auto_error=False,
)
OWN = HTTPBearer(
    scheme_name="registration_access_token",
    description="The client's own: each answer has the next one.",
    auto_error=False,
)
Header = HTTPAuthorizationCredentials | None

ASKED = {
    "client_name": "Route planner",
    "token_endpoint_auth_method": "private_key_jwt",
    "scope": "catalog:read contracts:read contracts:write events:read",
    "jwks": {
        "keys": [
            {
                "kty": "EC",
                "crv": "P-256",
                "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
                "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
                "kid": "2026-11",
            }
        ]
    },
    "dpop_bound_access_tokens": True,
}
ANSWERED = ASKED | {
    "client_id": "cli_01k9x3v6t2h8m4c7d5e9f0g1a3",
    "client_id_issued_at": 1795435200,
    "grant_types": ["client_credentials"],
    "response_types": [],
    "registration_access_token": "era_VdJ0c1RzUGFuZGFzQXJlQmxhY2tBbmRXaGl0ZSE",
    "registration_client_uri": "https://exchange.example/oauth/register/cli_01k9x3v6t2h8m4c7d5e9f0g1a3",
    "standing": "active",
}
REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"description": "`invalid_client_metadata`, naming the member (RFC 7591 section 3.2.2)"},
    401: {"description": "`invalid_token`"},
    429: {"description": "`slow_down`: too many from this address"},
}


def _document(example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _answers(status: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": "The client as it stands", "content": {"application/json": {"example": ANSWERED}}}} | REFUSED


@router.post(
    "/oauth/register",
    status_code=201,
    summary="Register a client (RFC 7591)",
    response_class=JSONResponse,
    openapi_extra=_document(ASKED),
    responses=_answers(201),
)
async def register(request: Request, _token: Annotated[Header, Depends(INITIAL)]) -> Response:
    """With a registration token as bearer. The client is `pending` until it is approved, or `active` at once where the token says so."""

    def registered(registration: Registration, token: str, document: dict[str, Any]) -> Response:
        made = registration.register(token, document)
        return JSONResponse(made.shown(request.app.state.settings.issuer), 201, NO_STORE)

    return await _answer(request, registered, with_body=True)


@router.get(
    "/oauth/register/{client_id}",
    summary="Read one's own registration (RFC 7592)",
    response_class=JSONResponse,
    responses=_answers(200),
)
async def read(client_id: str, request: Request, _token: Annotated[Header, Depends(OWN)]) -> Response:
    """The answer has a new `registration_access_token`; the one that was sent is good until that has been used."""

    def shown(registration: Registration, token: str, _document: dict[str, Any]) -> Response:
        found = registration.read(_checked(client_id), token)
        return JSONResponse(found.shown(request.app.state.settings.issuer), 200, NO_STORE)

    return await _answer(request, shown)


@router.put(
    "/oauth/register/{client_id}",
    summary="Change one's own registration (RFC 7592)",
    response_class=JSONResponse,
    openapi_extra=_document(ASKED | {"client_id": ANSWERED["client_id"]}),
    responses=_answers(200),
)
async def change(client_id: str, request: Request, _token: Annotated[Header, Depends(OWN)]) -> Response:
    """The whole metadata anew: what is left out is gone. New keys are in force when this has answered."""

    def changed(registration: Registration, token: str, document: dict[str, Any]) -> Response:
        made = registration.change(_checked(client_id), token, document)
        return JSONResponse(made.shown(request.app.state.settings.issuer), 200, NO_STORE)

    return await _answer(request, changed, with_body=True)


@router.delete(
    "/oauth/register/{client_id}", status_code=204, summary="Remove oneself (RFC 7592)", response_class=Response, responses=REFUSED
)
async def remove(client_id: str, request: Request, _token: Annotated[Header, Depends(OWN)]) -> Response:
    """Its tokens are refused from now on."""

    def removed(registration: Registration, token: str, _document: dict[str, Any]) -> Response:
        registration.remove(_checked(client_id), token)
        return Response(status_code=204, headers=NO_STORE)

    return await _answer(request, removed)


def _checked(client_id: str) -> str:
    if not CLIENT.fullmatch(client_id):
        raise NotAuthorized
    return client_id


async def _answer(request: Request, act: Callable[[Registration, str, dict[str, Any]], Response], *, with_body: bool = False) -> Response:
    """Run one act in a worker thread; whatever is wrong is told in OAuth's form."""
    try:
        headers = request.app.state.registrations_limit.count(network_of(request))
        token = _bearer(request)
        document = await _read_document(request) if with_body else {}
        answer = await run_in_threadpool(act, request.app.state.registration, token, document)
        answer.headers.update(headers)
    except NotAuthorized:
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        answer = _refusal(401, "invalid_token", "The token is missing, wrong, used up, expired or revoked.", challenge)
    except MetadataRefused as error:
        answer = _refusal(400, error.error, str(error))
    except ExchangeError as error:
        if error.code != "rate_limited" and error.status < 500:
            raise
        name = "slow_down" if error.code == "rate_limited" else "temporarily_unavailable"
        answer = _refusal(error.status, name, "Try again in a moment.", {"Retry-After": "2"} | error.headers)
    return answer


def _bearer(request: Request) -> str:
    sent = request.headers.getlist("authorization")
    scheme, _, token = (sent[0] if len(sent) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip(" "):
        raise NotAuthorized
    return token.strip(" ")


async def _read_document(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise MetadataRefused("The body", "must be application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise MetadataRefused("The body", "must have 64 KiB at most")
    return parse(bytes(body))


def _refusal(status: int, error: str, description: str, headers: dict[str, str] | None = None) -> JSONResponse:
    told = UNSPEAKABLE.sub("'", description)
    return JSONResponse({"error": error, "error_description": told}, status, NO_STORE | (headers or {}))
