"""Policy over HTTP: revisions, their files and previews, and who agrees on what."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Request, Response
from sqlalchemy import select

from gateway.access import examples
from gateway.access.activate import activate
from gateway.access.affected import affected_by
from gateway.access.approve import approve
from gateway.access.archive import archive_of
from gateway.access.bundle import MEDIA_TYPE
from gateway.access.desk import Desk, desk_of
from gateway.access.documents import (
    Approval,
    NewPreview,
    NewRevision,
    PreviewDocument,
    RevisionDocument,
    RevisionPage,
    TodoPage,
    shown,
    shown_preview,
)
from gateway.access.draft import PATH, begin_draft, locked, remove_file, retire, write_file
from gateway.access.models import PolicyRevision
from gateway.access.preview import Previews, read_preview
from gateway.access.propose import propose
from gateway.access.revisions import active
from gateway.access.states import State, legal
from gateway.access.todos import todos
from gateway.database import Reading, Transaction
from gateway.errors import ExchangeError, Invalid
from gateway.http import After, IfMatch, Limit, etag, page, require_match
from gateway.idempotency import IdempotentRoute
from gateway.identity.principal import Allow, Principal

router = APIRouter(prefix="/v1/policies", tags=["access"], route_class=IdempotentRoute)

OVERSEERS = ("privacy_officer", "auditor", "operator")
Reader = Annotated[Principal, Allow("policies:read", roles=OVERSEERS)]
Writer = Annotated[Principal, Allow("policies:write", roles=("privacy_officer",))]
Proposer = Annotated[Principal, Allow("policies:write", roles=("privacy_officer",), person=True)]
Agreeing = Annotated[Principal, Allow("policies:approve", roles=("privacy_officer",), person=True, fresh=True)]
OfDesk = Annotated[Desk, Depends(desk_of)]
Id = Annotated[str, Path(pattern=r"^pol_[0-9a-z]{26}$", examples=[examples.REVISION_ID])]
Number = Annotated[int, Path(ge=1, le=1_000_000, examples=[1])]
FilePath = Annotated[str, Path(max_length=400, examples=["rules/port-credit-footfall.json"])]
SHEET, MODULE = "application/json", "text/plain"


def _shows(example: Any, status: int = 200, media_type: str = "application/json") -> dict[int | str, dict[str, Any]]:
    return {status: {"content": {media_type: {"example": example}}}}


def _example(value: dict[str, Any]) -> Any:
    return Body(openapi_examples={"example": {"value": value}})


FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            SHEET: {"schema": {"type": "object"}, "example": examples.RULE_SHEET},
            MODULE: {"schema": {"type": "string"}, "example": examples.MODULE},
        },
    },
}


@router.get(
    "/revisions",
    summary="The policy revisions",
    response_model=RevisionPage,
    responses=_shows({"items": [examples.REVISION], "next": None}),
)
def list_revisions(
    request: Request,
    response: Response,
    _caller: Reader,
    session: Reading,
    state: State | None = None,
    limit: Limit = 50,
    after: After = None,
) -> dict[str, Any]:
    """In the order in which they were made."""
    statement = select(PolicyRevision)
    if state is not None:
        statement = statement.where(PolicyRevision.state == state)
    return page(session, statement, PolicyRevision.id, shown, limit=limit, after=after, request=request, response=response)


@router.post("/revisions", status_code=201, summary="Begin a draft", responses=_shows(examples.REVISION | {"state": "draft"}, 201))
def create_revision(
    wanted: Annotated[NewRevision, _example(examples.NEW_REVISION)], caller: Writer, response: Response, session: Transaction
) -> RevisionDocument:
    """A copy of the active revision, to be edited file by file and then proposed."""
    made = begin_draft(session, wanted.title, wanted.based_on, caller)
    response.headers["Location"] = f"/v1/policies/revisions/{made.id}"
    return _shown(made, response)


@router.get("/revisions/{revision_id}", summary="A policy revision", responses=_shows(examples.REVISION))
def read_revision(revision_id: Id, _caller: Reader, session: Reading, response: Response) -> RevisionDocument:
    return _shown(_found(session, revision_id), response)


@router.get(
    "/revisions/{revision_id}/files/{path:path}",
    summary="A file of a revision",
    response_class=Response,
    responses=_shows(examples.RULE_SHEET),
)
def read_file(revision_id: Id, path: FilePath, _caller: Reader, session: Reading) -> Response:
    """A rule sheet as `application/json`, a module or test as `text/plain`. Its ETag is the revision's."""
    revision = _found(session, revision_id)
    if path not in revision.files:
        raise ExchangeError("not_found")
    media_type = SHEET if path.endswith(".json") else f"{MODULE}; charset=utf-8"
    return Response(revision.files[path], media_type=media_type, headers={"ETag": etag(revision.version)})


