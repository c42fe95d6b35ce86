"""Who is calling now, and the access rule of an endpoint as a type in its signature.

def create(caller: Annotated[Principal, Allow("catalog:write")]) -> ...
def read(caller: Anybody) -> ...
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Request, Security, params
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlows
from fastapi.security import OAuth2

from gateway.errors import ExchangeError
from gateway.identity.client_keys import ALGORITHMS
from gateway.identity.person_facts import PersonFacts
from gateway.identity.possession import ANSWER_HEADERS, NotHeld, require_possession
from gateway.identity.scopes import SCOPES

if TYPE_CHECKING:
    from gateway.identity.directory import Directory


FRESH_S = 300
"""How long ago, in seconds, a person may have signed in for acts that ask for it."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A client, or a person by way of one, with an accepted token. `contracts` are those that the token's authorization details name
    (RFC 9396); `strong`: the client proved itself by private key when the token was issued, and by the key that it is bound to now.
    `key_thumbprint`: of the key that the
    token is bound to and that this request was proved with (RFC 9449), None for a bearer token. Never stored.

    `organization_id` is empty for a person who belongs to none.
    """

    client_id: str
    organization_id: str
    scopes: frozenset[str]
    roles: frozenset[str]
    contracts: frozenset[str]
    strong: bool
    expires_at: datetime
    token_id: str
    key_thumbprint: str | None = None
    person: PersonFacts | None = None

    @property
    def actor(self) -> str:
        """Who acts, for the audit log: the person (`per_...`), else the client."""
        return self.person.id if self.person else self.client_id


CALLER = "exchange.caller"
"""In a request's scope: who calls. Looked at once, because a proof of possession is good once and several parts of a request ask."""


