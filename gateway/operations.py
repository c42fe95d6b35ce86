"""For the operator: liveness, readiness, and the documentation of the API, served from the package."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from gateway.access.decision import PolicyUnavailable
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
    ready = parts["database"] == parts["audit"] == "ok"
    return JSONResponse({"ready": ready, "parts": parts}, 200 if ready else 503)


async def _state(ping: Callable[[], Awaitable[Any]]) -> str:
    try:
        async with asyncio.timeout(2):
            await ping()
    except (ExchangeError, LogUnavailable, PolicyUnavailable, TimeoutError):
        return "away"
    return "ok"


def serve_documentation(app: FastAPI) -> None:
    """`/docs` from files of the package: nothing is fetched from elsewhere."""
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
        )
