"""Consent over HTTP: what people were shown, what they said to it, and how they take it back.

A person's identifier comes in bodies only, becomes an `sref` at once, and is neither kept, shown nor logged.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response
from sqlalchemy import select

from consent.models import ConsentRecord, Notice
from consent.notices import version
from consent.records import of_subject
from consent.states import State
from consent.subjects import find
from gateway.catalog.directory import Catalog
from gateway.catalog.documents import Slug
from gateway.consents import examples, notices
from gateway.consents.documents import (
    Asked,
    Chunk,
    CodeDocument,
    ConsentDocument,
    Evidence,
    Found,
    Given,
    Imported,
    NewNotice,
    NoticeContent,
    NoticeDocument,
    NoticePage,
    Progress,
    Reasoned,
    Reissued,
    Reply,
    SearchDocument,
    Shown,
    Stopped,
)
from gateway.consents.give import give
from gateway.consents.importing import import_chunk, progress
from gateway.consents.move import Told, allow, by_code, by_id, office_of, require_owner, stop, wait_until_passed
from gateway.consents.receipts import MEDIA_TYPE, Receipts
from gateway.consents.show import show, show_all
from gateway.consents.visible import check_subject, scheme_of, searched, visible
from gateway.contracts.directory import Contracts
from gateway.contracts.visible import may_see
from gateway.database import Database, Reading, Transaction
from gateway.errors import ExchangeError, Invalid
from gateway.http import After, Limit, page
from gateway.idempotency import IdempotentRoute
from gateway.identity.principal import Allow, Anybody, Principal
from gateway.limits import network_of

router = APIRouter(prefix="/v1", tags=["consents"], route_class=IdempotentRoute)

Reader = Annotated[Principal, Allow("consents:read")]
Writer = Annotated[Principal, Allow("consents:write")]
ConsentId = Annotated[str, Path(pattern=r"^cns_[0-9a-z]{26}$", examples=["cns_01kaqv8f7e9n3p5r7t9w1y3a5c"])]
NoticeId = Annotated[str, Path(pattern=r"^ntc_[0-9a-z]{26}$", examples=["ntc_01kaqv8f7e9n3p5r7t9w1y3a5b"])]
# A body that may be missing has no example of its own in the OpenAPI document: it is said here.
Act = Annotated[Asked | None, Body(examples=[examples.ASKED_BY])]
Reason = Annotated[Reasoned | None, Body(examples=[examples.REASON])]
FROM_ANYWHERE = {"Access-Control-Allow-Origin": "*"}


@router.get("/notices-of-consent", summary="List notices of consent", response_model=NoticePage)
def list_notices(
    session: Reading,
    caller: Anybody,
    catalog: Catalog,
    contracts: Contracts,
    request: Request,
    response: Response,
    dataset: Annotated[Slug | None, Query(description="Those of this dataset only.")] = None,
    limit: Limit = 50,
    after: After = None,
) -> Any:
    """What people are asked, each notice at its newest version. No token is needed, save for those of sensitive datasets."""
    response.headers.update(FROM_ANYWHERE)
    seen = [known.slug for known in catalog.all() if may_see(known, caller, contracts) and dataset in {None, known.slug}]

    def shown(notice: Notice) -> Any:
        newest = version(session, notice.id, notice.current)
        return notices.show_version(session, notice.dataset, newest) if newest else None

    statement = select(Notice).where(Notice.dataset.in_(seen))
    return page(session, statement, Notice.id, shown, limit=limit, after=after, request=request, response=response)


@router.post("/notices-of-consent", status_code=201, summary="Write a notice of consent", response_model=NoticeDocument)
def write_notice(body: NewNotice, caller: Writer, session: Transaction, request: Request, response: Response) -> Any:
    """What people are to be shown, in two languages, for a dataset of the caller's organization. It is there for anybody to read."""
    state = request.app.state
    made = notices.write(session, body, caller, state.catalog, state.identity)
    response.headers["Location"] = f"{state.settings.issuer}/v1/notices-of-consent/{made.notice_id}"
    return notices.show_version(session, body.dataset, made)


@router.get("/notices-of-consent/{notice_id}", summary="Read a notice of consent", response_model=NoticeDocument)
def read_notice(notice_id: NoticeId, session: Reading, response: Response) -> Any:
    """Its newest version, for whoever holds its identifier."""
    notice = session.get(Notice, notice_id)
    if notice is None:
        raise ExchangeError("not_found")
    return read_notice_version(notice_id, notice.current, session, response)


@router.get("/notices-of-consent/{notice_id}/versions/{number}", summary="Read a version of a notice", response_model=NoticeDocument)
def read_notice_version(
    notice_id: NoticeId, number: Annotated[int, Path(ge=1, le=999_999_999)], session: Reading, response: Response
) -> Any:
    """Word for word what people were shown."""
    response.headers.update(FROM_ANYWHERE)
    notice, shown = session.get(Notice, notice_id), version(session, notice_id, number)
    if notice is None or shown is None:
        raise ExchangeError("not_found")
    return notices.show_version(session, notice.dataset, shown)


