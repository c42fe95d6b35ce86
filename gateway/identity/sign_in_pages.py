"""The pages by which a person signs in and out in a browser: no script, no style, in English and French.

1. `/login?next=/path` sends the browser to the OpenID provider, or asks which way to sign in where there are several;
2. `/login/callback` makes a session of what the provider answers, and sends it on to the path;
3. `/session` says who one is; `/logout` ends the session at every replica.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from gateway.browser import PAGE
from gateway.errors import ExchangeError
from gateway.identity.browser_sessions import (
    COOKIE,
    HOME,
    TOKEN,
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
CHOICE = {"en": "Sign in", "fr": "Se connecter"}
OUT = {"en": "You are signed out", "fr": "Vous êtes déconnecté"}
FAILED = {"en": "You were not signed in", "fr": "Vous n'avez pas été connecté"}
AWAY = "The OpenID provider does not answer: try again in a moment."

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
        response: Response = RedirectResponse(web.address(begun), SEE_OTHER) if one_way else _choice(begun, ways, local=local)
    except ProviderAway:
        return _failed(AWAY, 503, begun)
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
            raise SignInRefused("That name and password are not of an account here.")
        return found

    return _finish(request, fields.get("state", ""), identify)


@router.get(HOME)
def show_session(request: Request, caller: SignedIn) -> HTMLResponse:
    """Who one is here."""
    organization = request.app.state.identity.organization(caller.organization_id)
    told = {
        ("Person", "Personne"): caller.actor,
        ("Organization", "Organisation"): organization.name if organization else "-",
        ("Roles", "Rôles"): ", ".join(sorted(caller.roles)),
    }
    rows = "".join(f'<dt>{en} · <span lang="fr">{fr}</span></dt><dd>{html.escape(value)}</dd>' for (en, fr), value in told.items())
    button = '<button>Sign out · <span lang="fr">Se déconnecter</span></button>'
    form = f'<form method="post" action="/logout">{_hidden(TOKEN, _browsers(request).form_token(caller))}{button}</form>'
    return _page({"en": "You are signed in", "fr": "Vous êtes connecté"}, f"<dl>{rows}</dl>{form}")


@router.post("/logout")
def log_out(request: Request, _caller: SignedIn) -> HTMLResponse:
    """When it has answered no replica takes the cookie any more. The sign-in at the provider is the provider's."""
    status = 200
    try:
        _browsers(request).end(request.cookies[COOKIE])
    except ExchangeError as pending:
        if pending.code != "barrier_pending":
            raise
        status = pending.status
    response = _page(OUT, _again(None), status)
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
            raise SignInRefused("The act asks for a stronger or more recent proof of who you are than was given.")
    except SignInRefused as refused:
        tries.take(address)
        return _failed(str(refused), 400, begun)
    except ProviderAway:
        return _failed(AWAY, 503, begun)
    except ExchangeError as error:
        return _failed(error.detail or str(error), error.status, begun)
    response = RedirectResponse(begun.following, SEE_OTHER, {"Cache-Control": "no-store"})
    set_cookie(response, COOKIE, signed_in.secret)
    set_cookie(response, BEGUN, "")
    return response


def _choice(begun: Begun, ways: list[str], *, local: bool) -> HTMLResponse:
    """One form for each provider, and one for a local account."""
    hidden = _hidden("next", begun.following) + (_hidden("fresh", "true") if begun.fresh else "")
    forms = [
        f'<form method="get" action="/login">{hidden}{_hidden("provider", issuer)}<button>{html.escape(issuer)}</button></form>'
        for issuer in ways
    ]
    if local:
        forms.append(
            f'<form method="post" action="/login">{_hidden("state", begun.state)}'
            '<p><label>Name · <span lang="fr">Nom</span> <input name="username" autocomplete="username" required></label></p>'
            '<p><label>Password · <span lang="fr">Mot de passe</span> '
            '<input name="password" type="password" autocomplete="current-password" required></label></p>'
            '<p><button>Sign in · <span lang="fr">Se connecter</span></button></p></form>'
        )
    return _page(CHOICE, "".join(forms))


def _failed(why: str, status: int, begun: Begun | None) -> HTMLResponse:
    return _page(FAILED, f"<p>{html.escape(why)}</p>{_again(begun)}", status)


def _again(begun: Begun | None) -> str:
    query = urlencode({"next": begun.following} | ({"fresh": "true"} if begun.fresh else {})) if begun else ""
    return f'<p><a href="/login?{html.escape(query)}">Sign in · <span lang="fr">Se connecter</span></a></p>'


def _page(title: dict[str, str], body: str, status: int = 200) -> HTMLResponse:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title["en"])}</title>'
    heading = f'<h1>{html.escape(title["en"])} · <span lang="fr">{html.escape(title["fr"])}</span></h1>'
    headers = {"Content-Security-Policy": PAGE, "Cache-Control": "no-store"}
    return HTMLResponse(f'{head}<meta name="viewport" content="width=device-width"><main>{heading}{body}</main></html>', status, headers)


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{html.escape(value)}">'


def _browsers(request: Request) -> BrowserSessions:
    found: BrowserSessions = request.app.state.browsers
    return found
