"""The officer's pages about revisions: what one would change for whom, who agrees, and the files of it for who writes Rego."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from gateway.access import policies_api
from gateway.access.desk import Desk
from gateway.access.documents import Approval, NewPreview
from gateway.access.draft import locked, remove_file, write_file
from gateway.access.models import PolicyPreview, PolicyRevision
from gateway.access.preview import read_preview
from gateway.access.propose import refusal, vet_revision
from gateway.access.revisions import active
from gateway.access.states import legal
from gateway.console.comparison import differences
from gateway.console.forms import document, number_of
from gateway.console.officer import NO_STORE, SEE_OTHER, Reader, may_write
from gateway.console.pages import pages_of, told_of
from gateway.console.previews import preview_told
from gateway.console.words import Say, language_of
from gateway.database import Database, Reading
from gateway.errors import ExchangeError
from gateway.http import etag, require_match
from gateway.identity.browser_sessions import Fields, PageAllow
from gateway.identity.people_models import Person
from gateway.identity.principal import Principal, is_fresh

router = APIRouter(include_in_schema=False)

BACK = "/officer/revisions/{revision_id}"
Writer = Annotated[Principal, PageAllow("policies:write", roles=("privacy_officer",), back=BACK)]
Agreeing = Annotated[Principal, PageAllow("policies:approve", roles=("privacy_officer",), fresh=True, back=BACK)]
Id = Annotated[str, Path(pattern=r"^pol_[0-9a-z]{26}$")]
Number = Annotated[int, Path(ge=1, le=1_000_000)]
Place = Annotated[int, Query(ge=0, le=1_000_000)]
FilePath = Annotated[str, Path(max_length=400)]
DAYS = 30
EXCERPT = 2


@router.get("/officer/revisions/{revision_id}")
def show_revision(revision_id: Id, request: Request, caller: Reader, session: Reading, after: Place = 0) -> HTMLResponse:
    """What it changes, its preview before and after (the contracts from the place `after` on), who agreed, its files."""
    return _show(request, session, revision_id, caller, after=after)


@router.post("/officer/revisions/{revision_id}/propose")
def propose(revision_id: Id, request: Request, caller: Writer) -> Response:
    return _do(request, revision_id, caller, lambda: policies_api.propose_revision(revision_id, caller, _desk(request), Response()))


@router.post("/officer/revisions/{revision_id}/previews")
def preview(revision_id: Id, request: Request, caller: Writer, fields: Fields) -> Response:
    def begin() -> None:
        wanted = document(NewPreview, days=number_of(fields.get("days", "")) or DAYS)
        policies_api.create_preview(revision_id, wanted, caller, request, Response())

    return _do(request, revision_id, caller, begin, "#preview")


@router.get("/officer/revisions/{revision_id}/previews/{number}")
def show_progress(revision_id: Id, number: Number, request: Request, caller: Reader, session: Reading) -> Response:
    """What the page of a revision asks every second while a preview runs: how far it is, or that all of it be loaded anew."""
    found = policies_api.get_preview(revision_id, number, caller, session)
    if found.state != "running":
        return Response(headers={"HX-Refresh": "true", **NO_STORE})
    return pages_of(request).show(request, "preview_running.html", revision_id=revision_id, preview=found)


@router.post("/officer/revisions/{revision_id}/approve")
def approve(revision_id: Id, request: Request, caller: Agreeing, fields: Fields) -> Response:
    def agree() -> None:
        wanted = document(Approval, preview=number_of(fields.get("preview", "")))
        database: Database = request.app.state.database
        with database.transaction() as session:
            policies_api.approve_revision(revision_id, wanted, caller, _desk(request), session, Response())

    return _do(request, revision_id, caller, agree)


@router.post("/officer/revisions/{revision_id}/activate")
def activate(revision_id: Id, request: Request, caller: Agreeing) -> Response:
    """When the page is there, it is in force everywhere, or nowhere and says why."""
    return _do(request, revision_id, caller, lambda: policies_api.activate_revision(revision_id, caller, _desk(request), Response()))


@router.post("/officer/revisions/{revision_id}/retire")
def put_away(revision_id: Id, request: Request, caller: Writer) -> Response:
    def retire() -> None:
        database: Database = request.app.state.database
        with database.transaction() as session:
            policies_api.retire_revision(revision_id, caller, session, Response())

    return _do(request, revision_id, caller, retire)


@router.get("/officer/revisions/{revision_id}/files/{path:path}")
def show_file(revision_id: Id, path: FilePath, request: Request, caller: Reader, session: Reading) -> HTMLResponse:
    """A file, to be edited while the revision is a draft."""
    return _editor(request, _found(session, revision_id), path, caller)


@router.post("/officer/revisions/{revision_id}/files/{path:path}")
def write(revision_id: Id, path: FilePath, request: Request, caller: Writer, fields: Fields) -> Response:
    """Saves, removes, or saves and puts the whole revision to what it is put to when it is proposed."""
    database: Database = request.app.state.database
    text = fields.get("text", "").replace("\r\n", "\n")
    problem: ExchangeError | None = None
    try:
        with database.transaction() as session:
            revision = locked(session, revision_id, "edit")
            require_match(etag(number_of(fields.get("version", "")) or 0), revision.version)
            if fields.get("do") == "remove":
                remove_file(session, revision, path, caller)
                return RedirectResponse(BACK.format(revision_id=revision_id), SEE_OTHER, NO_STORE)
            write_file(session, revision, path, text, caller)
        if findings := vet_revision(_desk(request), revision).findings if fields.get("do") == "check" else ():
            problem = refusal(findings)
    except ExchangeError as error:
        problem = error
    with database.reading() as session:
        done = "checked" if fields.get("do") == "check" else "saved"
        return _editor(request, _found(session, revision_id), path, caller, text=text, problem=problem, done=done)


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _do(request: Request, revision_id: str, caller: Principal, act: Callable[[], object], place: str = "") -> Response:
    """Carry out an act and come back to the revision's page; a refusal is told there."""
    try:
        act()
    except ExchangeError as error:
        database: Database = request.app.state.database
        with database.reading() as session:
            return _show(request, session, revision_id, caller, problem=error)
    return RedirectResponse(f"{BACK.format(revision_id=revision_id)}{place}", SEE_OTHER, NO_STORE)


