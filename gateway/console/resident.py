"""The resident's pages: with the provider's one-time code all that is known of them, with a receipt's code the one button.

Codes come by POST and stand in no address. The session's token is in a cookie that lives as long as the session, fifteen minutes.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from gateway.catalog.directory import Catalog
from gateway.consents import api as consents_api
from gateway.consents.documents import CodeDocument
from gateway.console.forms import document
from gateway.console.own_data import consents_shown, days_of, disclosures_shown, provider_of, stopped
from gateway.console.pages import pages_of, told_of
from gateway.database import Database, Reading
from gateway.errors import ExchangeError
from gateway.http import After
from gateway.identity.browser_sessions import Fields, require_same_site
from gateway.keys import Keys, SecretKey
from gateway.subjects import api as subjects_api
from gateway.subjects.codes import SESSION_LIVES, Person, close_session, person_of
from gateway.subjects.documents import Redeemed
from gateway.subjects.withdraw import withdraw

router = APIRouter(include_in_schema=False)

COOKIE = "__Host-exchange-resident"
A_PAGE = 50
SEE_OTHER = 303


@router.get("/resident")
def show_resident(request: Request, session: Reading, after: After = None) -> HTMLResponse:
    """What is known of the person whose code opened a session in this browser; else where the code is entered."""
    person = _person(request, session)
    if person is None:
        return _ask_for_code(request, None, 200)
    return _show(request, session, person, after=after)


@router.post("/resident")
def enter_code(request: Request, fields: Fields, catalog: Catalog) -> Response:
    """Uses up the code, as POST /v1/subjects/sessions does."""
    require_same_site(request)
    state = request.app.state
    try:
        state.sessions_limit.count(request.client.host if request.client else "unknown")
        code = document(Redeemed, code=fields.get("code", "").strip())
        with state.database.transaction() as session:
            opened = subjects_api.make_session(code, session, catalog, request)
    except ExchangeError as error:
        return _ask_for_code(request, error, error.status)
    response = RedirectResponse("/resident", SEE_OTHER, {"Cache-Control": "no-store"})
    _keep(response, opened["token"], SESSION_LIVES)
    return response


@router.post("/resident/stop")
def stop_sharing(request: Request, fields: Fields) -> HTMLResponse:
    """Withdraws the consent that the form names, or every one that stands; says what has happened."""
    require_same_site(request)
    state = request.app.state
    database: Database = state.database
    answers: list[dict[str, Any]] = []
    problem = None
    with database.reading() as session:
        person = _person(request, session)
        if person is None:
            return _ask_for_code(request, ExchangeError("token_expired", hint="Ask the provider for a new code."), 401)
        named = fields.get("consent")
        ids = [named] if named else [consent["id"] for consent in consents_shown(session, state, person) if consent["live"]]
    try:
        answers = [stopped(state, partial(withdraw, state, person, each)) for each in ids]
    except ExchangeError as error:
        problem = error
    with database.reading() as session:
        return _show(request, session, person, answers=answers, problem=problem)


@router.post("/resident/leave")
def leave(request: Request) -> RedirectResponse:
    """Ends the session, for who shares the browser with others."""
    require_same_site(request)
    token = request.cookies.get(COOKIE)
    if token:
        with request.app.state.database.transaction() as session:
            close_session(session, _key(request), token)
    response = RedirectResponse("/resident", SEE_OTHER, {"Cache-Control": "no-store"})
    _keep(response, "", timedelta(0))
    return response


@router.get("/resident/export.json")
def export(request: Request, session: Reading) -> Response:
    """All of it as a document, as GET /v1/subjects/self/export gives it. Raises `token_missing`."""
    person = _person(request, session)
    if person is None:
        raise ExchangeError("token_missing", "The fifteen minutes are over, or no code was entered here.")
    response = Response(headers={"Cache-Control": "no-store"})
    body = subjects_api.my_export(person, session, response)
    return JSONResponse(jsonable_encoder(body), headers=dict(response.headers) | {"Cache-Control": "no-store"})


@router.get("/withdraw")
def ask_to_withdraw(request: Request) -> HTMLResponse:
    """The one button, for who holds the withdrawal code of a receipt."""
    return pages_of(request).show(request, "withdraw.html", answer=None, problem=None)


@router.post("/withdraw")
def withdraw_by_code(request: Request, fields: Fields) -> HTMLResponse:
    """As POST /v1/consents/withdraw does, and says in words what has happened."""
    require_same_site(request)
    answer = problem = None
    try:
        code = document(CodeDocument, code=fields.get("code", "").strip())
        answer = stopped(request.app.state, partial(consents_api.withdraw_by_code, code, request, Response()))
    except ExchangeError as error:
        problem = error
    told = told_of(problem, request) if problem else None
    return pages_of(request).show(
        request, "withdraw.html", problem.status if problem else 200, back="/withdraw", answer=answer, problem=told
    )


def _show(
    request: Request,
    session: Reading,
    person: Person,
    *,
    after: str | None = None,
    answers: list[dict[str, Any]] | None = None,
    problem: ExchangeError | None = None,
) -> HTMLResponse:
    state = request.app.state
    consents = consents_shown(session, state, person)
    disclosures, following = disclosures_shown(session, state, person, subjects_api.place_of(after), A_PAGE)
    return pages_of(request).show(
        request,
        "resident.html",
        problem.status if problem else 200,
        provider=provider_of(state, person),
        consents=consents,
        live=sum(consent["live"] for consent in consents),
        disclosures=disclosures,
        following=following,
        after=after,
        chart=days_of(session, person),
        answers=answers or [],
        back="/resident",
        problem=told_of(problem, request) if problem else None,
    )


def _ask_for_code(request: Request, problem: ExchangeError | None, status: int) -> HTMLResponse:
    return pages_of(request).show(
        request, "resident_code.html", status, back="/resident", problem=told_of(problem, request) if problem else None
    )


def _person(request: Request, session: Reading) -> Person | None:
    """Whose session the cookie is; None if it is over."""
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    try:
        return person_of(session, _key(request), token)
    except ExchangeError:
        return None


def _key(request: Request) -> SecretKey:
    keys: Keys = request.app.state.keys
    return keys.secret("client_secret")


def _keep(response: Response, token: str, lives: timedelta) -> None:
    """Strict: no page of others opens ours with it."""
    response.set_cookie(COOKIE, token, max_age=int(lives.total_seconds()), path="/", secure=True, httponly=True, samesite="strict")