@router.post(
    "/notices-of-consent/{notice_id}/versions", status_code=201, summary="Write a notice's next version", response_model=NoticeDocument
)
def write_notice_version(notice_id: NoticeId, body: NoticeContent, caller: Writer, session: Transaction, request: Request) -> Any:
    """A version with other words carries consent over; one with other purposes, recipients, ground or reach asks for it anew."""
    state = request.app.state
    made = notices.rewrite(session, notice_id, body, caller, state.catalog, state.identity)
    notice = session.get_one(Notice, notice_id)
    return notices.show_version(session, notice.dataset, made)


@router.post("/consents", status_code=201, summary="Record what a person says to a notice", response_model=Given)
def give_consent(body: ConsentDocument, caller: Writer, request: Request, response: Response) -> Any:
    """A new record, for a dataset of the caller's organization; with its receipt and, this once, its withdrawal code.

    `refused` under a notice with opt-out is an objection: when the call returns, it holds.
    """
    state = request.app.state
    database: Database = state.database
    with database.transaction() as session:
        made, code = give(session, body, caller, state)
        receipt = Receipts(state).sign(session, made, code)
        answer = show(session, made) | {"receipt": receipt, "withdrawal_code": code}
    if made.state == "refused":
        wait_until_passed(state, made.change)
    response.headers["Location"] = f"{state.settings.issuer}/v1/consents/{made.id}"
    return answer


@router.post("/consents/search", summary="Find the consent records of a person", response_model=Found)
def search_consents(body: SearchDocument, caller: Reader, session: Reading, catalog: Catalog, request: Request) -> Any:
    """All records of this person for a dataset, oldest first, ended ones too: for its owner, and for the officer whom a person asks."""
    dataset = searched(body.dataset, caller, catalog)
    scheme = scheme_of(dataset)
    check_subject(scheme, body.subject)
    key = request.app.state.keys.secret("subject_index")
    sref = find(session, key.id, key.value, dataset.owner_id, scheme, body.subject)
    return {"items": show_all(session, of_subject(session, dataset.slug, sref)) if sref else [], "next": None}


@router.post("/consents/withdraw", summary="Withdraw consent by its withdrawal code", response_model=Stopped)
def withdraw_by_code(body: CodeDocument, request: Request, response: Response) -> Any:
    """Whoever holds the code withdraws that consent, and nothing else. No account is needed; attempts are few, by address."""
    state = request.app.state
    response.headers.update(FROM_ANYWHERE | state.withdrawals.count(network_of(request)))
    if (body.code is None) == (body.receipt is None):
        raise Invalid([{"pointer": "/code", "detail": "or receipt is needed, one of the two"}])
    receipts = Receipts(state)
    code = body.code if body.code is not None else receipts.code_in(body.receipt or "")
    return stop(state, by_code(receipts.hash_of(code)), "withdrawn", None, lambda _found: Told("holder"))


@router.post("/consents/import", status_code=201, summary="Import a chunk of consents", response_model=Imported)
def import_consents(body: Chunk, caller: Writer, request: Request) -> Any:
    """What up to a thousand people have said to one notice: all of them or none. The same chunk, sent again, does nothing twice."""
    state = request.app.state
    database: Database = state.database
    with database.transaction() as session:
        answer = import_chunk(session, body, caller, state)
    if body.state == "refused":
        wait_until_passed(state, answer["change"])
    return answer


@router.get("/consents/import/{name}", summary="See how far an import has come", response_model=Progress)
def read_import(name: Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,100}$")], caller: Reader, session: Reading) -> Any:
    """Of the caller's organization. Who was interrupted goes on with chunk `next`."""
    return progress(session, caller.organization_id, name)


@router.get("/consents/{consent_id}", summary="Read a consent record", response_model=Shown)
def read_consent(consent_id: ConsentId, caller: Reader, session: Reading, catalog: Catalog) -> Any:
    """The record with its history, to a client of the dataset's owner and to the privacy officer."""
    return show(session, visible(session.get(ConsentRecord, consent_id), caller, catalog))