# Shows in the OpenAPI document how a token is got; the header is read below.
ACCESS_TOKEN = OAuth2(
    flows=OAuthFlows(clientCredentials=OAuthFlowClientCredentials(tokenUrl="/oauth/token", scopes=SCOPES)),
    scheme_name="access_token",
    description=(
        "An access token of /oauth/token, as `Authorization: Bearer <token>`. A token that is bound to a key (RFC 9449) goes as "
        "`Authorization: DPoP <token>` with a proof in the header `DPoP`: a JWT with `typ: dpop+jwt` and the public `jwk` in its "
        "header, and the claims `jti`, `htm`, `htu`, `iat`, `ath` and `nonce`, whose value the header `DPoP-Nonce` of an answer gives."
    ),
    auto_error=False,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call: a dependency that answers with the principal if its token has every one of `scopes`, it holds one of `roles`, and

    `person`: it is a person, not a program; `fresh`: if it is a person, they signed in less than `FRESH_S` ago (RFC 9470).

    Raises `token_missing`, `token_invalid`, `token_expired`, `insufficient_user_authentication` (401), `scope_missing`, `role_missing`,
    `person_required` (403).
    """

    scopes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    person: bool = False
    fresh: bool = False

    async def __call__(self, request: Request, _header: Annotated[str | None, Security(ACCESS_TOKEN)]) -> Principal:
        caller = await authenticate(request)
        if caller is None:
            raise ExchangeError("token_missing", headers={"WWW-Authenticate": challenge(request)})
        self.require(request, caller)
        return caller

    def require(self, request: Request, caller: Principal) -> None:
        """Return if this caller may. Raises what the rule raises."""
        missing = [scope for scope in self.scopes if scope not in caller.scopes]
        if missing:
            header = challenge(request, error="insufficient_scope", scope=" ".join(self.scopes))
            raise ExchangeError("scope_missing", f"The token lacks {' '.join(missing)}.", headers={"WWW-Authenticate": header})
        if self.roles and not caller.roles.intersection(self.roles):
            header = challenge(request)
            raise ExchangeError("role_missing", f"This needs the role {' or '.join(self.roles)}.", headers={"WWW-Authenticate": header})
        if self.person and caller.person is None:
            raise ExchangeError("person_required", headers={"WWW-Authenticate": challenge(request)})
        if self.fresh:
            require_fresh(request, caller)


@dataclass(frozen=True, slots=True)
class OrAsker:
    """A rule for who holds its roles; who sends no token is nobody, and may call too, and so may a person without such a role."""

    rule: Rule

    async def __call__(self, request: Request, header: Annotated[str | None, Security(ACCESS_TOKEN)]) -> Principal | None:
        caller = await authenticate(request)
        if caller is None or (caller.person is not None and not caller.roles.intersection(self.rule.roles)):
            return caller
        return await self.rule(request, header)


def is_fresh(auth_time: int, acr: str | None, wanted: str) -> bool:
    """True if a person proved themselves less than `FRESH_S` ago, and in the `wanted` manner; any counts if that is empty."""
    return time.time() - auth_time <= FRESH_S and wanted in {"", acr}


def require_fresh(request: Request, caller: Principal) -> None:
    """Return for a program, and for a person who has just signed in.

    Raises `insufficient_user_authentication`, whose challenge says what would suffice (RFC 9470 section 3).
    """
    wanted: str = request.app.state.settings.oidc_acr
    if caller.person is None or is_fresh(caller.person.auth_time, caller.person.acr, wanted):
        return
    header = challenge(request, error="insufficient_user_authentication", acr_values=wanted or None, max_age=str(FRESH_S))
    raise ExchangeError("insufficient_user_authentication", headers={"WWW-Authenticate": header})


def Allow(  # noqa: N802 - it stands where a type stands, as `Depends` does
    *scopes: str, roles: Sequence[str] = (), person: bool = False, fresh: bool = False, anybody: bool = False
) -> Any:
    """`caller: Annotated[Principal, Allow("scope", roles=("auditor",))]`. Without scopes: any accepted token. See `Rule`.

    `anybody`: also nobody, who is None, and a person without such a role; a token that is sent must still be good.
    """
    rule = Rule(scopes, tuple(roles), person, fresh)
    security: params.Security = Security(OrAsker(rule) if anybody else rule, scopes=list(scopes))
    return security


async def _anybody(request: Request, _header: Annotated[str | None, Security(ACCESS_TOKEN)]) -> Principal | None:
    return await authenticate(request)


Anybody = Annotated[Principal | None, Security(_anybody)]
"""A call that needs no token. One that is sent must still be good."""


async def authenticate(request: Request) -> Principal | None:
    """The principal, or None if nothing was sent to prove one.

    Raises `token_invalid`, `token_expired`, `dpop_required`, `rate_limited`, and
    `database_unavailable` where a proof cannot be used up.
    """
    if CALLER not in request.scope:
        request.scope[CALLER] = caller = await _authenticate(request)
        if caller is not None:  # before anything is decided or read for them
            limits = request.app.state.callers.count(caller.actor, caller.organization_id)
            request.scope.setdefault(ANSWER_HEADERS, {}).update(limits)
    found: Principal | None = request.scope[CALLER]
    return found


async def _authenticate(request: Request) -> Principal | None:
    sent = request.headers.getlist("authorization")
    if not sent:
        return None
    directory: Directory = request.app.state.identity
    scheme, _, token = sent[0].partition(" ")
    try:
        if len(sent) > 1 or scheme.lower() not in {"bearer", "dpop"}:
            raise ExchangeError("token_invalid", "`Authorization` must be there once, as `Bearer <token>` or `DPoP <token>`.")
        caller = directory.authenticate(token.strip(" "))
        await require_possession(request, scheme.lower(), token.strip(" "), caller.key_thumbprint)
    except NotHeld as refused:
        refused.headers["WWW-Authenticate"] = challenge(request, error=refused.error, description=refused.detail, scheme="DPoP")
        raise
    except ExchangeError as refused:
        refused.headers["WWW-Authenticate"] = challenge(request, error="invalid_token", description=refused.detail)
        raise
    return caller


def challenge(
    request: Request, *, error: str | None = None, description: str | None = None, scheme: str | None = None, **more: str | None
) -> str:
    """The value of `WWW-Authenticate` (RFC 6750 section 3, RFC 9449 section 7.1), with where to learn the rest (RFC 9728 section 5.1).

    The error stands with the scheme that the request used, or with `scheme`; who did not use DPoP is told of both.
    """
    directory: Directory = request.app.state.identity
    used = scheme or ("DPoP" if request.headers.get("authorization", "").lower().startswith("dpop ") else "Bearer")
    algorithms = {"algs": " ".join(ALGORITHMS)}
    parts = {
        "error": error,
        "error_description": (description or "").replace("\\", "").replace('"', "'") or None,
        **more,
        "resource_metadata": f"{directory.issuer}/.well-known/oauth-protected-resource",
    }
    if used == "DPoP":
        return _challenge("DPoP", parts | algorithms)
    return f"{_challenge('Bearer', parts)}, {_challenge('DPoP', algorithms)}"


def _challenge(scheme: str, parts: Mapping[str, str | None]) -> str:
    return f"{scheme} " + ", ".join(f'{name}="{value}"' for name, value in parts.items() if value is not None)
