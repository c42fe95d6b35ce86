"""The endpoints under the issuer's root: OAuth's own forms and errors, unknown parameters ignored as its RFCs ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers

from gateway.errors import ExchangeError
from gateway.identity.authorization_details import TYPE
from gateway.identity.authorization_server import NO_STORE, AuthorizationServer, refusal
from gateway.identity.client_authentication import METHODS
from gateway.identity.client_keys import ALGORITHMS
from gateway.identity.damping import Attempt
from gateway.identity.person_tokens import is_of_a_person
from gateway.identity.scopes import SCOPES
from gateway.limits import network_of

router = APIRouter(tags=["oauth"])

REPEATABLE = "resource"
"""The one parameter that may be there several times (RFC 8707 section 2). A URI has no space: joined by one, none is lost."""
LONGEST_FORM = 64 * 1024
BAD_REQUEST, UNAUTHORIZED = 400, 401
PUBLIC = {"Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}

TOKEN_FORM = {
    "grant_type": {"type": "string", "const": "client_credentials"},
    "scope": {"type": "string", "description": "Scopes separated by spaces; all of the client's if it is left out."},
    "authorization_details": {"type": "string", "description": "JSON (RFC 9396): narrows the token to contracts."},
    "resource": {"type": "string", "description": "The issuer (RFC 8707): tokens are for nothing else."},
    "client_assertion_type": {"type": "string", "description": "With `private_key_jwt` (RFC 7523)."},
    "client_assertion": {"type": "string", "description": "A JWT signed by a key of the client; `aud` is the issuer, `jti` is good once."},
}


PUBLIC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "BqMcoOSq6g0lTn8mvmNGnO73cEtwG-iaFZjzgx_WPEQ",
    "y": "EU_s6fK8pCKG-2GWc2DDN1JKXX9zk2Rxf4chfdlp2eE",
    "use": "sig",
    "alg": "ES256",
    "kid": "un8Vdu5RyGaMfxe67S4HCk_UT-lpdQsy1S3KWDzfsEQ",
}


def _form(properties: Mapping[str, Any], required: list[str], example: Mapping[str, str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required}
    content = {"application/x-www-form-urlencoded": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _example(example: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


def server_metadata(issuer: str) -> dict[str, Any]:
    """RFC 8414 section 2: all that is offered and nothing that is not. There is no authorization endpoint, so no response type."""
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth/token",
        "jwks_uri": f"{issuer}/oauth/jwks",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "revocation_endpoint_auth_methods_supported": list(METHODS),
        "revocation_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "registration_endpoint": f"{issuer}/oauth/register",
        "scopes_supported": list(SCOPES),
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": list(METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": list(METHODS),
        "introspection_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
        "authorization_details_types_supported": [TYPE],
        "tls_client_certificate_bound_access_tokens": False,
        "protected_resources": [issuer],
        "service_documentation": f"{issuer}/docs",
    }


def resource_metadata(issuer: str) -> dict[str, Any]:
    """RFC 9728 section 2."""
    return {
        "resource": issuer,
        "authorization_servers": [issuer],
        "scopes_supported": list(SCOPES),
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
        "authorization_details_types_supported": [TYPE],
        "dpop_bound_access_tokens_required": False,
        "tls_client_certificate_bound_access_tokens": False,
        "resource_name": "Civic data exchange",
        "resource_documentation": f"{issuer}/docs",
    }


@router.post(
    "/oauth/token",
    summary="Get an access token (RFC 6749 section 4.4)",
    response_class=JSONResponse,
    openapi_extra=_form(TOKEN_FORM, ["grant_type"], {"grant_type": "client_credentials", "scope": "catalog:read events:read"}),
    responses=_example(
        {"token_type": "Bearer", "access_token": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9...", "expires_in": 600, "scope": "events:read"}
    )
    | {400: {"description": "An error in OAuth's form (RFC 6749 section 5.2)"}, 401: {"description": "`invalid_client`"}},
)
async def token(request: Request) -> Response:
    server: AuthorizationServer = request.app.state.authorization
    return await _answer(request, server.token)


@router.post(
    "/oauth/introspect",
    summary="Ask what a token says (RFC 7662)",
    response_class=JSONResponse,
    openapi_extra=_form({"token": {"type": "string"}}, ["token"], {"token": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9..."}),
    responses=_example({"active": False}) | {401: {"description": "`invalid_client`"}},
)
async def introspect(request: Request) -> Response:
    server: AuthorizationServer = request.app.state.authorization
    return await _answer(request, server.introspect)


@router.post(
    "/oauth/revoke",
    summary="Give a token up (RFC 7009)",
    response_class=JSONResponse,
    openapi_extra=_form({"token": {"type": "string"}}, ["token"], {"token": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9..."}),
    responses=_example({}) | {400: {"description": "The token is another client's"}, 401: {"description": "`invalid_client`"}},
)
async def revoke(request: Request) -> Response:
    """When this has answered no replica accepts the token, and streams that were opened with it have ended."""
    server: AuthorizationServer = request.app.state.authorization
    return await _answer(request, server.revoke)


@router.get("/oauth/jwks", summary="The public keys that tokens are signed with (RFC 7517)", responses=_example({"keys": [PUBLIC_KEY]}))
async def jwks(request: Request) -> JSONResponse:
    kept = f"public, max-age={request.app.state.settings.jwks_cache_s}"
    return JSONResponse(request.app.state.identity.public_keys(), headers=PUBLIC | {"Cache-Control": kept})


@router.get(
    "/.well-known/oauth-authorization-server",
    summary="What the authorization server offers (RFC 8414)",
    responses=_example(server_metadata("https://exchange.example")),
)
async def authorization_server_metadata(request: Request) -> JSONResponse:
    server: AuthorizationServer = request.app.state.authorization
    return JSONResponse(server.people.added_to(server_metadata(request.app.state.settings.issuer)), headers=PUBLIC)


@router.get(
    "/.well-known/oauth-protected-resource",
    summary="What tokens the exchange takes (RFC 9728)",
    responses=_example(resource_metadata("https://exchange.example")),
)
async def protected_resource_metadata(request: Request) -> JSONResponse:
    return JSONResponse(resource_metadata(request.app.state.settings.issuer), headers=PUBLIC)


async def _answer(request: Request, endpoint: Callable[[Headers, Mapping[str, str]], Response]) -> Response:
    try:
        form = await read_form(request)
    except OAuth2Error as error:
        return refusal(error)
    if is_of_a_person(request.headers, form):
        # All people come by this one public client: whoever fails in its name must keep none of them out. See `person_tokens.py`.
        return await run_in_threadpool(endpoint, request.headers, form)
    return await damped(request, form, lambda: run_in_threadpool(endpoint, request.headers, form))


async def damped(request: Request, form: Mapping[str, str], answer: Callable[[], Awaitable[Response]]) -> Response:
    """The answer to a client that proves itself, unless there were too many failures, or too many requests of this client."""
    state = request.app.state
    attempt = Attempt.of(network_of(request), request.headers, form)
    client = state.identity.client(attempt.client_id)
    try:
        state.damping.admit(attempt)
        if client is not None:
            state.callers.require(client.id, client.organization_id)
    except ExchangeError as limited:
        told = {"error": "temporarily_unavailable", "error_description": f"{limited.detail} Wait for Retry-After."}
        return JSONResponse(told, limited.status, limited.headers | NO_STORE)
    response = await answer()
    if response.status_code == UNAUTHORIZED:
        state.damping.failed(attempt)
    elif response.status_code < BAD_REQUEST:
        state.damping.proved(attempt)
        if client is not None:
            with suppress(ExchangeError):  # of two at once the second may have been one too many
                response.headers.update(state.callers.count(client.id, client.organization_id))
    return response


async def read_form(request: Request) -> dict[str, str]:
    """The parameters of the body; those without a value count as left out (RFC 6749 section 3.2). Raises `InvalidRequestError`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise InvalidRequestError("The Content-Type must be application/x-www-form-urlencoded.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise InvalidRequestError("The body is longer than 64 KiB.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise InvalidRequestError("The body is not a form in UTF-8.") from error
    once = [name for name, _ in pairs if name != REPEATABLE]
    if len(set(once)) < len(once):
        raise InvalidRequestError("A parameter is there twice.")
    form = {name: value for name, value in pairs if value}
    if REPEATABLE in form:
        form[REPEATABLE] = " ".join(value for name, value in pairs if name == REPEATABLE)
    return form
