"""The pages for anybody: the register, who shares what with whom, the log, and the choice of a language."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import select

from gateway.audit.note import Checkpoint, log_identity
from gateway.catalog import sample
from gateway.catalog.directory import Catalog, DatasetView
from gateway.catalog.models import Dataset
from gateway.console.flow import flow_of
from gateway.console.pages import pages_of, serve_file
from gateway.console.schema_words import fields_of
from gateway.console.sharing import count_in_force, in_force, name_of, shown
from gateway.console.words import COOKIE, LANGUAGES, Say, language_of
from gateway.contracts.directory import Contracts
from gateway.contracts.models import Contract
from gateway.contracts.visible import visible
from gateway.database import Reading, now
from gateway.errors import ExchangeError
from gateway.http import After, page
from gateway.identity.browser_sessions import Fields, here, require_same_site, set_cookie

router = APIRouter(include_in_schema=False)

A_PAGE = 50
SEE_OTHER = 303
A_YEAR_S = 31_536_000
REVALIDATED = {"Cache-Control": "private, no-cache"}
MOST_DRAWN = 5
"""Recipients in the picture of a dataset; the list below it has all."""


@router.get("/")
def show_register(request: Request, session: Reading, catalog: Catalog, after: After = None) -> HTMLResponse:
    """All datasets that anybody may know of."""
    public = select(Dataset).where(Dataset.classification != "sensitive")
    found = page(session, public, Dataset.slug, _summary(request), limit=A_PAGE, after=after, request=request, response=Response())
    counted = count_in_force(session, catalog)
    return pages_of(request).show(request, "register.html", headers=REVALIDATED, found=found, contracts=counted, after=after)


@router.get("/datasets/{slug}")
def show_dataset(
    slug: str, request: Request, session: Reading, catalog: Catalog, contracts: Contracts, after: After = None
) -> HTMLResponse:
    """One dataset: its fields in words, who receives it for what, on which ground."""
    dataset = visible(slug, None, catalog, contracts)
    row = session.get_one(Dataset, slug)
    found = page(session, in_force(catalog, now(), slug), Contract.id, _id, limit=A_PAGE, after=after, request=request, response=Response())
    sharing = shown(session, request.app.state, found["items"])
    say = Say(language_of(request))
    return pages_of(request).show(
        request,
        "dataset.html",
        headers=REVALIDATED,
        dataset=dataset,
        row=row,
        owner=name_of(request.app.state.identity, dataset.owner_id),
        fields=fields_of(dataset.schema, {*dataset.personal_pointers, dataset.subject_pointer or ""}, say),
        sample=_sample(dataset),
        sharing=sharing,
        following=found["next"],
        flow=flow_of([(each["consumer"], say.of(each["purpose"])) for each in sharing], MOST_DRAWN, count_in_force(session, catalog, slug)),
    )


@router.get("/sharing")
def show_sharing(request: Request, session: Reading, catalog: Catalog, after: After = None) -> HTMLResponse:
    """All contracts in force."""
    found = page(session, in_force(catalog, now()), Contract.id, _id, limit=A_PAGE, after=after, request=request, response=Response())
    return pages_of(request).show(
        request,
        "sharing.html",
        headers=REVALIDATED,
        sharing=shown(session, request.app.state, found["items"]),
        following=found["next"],
        contracts=count_in_force(session, catalog),
        after=after,
    )


@router.get("/log")
def show_log(request: Request) -> HTMLResponse:
    """The log's checkpoint, its key, and how to verify."""
    state = request.app.state
    note = state.tiles.checkpoint()
    newest = Checkpoint.parse(note) if note is not None else None
    _, key = log_identity(state.keys, state.settings)
    return pages_of(request).show(request, "log.html", headers=REVALIDATED, checkpoint=newest, key=key)


@router.post("/language")
def choose_language(request: Request, fields: Fields) -> RedirectResponse:
    """English or French, kept in a cookie; back to where one was."""
    require_same_site(request)
    language = fields.get("language", "")
    if language not in LANGUAGES:
        raise ExchangeError("bad_request", "There are English (en) and French (fr).")
    response = RedirectResponse(here(fields.get("next", "")), SEE_OTHER, {"Cache-Control": "no-store"})
    set_cookie(response, COOKIE, language, lives_s=A_YEAR_S)
    return response


@router.get("/static/{digest}/{name:path}")
async def static_file(digest: str, name: str) -> Response:
    """A file of the pages. Raises `not_found`."""
    return serve_file(digest, name)


def _id(row: Contract) -> str:
    return row.id


def _summary(request: Request) -> Any:
    people = request.app.state.identity

    def show(row: Dataset) -> dict[str, Any]:
        return {
            "slug": row.slug,
            "title": row.title,
            "description": row.description,
            "classification": row.classification,
            "owner": name_of(people, row.owner_id),
        }

    return show


def _sample(dataset: DatasetView) -> dict[str, Any] | None:
    """One synthetic event, made from the schema alone."""
    try:
        event: dict[str, Any] = sample.events(dataset.slug, "sample", dataset.schema, dataset.fits, count=1)[0]["data"]
    except ExchangeError:
        return None
    return event
