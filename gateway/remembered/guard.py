"""While the database has gone back, nothing is answered from it; before that is known, nothing is delivered."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.answers import answer
from gateway.errors import ExchangeError
from gateway.remembered.standing import Standing

ALWAYS = frozenset({"/livez", "/readyz", "/openapi.json"})
OPEN = ("/docs", "/problems/", "/static/")


class Guard:
    """A layer of the application. `standing` tells that of the database."""

    def __init__(self, app: ASGIApp, standing: Callable[[], Standing]) -> None:
        self._app = app
        self._standing = standing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        standing = self._standing()
        if standing is not Standing.WHOLE and scope["type"] == "http" and (code := _refused(standing, scope)):
            error = ExchangeError(code, headers={"Retry-After": "2"})
            await answer(Request(scope), error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _refused(standing: Standing, scope: Scope) -> str | None:
    path: str = scope["path"]
    if path in ALWAYS or path.startswith(OPEN):
        return None
    if standing is Standing.WENT_BACK:
        return "database_went_back"
    return "log_unavailable" if scope["method"] != "POST" and path.endswith("/events") else None
