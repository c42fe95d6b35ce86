"""The pages by which a person signs in and out in a browser; `app.state.pages` shows them.

1. `/login?next=/path` sends the browser to the OpenID provider, or asks which way to sign in where there are several;
2. `/login/callback` makes a session of what the provider answers, and sends it on to the path;
3. `/session` says who one is; `/logout` ends the session at every replica.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from gateway.errors import ExchangeError
from gateway.identity.browser_sessions import (
    COOKIE,
    HOME,
    BrowserSessions,
    Fields,
    PageAllow,
    here,
    require_same_site,
    set_cookie,
)
from gateway.identity.principal import Principal
from gateway.identity.provider import Identity, ProviderAway
from gateway.identity.web_sign_in import COOKIE as BEGUN
from gateway.identity.web_sign_in import LIVES_S, Begun, SignInRefused

router = APIRouter(include_in_schema=False)

SEE_OTHER = 303
AWAY = {
    "en": "The OpenID provider does not answer: try again in a moment.",
    "fr": "Le fournisseur OpenID ne répond pas : réessayez dans un moment.",
}

SignedIn = Annotated[Principal, PageAllow()]


@router.get("/login")
def log_in(request: Request, *, following: Annotated[str, Query(alias="next")] = "", fresh: bool = False, provider: str = "") -> Response:
    """Begin, whether somebody has signed in here or not. `fresh`: as for an act that asks for it (RFC 9470)."""
    web, local = _browsers(request).web, _browsers(request).accounts is not None
    ways = [provider] if provider in web.providers else list(web.providers)
    if not ways and not local:
        raise ExchangeError("not_found", "Nobody signs in in the browser here: EXCHANGE_OIDC_WEB_CLIENT_ID names no client.")
    one_way = len(ways) == 1 and (provider in web.providers or not local)
    begun = web.begin(here(following), ways[0] if one_way else "", fresh=fresh)
    try:
        response = RedirectResponse(web.address(begun), SEE_OTHER) if one_way else _choice(request, begun, ways, local=local)
    except ProviderAway:
        return _failed(request, AWAY, 503, begun)
    set_cookie(response, BEGUN, web.seal(begun), lives_s=LIVES_S)
    response.headers["Cache-Control"] = "no-store"
    return response


@router.get("/login/callback")
def come_back(request: Request) -> Response:
    """From the provider. Whoever did not begin here is sent away, so that nobody is signed in as somebody else."""
    came = dict(request.query_params)

    def identify(begun: Begun) -> Identity:
        return _browsers(request).web.finish(begun, came)

    return _finish(request, came.get("state", ""), identify)


@router.post("/login")
def by_password(request: Request, fields: Fields) -> Response:
    """With a local account, where there are any."""
    require_same_site(request)
    accounts = _browsers(request).accounts
    if accounts is None:
        raise ExchangeError("not_found")

    def identify(_begun: Begun) -> Identity:
        found = accounts.identify(fields.get("username", ""), fields.get("password", ""))
        if found is None:
            raise SignInRefused(
                "That name and password are not of an account here.", "Ce nom et ce mot de passe ne sont pas ceux d'un compte d'ici."
            )
        return found

    return _finish(request, fields.get("state", ""), identify)


@router.get(HOME)
def show_session(request: Request, caller: SignedIn) -> Response:
    """Who one is here."""
    organization = request.app.state.identity.organization(caller.organization_id)
    return _shown(
        request,
        "session.html",
        person=caller.actor,
        organization=organization.name if organization else None,
        roles=sorted(caller.roles),
        form_token=_browsers(request).form_token(caller),
    )


@router.post("/logout")
def log_out(request: Request, _caller: SignedIn) -> Response:
    """When it has answered no replica takes the cookie any more. The sign-in at the provider is the provider's."""
    status = 200
    try:
        _browsers(request).end(request.cookies[COOKIE])
    except ExchangeError as pending:
        if pending.code != "barrier_pending":
            raise
        status = pending.status
    response = _shown(request, "signed_out.html", status, again=_again(None))
    set_cookie(response, COOKIE, "")
    return response


def _finish(request: Request, state: str, identify: Callable[[Begun], Identity]) -> Response:
    web, tries = _browsers(request).web, request.app.state.sessions_limit
    address = request.client.host if request.client else "unknown"
    tries.require(address)
    begun = None
    try:
        begun = web.open(request.cookies.get(BEGUN, ""), state)
        signed_in = _browsers(request).begin(identify(begun), request.cookies.get(COOKIE, ""), fresh=begun.fresh)
        if signed_in is None:
            raise SignInRefused(
                "The act asks for a stronger or more recent proof of who you are than was given.",
                "L'acte demande une preuve de votre identité plus forte ou plus récente que celle qui a été donnée.",
            )
    except SignInRefused as refused:
        tries.take(address)
        return _failed(request, refused.words, 400, begun)
    except ProviderAway:
        return _failed(request, AWAY, 503, begun)
    except ExchangeError as error:
        told = error.detail or str(error)
        return _failed(request, {"en": told, "fr": told}, error.status, begun)
    response = RedirectResponse(begun.following, SEE_OTHER, {"Cache-Control": "no-store"})
    set_cookie(response, COOKIE, signed_in.secret)
    set_cookie(response, BEGUN, "")
    return response


def _choice(request: Request, begun: Begun, ways: list[str], *, local: bool) -> Response:
    """A link for each provider (a browser that obeys `form-action` lets no form lead there), and a form for a local account."""
    links = [(issuer, _again(begun, provider=issuer)) for issuer in ways]
    return _shown(request, "login.html", links=links, local=local, state=begun.state)


def _failed(request: Request, why: Mapping[str, str], status: int, begun: Begun | None) -> Response:
    return _shown(request, "not_signed_in.html", status, why=why, again=_again(begun))


def _again(begun: Begun | None, **more: str) -> str:
    """Where signing in begins anew, for the page that was asked for."""
    query = {"next": begun.following} | ({"fresh": "true"} if begun.fresh else {}) if begun else {}
    return f"/login?{urlencode(query | more)}"


def _shown(request: Request, template: str, status: int = 200, **facts: Any) -> Response:
    """A page of the console's."""
    page: Response = request.app.state.pages.show(request, template, status, back=HOME, **facts)
    return page


def _browsers(request: Request) -> BrowserSessions:
    found: BrowserSessions = request.app.state.browsers
    return found
