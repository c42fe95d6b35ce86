"""For the operator: liveness, readiness, and the documentation of the API, served from the package."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from gateway.access.decision import PolicyUnavailable
from gateway.browser import DOCUMENTATION, security_txt
from gateway.errors import ExchangeError
from gateway.streams.log import LogUnavailable

router = APIRouter(tags=["operations"])


@router.get("/livez", summary="Does the process answer", responses={200: {"content": {"application/json": {"example": {"live": True}}}}})
async def livez() -> dict[str, bool]:
    return {"live": True}


@router.get(
    "/readyz",
    summary="Is it ready to be asked",
    responses={
        200: {
            "content": {
                "application/json": {"example": {"ready": True, "parts": {"database": "ok", "audit": "ok", "policy": "ok", "log": "ok"}}}
            }
        }
    },
)
async def readyz(request: Request) -> JSONResponse:
    """Ready if database and audit are; the log and the policy engine are listed, and answer for themselves where they are needed.

    After a change of policy it is ready once its engine has it: `left_behind` means that others went on without this replica.
    A database that `went_back` lacks what was forbidden: it is refused until `exchange restore` has applied that again.
    """
    state = request.app.state
    parts = {
        "database": await _state(lambda: anyio.to_thread.run_sync(state.database.ping)),
        "policy": await _state(lambda: anyio.to_thread.run_sync(state.access.engine.ping)),
        "log": await _state(state.log.ping),
    }
    parts["audit"] = "ok" if state.audit.alive else "away"
    if state.follower.standing.value == "went_back":
        parts["database"] = "went_back"
    if state.activation.left_behind:
        parts["policy"] = "left_behind"
    ready = parts["database"] == parts["audit"] == "ok" and not state.activation.left_behind
    return JSONResponse({"ready": ready, "parts": parts}, 200 if ready else 503)


async def _state(ping: Callable[[], Awaitable[Any]]) -> str:
    try:
        async with asyncio.timeout(2):
            await ping()
    except (ExchangeError, LogUnavailable, PolicyUnavailable, TimeoutError):
        return "away"
    return "ok"


@router.get("/.well-known/security.txt", include_in_schema=False)
async def security_contact(request: Request) -> Response:
    """Whom to tell of a weakness (RFC 9116)."""
    text = security_txt(request.app.state.settings)
    if text is None:
        raise ExchangeError("not_found")
    return PlainTextResponse(text, headers={"Cache-Control": "public, max-age=86400"})


def serve_documentation(app: FastAPI) -> None:
    """`/docs` from files of the package: nothing is fetched from elsewhere."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(PAGE.format(title=html.escape(app.title)), headers={"Content-Security-Policy": DOCUMENTATION})

    @app.get("/docs/assets/start.js", include_in_schema=False)
    async def start() -> Response:
        """In a file of its own, so that the page has no inline script."""
        return Response(START, media_type="text/javascript", headers={"Cache-Control": "public, max-age=3600"})

    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-assets")


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" href="/docs/assets/favicon.png">
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</html>
"""
START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