def _found(session: Session, revision_id: str) -> PolicyRevision:
    found = session.get(PolicyRevision, revision_id)
    if found is None:
        raise ExchangeError("not_found")
    return found


def _show(
    request: Request, session: Session, revision_id: str, caller: Principal, problem: ExchangeError | None = None, after: int = 0
) -> HTMLResponse:
    state = request.app.state
    say = Say(language_of(request))
    revision = _found(session, revision_id)
    in_force = active(session)
    origin = session.get(PolicyRevision, revision.based_on) if revision.based_on else None
    # What is still to come is held against what is in force; what was, against what it was made from.
    against = in_force if revision.state in {"draft", "proposed", "approved"} else origin
    last = session.scalar(select(func.max(PolicyPreview.number)).where(PolicyPreview.revision_id == revision_id))
    newest = read_preview(session, revision_id, last) if last else None
    assert caller.person is not None
    return pages_of(request).show(
        request,
        "revision.html",
        problem.status if problem else 200,
        back=BACK.format(revision_id=revision_id),
        revision=revision,
        moves=legal(revision) if may_write(caller) else (),
        people={name: _person(session, getattr(revision, name)) for name in ("created_by", "proposed_by", "approved_by", "activated_by")},
        mine=caller.actor == revision.proposed_by,
        fresh=is_fresh(caller.person.auth_time, caller.person.acr, state.settings.oidc_acr),
        differences=differences(against.files, revision.files) if against else [],
        compared=against.id if against else None,
        preview=newest,
        result=preview_told(newest.result, state, say, after) if newest and newest.result else None,
        holds=newest is not None and newest.digest == revision.digest and in_force is not None and newest.against == in_force.id,
        files=sorted(revision.files),
        days=DAYS,
        after=str(after) if after else None,
        may_write=may_write(caller),
        form_token=state.browsers.form_token(caller),
        problem=told_of(problem, request) if problem else None,
    )


def _person(session: Session, person_id: str | None) -> str | None:
    """The person's name, as the city's provider told it; else the identifier of whoever it was."""
    person = session.get(Person, person_id) if person_id else None
    return person.name if person is not None and person.name else person_id


def _editor(
    request: Request,
    revision: PolicyRevision,
    path: str,
    caller: Principal,
    *,
    text: str | None = None,
    problem: ExchangeError | None = None,
    done: str | None = None,
) -> HTMLResponse:
    shown = revision.files.get(path, "") if text is None else text
    errors: list[Mapping[str, Any]] = list(problem.members.get("errors", ())) if problem else []
    if not may_write(caller) and path not in revision.files:
        raise ExchangeError("not_found")
    return pages_of(request).show(
        request,
        "rego.html",
        problem.status if problem else 200,
        back=f"/officer/revisions/{revision.id}/files/{path}",
        revision=revision,
        path_of_file=path,
        text=shown,
        editable=may_write(caller) and revision.state == "draft",
        here_wrong=[dict(each) | {"excerpt": _excerpt(shown, each["line"])} for each in errors if each.get("file") == path],
        elsewhere_wrong=[each for each in errors if each.get("file") not in {None, path}],
        problem=told_of(problem, request) if problem and not any("file" in each for each in errors) else None,
        done=done if not problem else None,
        form_token=request.app.state.browsers.form_token(caller),
    )


def _excerpt(text: str, line: int) -> list[tuple[int, str]]:
    """The line and those around it, each with its number."""
    lines = text.splitlines()
    first = max(1, line - EXCERPT)
    return [(number, lines[number - 1]) for number in range(first, min(len(lines), line + EXCERPT) + 1)]
