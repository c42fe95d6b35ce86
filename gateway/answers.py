"""How errors leave: every exception becomes an RFC 9457 problem, and every code has a page that explains it."""

from __future__ import annotations

import html
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway.catalog.schemas import pointer_of
from gateway.errors import ExchangeError, Invalid, catalogue
from gateway.identity.browser_sessions import SignInNeeded
from gateway.identity.principal import challenge
from gateway.streams.log import LogUnavailable, TopicGone

log = structlog.get_logger(__name__)
router = APIRouter()

MEDIA_TYPE = "application/problem+json"
BY_STATUS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    415: "unsupported_media_type",
    503: "overloaded",
}
CHALLENGED = frozenset({401, 403})


def answer_errors(app: FastAPI) -> None:
    """Register the handlers."""
    app.add_exception_handler(ExchangeError, _exchange_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(LogUnavailable, _log_unavailable)
    app.add_exception_handler(TopicGone, _log_unavailable)
    app.add_exception_handler(SignInNeeded, sign_in_first)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


def answer(request: Request, error: ExchangeError) -> Response:
    """The problem document of this error; for a browser that asks for a page, a page."""
    headers = dict(error.headers)
    if error.status in CHALLENGED and "WWW-Authenticate" not in headers:
        headers["WWW-Authenticate"] = challenge(request)
    if _wants_a_page(request):
        page: Response = request.app.state.pages.problem(request, error, headers)
        return page
    body = error.problem(request.app.state.settings.issuer, request.url.path)
    return JSONResponse(body, error.status, headers=headers, media_type=MEDIA_TYPE)


def _wants_a_page(request: Request) -> bool:
    """True for browsers, which name `text/html` before all else; programs never do by default."""
    return request.headers.get("accept", "").lower().startswith("text/html") and hasattr(request.app.state, "pages")


async def _exchange_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ExchangeError)
    return answer(request, error)


async def sign_in_first(request: Request, error: Exception) -> Response:
    """A page is for somebody: the browser goes to sign them in, and comes back.

    After a form it is a link instead: a browser that obeys `form-action` lets no form lead to the provider, and nothing was done.
    """
    assert isinstance(error, SignInNeeded)
    if request.method != "GET" and hasattr(request.app.state, "pages"):
        page: Response = request.app.state.pages.sign_in(request, error.location)
        return page
    return RedirectResponse(error.location, 303, {"Cache-Control": "no-store"})


async def _log_unavailable(request: Request, _error: Exception) -> Response:
    return answer(request, ExchangeError("log_unavailable", headers={"Retry-After": "2"}))


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer(request, Invalid([_place(found) for found in error.errors()[:20]]))


def _place(found: Any) -> dict[str, str]:
    where, *path = found["loc"]
    if found["type"] == "json_invalid":
        return {"pointer": "", "detail": "is not JSON"}
    told = str(found["msg"]).removeprefix("Value error, ")
    if where == "body":
        return {"pointer": pointer_of(path), "detail": told}
    return {"pointer": f"?{path[0]}" if where == "query" and path else f"{where}: {'.'.join(map(str, path))}", "detail": told}


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and error.__cause__ is not None:  # FastAPI, of a body that Python's parser did not survive
        return answer(request, Invalid([{"pointer": "", "detail": "is not JSON in UTF-8, or nested too deep"}]))
    code = BY_STATUS.get(error.status_code, "bad_request" if error.status_code < 500 else "internal_error")
    return answer(request, ExchangeError(code, headers=error.headers))


async def _gone(request: Request, _error: Exception) -> Response:
    """Whoever sent half a body and went: nobody reads this, and nothing is wrong here."""
    return answer(request, ExchangeError("bad_request"))


async def _unexpected(request: Request, error: Exception) -> Response:
    """A bug. The log has the traceback; the answer says where to look, and nothing of what went wrong."""
    log.error("internal_error", request=request.scope.get("exchange.request_id"), exc_info=error)
    return answer(request, ExchangeError("internal_error"))


@router.get("/problems/{code}", include_in_schema=False)
async def explain(code: str) -> HTMLResponse:
    """What a problem code means and what to do next, in English and French."""
    entry = catalogue().get(code)
    if entry is None:
        raise ExchangeError("not_found")
    parts = [f"<section lang={language}>{_section(entry, language)}</section>" for language in ("en", "fr")]
    title = html.escape(entry["title"]["en"])
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    page = f"{head}<h1><code>{html.escape(code)}</code> ({entry['status']})</h1>{''.join(parts)}</html>"
    return HTMLResponse(page, headers={"Cache-Control": "public, max-age=3600"})


def _section(entry: Any, language: str) -> str:
    return "".join(
        f"<{tag}>{html.escape(entry[part][language])}</{tag}>" for tag, part in (("h2", "title"), ("p", "explanation"), ("p", "hint"))
    )
