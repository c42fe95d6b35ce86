"""The console's pages. Each calls what the API's routes call; none has a rule of its own, and none is in the OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.console import officer, partner, public, resident, revisions

router = APIRouter(include_in_schema=False)
for pages in (public, resident, partner, officer, revisions):
    router.include_router(pages.router)
