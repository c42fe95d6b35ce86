"""How a page is made: a template, words in the reader's language, and headers that let nothing but our own files run.

Every page works without script. `static/` is served by name and digest, so that browsers keep it for good.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.browser import PAGE
from gateway.console.words import LANGUAGES, Say, language_of
from gateway.errors import ExchangeError, catalogue

HERE = Path(__file__).resolve().parent
FILES: Mapping[str, str] = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "mark.svg": "image/svg+xml",
    "vendor/pico.min.css": "text/css",
    "vendor/htmx.min.js": "text/javascript",
}
FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}
NO_STORE = {"Cache-Control": "no-store"}


@functools.cache
def file_of(name: str) -> tuple[bytes, str]:
    """A file of the pages and the first signs of its digest. Raises `KeyError` for what is none."""
    if name not in FILES:
        raise KeyError(name)
    content = (HERE / "static" / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:16]


def address_of(name: str) -> str:
    """Where a file is served: another content is another address."""
    return f"/static/{file_of(name)[1]}/{name}"


def serve_file(digest: str, name: str) -> Response:
    """Raises `not_found`."""
    if name not in FILES or file_of(name)[1] != digest:
        raise ExchangeError("not_found")
    return Response(file_of(name)[0], media_type=FILES[name], headers=FOR_GOOD)


class Pages:
    """The templates, compiled once."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._templates.globals |= {"file": address_of, "issuer": issuer, "languages": LANGUAGES}

    def show(
        self,
        request: Request,
        template: str,
        status: int = 200,
        *,
        headers: Mapping[str, str] = NO_STORE,
        back: str | None = None,
        **facts: Any,
    ) -> HTMLResponse:
        """The page of this template, in the reader's language. `facts` are what the template shows.

        `back`: where one comes to who chooses a language; this page, if it can be asked for again.
        """
        say = Say(language_of(request))
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        here = back or (asked if request.method in {"GET", "HEAD"} else "/")
        told = {"say": say, "here": here, "path": here.partition("?")[0]}
        body = self._templates.get_template(template).render(told | facts)
        varies = {
            "Content-Security-Policy": PAGE,
            "Content-Language": say.language,
            "Vary": "Accept, Accept-Language, Cookie, HX-Request",
        }
        return HTMLResponse(body, status, headers={**varies, **headers})

    def problem(self, request: Request, error: ExchangeError, headers: Mapping[str, str]) -> Response:
        """The page of an error: what it is and what to do next."""
        told = told_of(error, request) | _for_people(error, Say(language_of(request)))
        return self.show(request, "problem.html", error.status, headers={**headers, **NO_STORE}, problem=told)

    def sign_in(self, request: Request, location: str) -> Response:
        """For who sent a form and is signed in no longer, or too long ago for what it asks."""
        return self.show(request, "sign_in.html", 403, location=location)


def _for_people(error: ExchangeError, say: Say) -> dict[str, Any]:
    """What the catalogue says to programs, of tokens and scopes, in words for who opened a page."""
    if error.code == "not_found":
        return {"hint": say("problem.hint.not_found")}
    if error.code in {"role_missing", "scope_missing"}:
        told = {"title": say("problem.not_for_you"), "explanation": say("problem.not_for_you_more"), "detail": ""}
        return told | {"hint": say("problem.hint.role_missing")}
    return {}


def told_of(error: ExchangeError, request: Request) -> dict[str, Any]:
    """{code, title, explanation, hint, detail, reasons, errors} of a problem, in the reader's language as far as there are words."""
    say = Say(language_of(request))
    entry = catalogue()[error.code]
    return {
        "code": error.code,
        **{part: say.of(entry[part]) for part in ("title", "explanation", "hint")},
        "detail": error.detail,
        "reasons": [say.of(reason["title"]) for reason in error.members.get("reasons", ())],
        "errors": error.members.get("errors", ()),
        "request_id": request.scope.get("exchange.request_id", ""),
    }


def pages_of(request: Request) -> Pages:
    """The pages of this application."""
    found: Pages = request.app.state.pages
    return found