@router.get(
    "/consents/{consent_id}/receipt",
    summary="Get the receipt of a consent record",
    response_class=Response,
    responses={200: {"content": {MEDIA_TYPE: {"example": "eyJhbGciOiJFUzI1NiIsInR5cCI6ImNvbnNlbnQtcmVjZWlwdCtqd3QifQ..."}}}},
)
def read_receipt(consent_id: ConsentId, caller: Reader, session: Reading, catalog: Catalog, request: Request) -> Response:
    """The record as it is now, signed (JWS, ES256; the key is in `/oauth/jwks`). The withdrawal code was told once, and is not in it."""
    found = visible(session.get(ConsentRecord, consent_id), caller, catalog)
    return Response(Receipts(request.app.state).sign(session, found), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


@router.post("/consents/{consent_id}/receipt", summary="Make a new withdrawal code", response_model=Reissued)
def reissue_receipt(consent_id: ConsentId, caller: Writer, session: Transaction, catalog: Catalog, request: Request) -> Any:
    """A receipt with a new withdrawal code, for a person who has lost it; the code before is good no longer."""
    found = by_id(consent_id, caller, catalog)(session)
    require_owner(caller, found, catalog)
    if found.state not in {"given", "paused"}:
        raise ExchangeError("illegal_state", f"The record is {found.state}: there is nothing to withdraw.", legal=[])
    receipts = Receipts(request.app.state)
    code, (found.code_key_id, found.code_hash) = receipts.code()
    session.flush()
    return {"receipt": receipts.sign(session, found, code), "withdrawal_code": code}


@router.post("/consents/{consent_id}/give", summary="Record that a person says yes to a request", response_model=Given)
def reply_yes(consent_id: ConsentId, body: Reply, caller: Writer, request: Request) -> Any:
    """From `requested` to `given`; with its receipt and, this once, its withdrawal code."""
    return _allowed(request, consent_id, "requested", caller, Told(body.given_by, None, _plain(body.evidence)))


@router.post("/consents/{consent_id}/refuse", summary="Record that a person says no to a request", response_model=Stopped)
def reply_no(consent_id: ConsentId, caller: Writer, request: Request, body: Act = None) -> Any:
    """From `requested` to `refused`."""
    return _stopped(request, consent_id, "refused", caller, body or Asked())


@router.post("/consents/{consent_id}/withdraw", summary="Withdraw consent", response_model=Stopped)
def withdraw_consent(consent_id: ConsentId, caller: Writer, request: Request, body: Act = None) -> Any:
    """End the record. When the call returns, no event of this person that only this consent let pass is delivered any more.

    The privacy officer does it for a person who asks in person. It asks for no evidence and needs nothing but the database; repeating
    it gives the same answer.
    """
    return _stopped(request, consent_id, "withdrawn", caller, body or Asked())


@router.post("/consents/{consent_id}/pause", summary="Pause consent", response_model=Stopped)
def pause_consent(consent_id: ConsentId, caller: Writer, request: Request, body: Act = None) -> Any:
    """Nothing passes until the person resumes it; what is appended meanwhile never does, unless the notice covers earlier events."""
    return _stopped(request, consent_id, "paused", caller, body or Asked())


@router.post("/consents/{consent_id}/resume", summary="Resume paused consent", response_model=Given)
def resume_consent(consent_id: ConsentId, caller: Writer, request: Request, body: Act = None) -> Any:
    """By the person only."""
    said = body or Asked()
    return _allowed(request, consent_id, "paused", caller, Told(said.asked_by, said.reason, _plain(said.evidence)))


@router.post("/consents/{consent_id}/revoke", summary="Revoke consent, as its provider or the city", response_model=Stopped)
def revoke_consent(consent_id: ConsentId, caller: Writer, request: Request, body: Reason = None) -> Any:
    """End the record by an act that is not the person's."""
    return _stopped(request, consent_id, "revoked", caller, body or Reasoned())


@router.post("/consents/{consent_id}/invalidate", summary="Declare that consent never was valid", response_model=Stopped)
def invalidate_consent(consent_id: ConsentId, caller: Writer, request: Request, body: Reason = None) -> Any:
    """End a record that should not be there: made by mistake, or of somebody who could not consent."""
    return _stopped(request, consent_id, "invalidated", caller, body or Reasoned())


def _stopped(request: Request, consent_id: str, wanted: State, caller: Principal, said: Asked | Reasoned) -> dict[str, Any]:
    state = request.app.state

    def told(found: ConsentRecord) -> Told:
        return Told(
            said.asked_by if isinstance(said, Asked) else office_of(caller, found, state.catalog), said.reason, _plain(said.evidence)
        )

    return stop(state, by_id(consent_id, caller, state.catalog), wanted, caller, told)


def _allowed(request: Request, consent_id: str, was: State, caller: Principal, told: Told) -> dict[str, Any]:
    state = request.app.state
    database: Database = state.database
    with database.transaction() as session:
        found, code = allow(session, state, by_id(consent_id, caller, state.catalog), was, caller, told)
        return show(session, found) | {"receipt": Receipts(state).sign(session, found, code), "withdrawal_code": code}


def _plain(evidence: Evidence | None) -> dict[str, str] | None:
    return evidence.model_dump() if evidence else None