async def _sent(request: Request, path: FilePath) -> str:
    """The body as text. Raises `unsupported_media_type`, `invalid_body`."""
    wanted = SHEET if path.endswith(".json") else MODULE
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if PATH.fullmatch(path) and given != wanted:
        raise ExchangeError("unsupported_media_type", f"This file is {wanted}.", headers={"Accept": wanted})
    try:
        return (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid([{"pointer": "", "detail": "is not UTF-8"}]) from error


@router.put(
    "/revisions/{revision_id}/files/{path:path}", summary="Write a file of a draft", openapi_extra=FILE, responses=_shows(examples.REVISION)
)
def put_file(
    revision_id: Id,
    path: FilePath,
    text: Annotated[str, Depends(_sent)],
    caller: Writer,
    session: Transaction,
    response: Response,
    if_match: IfMatch = None,
) -> RevisionDocument:
    """A rule sheet `rules/<slug>.json`, which must fit its JSON Schema, or a module or test. `If-Match` is the revision's ETag."""
    revision = locked(session, revision_id)
    require_match(if_match, revision.version)
    write_file(session, revision, path, text, caller)
    return _shown(revision, response)


@router.delete("/revisions/{revision_id}/files/{path:path}", summary="Remove a file of a draft", responses=_shows(examples.REVISION))
def delete_file(
    revision_id: Id, path: FilePath, caller: Writer, session: Transaction, response: Response, if_match: IfMatch = None
) -> RevisionDocument:
    revision = locked(session, revision_id)
    require_match(if_match, revision.version)
    remove_file(session, revision, path, caller)
    return _shown(revision, response)


@router.post("/revisions/{revision_id}/propose", summary="Propose a draft", responses=_shows(examples.REVISION | {"state": "proposed"}))
def propose_revision(revision_id: Id, caller: Proposer, desk: OfDesk, response: Response) -> RevisionDocument:
    """It is vetted first: 422 `policy_refused` names file, line and what to do of everything that is found."""
    return _shown(propose(desk, revision_id, caller), response)


@router.post(
    "/revisions/{revision_id}/previews",
    status_code=202,
    summary="Preview a revision",
    responses=_shows(examples.PREVIEW | {"state": "running"}, 202),
)
def create_preview(
    revision_id: Id, wanted: Annotated[NewPreview, _example({"days": 30})], caller: Writer, request: Request, response: Response
) -> PreviewDocument:
    """Replays it against every contract in force and the decisions of the last days. GET tells how far it is, and then what it found."""
    previews: Previews = request.app.state.previews
    made = previews.begin(revision_id, wanted.days, caller)
    response.headers["Location"] = f"/v1/policies/revisions/{revision_id}/previews/{made.number}"
    return shown_preview(made)


@router.get("/revisions/{revision_id}/previews/{number}", summary="A preview", responses=_shows(examples.PREVIEW))
def get_preview(revision_id: Id, number: Number, _caller: Reader, session: Reading) -> PreviewDocument:
    """Counts of events are estimates, rounded to 10: of at most 100,000 retained events a dataset, with consent as of the preview."""
    return shown_preview(read_preview(session, revision_id, number))


@router.post("/revisions/{revision_id}/approve", summary="Approve a revision", responses=_shows(examples.REVISION))
def approve_revision(
    revision_id: Id,
    wanted: Annotated[Approval, _example({"preview": 1})],
    caller: Agreeing,
    desk: OfDesk,
    session: Transaction,
    response: Response,
) -> RevisionDocument:
    """The second person's act, freshly signed in. It names the preview that they saw: 412 `stale` if it no longer holds."""
    return _shown(approve(session, desk, revision_id, wanted.preview, caller), response)


@router.post("/revisions/{revision_id}/activate", summary="Activate a revision", responses=_shows(examples.REVISION | {"state": "active"}))
def activate_revision(revision_id: Id, caller: Agreeing, desk: OfDesk, response: Response) -> RevisionDocument:
    """Of an approved one; of a retired one that was active it is going back. When it returns, nothing that it forbids can leave any more.

    409 `policy_not_taken`: the engine of an instance did not take it, and the former revision answers again.
    """
    with desk.database.reading() as session:
        revision, former = _found(session, revision_id), active(session)
        turns = former is not None and former.id != revision.id and "activate" in legal(revision)
        affected = affected_by(session, desk, revision, former) if turns and former is not None else []
    activate(desk.database, desk.barrier, revision_id, caller, affected, desk.wait)
    with desk.database.reading() as session:
        return _shown(_found(session, revision_id), response)


@router.post("/revisions/{revision_id}/retire", summary="Put a revision away", responses=_shows(examples.REVISION | {"state": "retired"}))
def retire_revision(revision_id: Id, caller: Writer, session: Transaction, response: Response) -> RevisionDocument:
    """One that is not to become active: a draft, or what was proposed and is not agreed on."""
    revision = locked(session, revision_id, "retire")
    retire(session, revision, caller)
    return _shown(revision, response)


@router.get(
    "/revisions/{revision_id}/bundle",
    summary="The bundle of a revision",
    response_class=Response,
    responses=_shows("(gzipped tar)", media_type=MEDIA_TYPE),
)
def read_bundle(revision_id: Id, _caller: Reader, session: Reading) -> Response:
    """Its modules, tests and rule sheets as OPA takes them. The SHA-256 of these bytes is the revision's digest, on any machine."""
    content = archive_of(_found(session, revision_id).files)
    digest = b64encode(sha256(content).digest()).decode("ascii")
    headers = {"Repr-Digest": f"sha-256=:{digest}:", "Content-Disposition": f'attachment; filename="{revision_id}.tar.gz"'}
    return Response(content, media_type=MEDIA_TYPE, headers=headers)


@router.get("/todos", summary="What waits for the officer", responses=_shows({"items": [examples.TODO], "next": None}))
def list_todos(_caller: Reader, desk: OfDesk, session: Reading) -> TodoPage:
    """Revisions to agree on, datasets without a rule sheet, and fields that no rule names: a new schema field reaches nobody until then."""
    return TodoPage.model_validate({"items": todos(session, desk.catalog)})


def _found(session: Reading, revision_id: str) -> PolicyRevision:
    found = session.get(PolicyRevision, revision_id)
    if found is None:
        raise ExchangeError("not_found")
    return found


def _shown(revision: PolicyRevision, response: Response) -> RevisionDocument:
    response.headers["ETag"] = etag(revision.version)
    return shown(revision)
