"""Contracts over HTTP. Only provider, consumer and those who oversee see a contract; to others it is not there."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy import or_, select

from gateway.access.decide import Access, refusal_code
from gateway.audit.note import log_identity
from gateway.audit.usage import usage
from gateway.catalog.asyncapi import contract_document
from gateway.catalog.directory import Catalog, DatasetView
from gateway.catalog.documents import Slug
from gateway.catalog.purposes import Purpose, purpose
from gateway.contracts import examples
from gateway.contracts.directory import Contracts, ContractView
from gateway.contracts.documents import Act, ContractDocument, ContractPage, NewContract, Signing, UsageDay, UsageDocument
from gateway.contracts.models import Contract
from gateway.contracts.move import end, resume, sign, suspend
from gateway.contracts.propose import Allowed, propose, terms_of
from gateway.contracts.signatures import key_named_in
from gateway.contracts.states import OVERSEERS, State
from gateway.contracts.text import render
from gateway.contracts.visible import may_see
from gateway.database import Database, Reading, Transaction
from gateway.errors import ExchangeError, Invalid, Refused
from gateway.http import After, Limit, page
from gateway.idempotency import IdempotentRoute
from gateway.identity.principal import Allow, Principal

router = APIRouter(prefix="/v1/contracts", tags=["contracts"], route_class=IdempotentRoute)

Reader = Annotated[Principal, Allow("contracts:read")]
Writer = Annotated[Principal, Allow("contracts:write")]


def _shows(example: Any, status: int = 200, media_type: str = "application/json") -> dict[int | str, dict[str, Any]]:
    return {status: {"content": {media_type: {"example": example}}}}


def _example(value: dict[str, Any]) -> Any:
    return Body(openapi_examples={"example": {"value": value}})


CONTRACT = _shows(examples.CONTRACT)
Reason = Annotated[Act | None, _example(examples.ACT)]


async def _read_contract(contract_id: str, caller: Reader, contracts: Contracts) -> ContractView:
    return visible_contract(contract_id, caller, contracts)


async def _write_contract(contract_id: str, caller: Writer, contracts: Contracts) -> ContractView:
    return visible_contract(contract_id, caller, contracts)


Read = Annotated[ContractView, Depends(_read_contract)]
Written = Annotated[ContractView, Depends(_write_contract)]
"""The contract that the path names, if the caller may see it; what is to be moved is read again in the transaction."""


@router.get("", summary="My contracts", response_model=ContractPage, responses=_shows({"items": [examples.CONTRACT], "next": None}))
def list_contracts(
    request: Request,
    response: Response,
    caller: Reader,
    session: Reading,
    state: State | None = None,
    dataset: Slug | None = None,
    limit: Limit = 50,
    after: After = None,
) -> dict[str, Any]:
    """Those to which the caller's organization is a party; for who oversees the exchange, all."""
    statement = select(Contract)
    if not caller.roles & OVERSEERS:
        statement = statement.where(or_(Contract.provider_id == caller.organization_id, Contract.consumer_id == caller.organization_id))
    if state is not None:
        statement = statement.where(Contract.state == state)
    if dataset is not None:
        statement = statement.where(Contract.dataset_slug == dataset)
    return page(session, statement, Contract.id, plain, limit=limit, after=after, request=request, response=response)


@router.post("", status_code=201, summary="Propose a contract", responses=_shows(examples.CONTRACT | {"state": "proposed"}, 201))
def propose_contract(
    wanted: Annotated[NewContract, _example(examples.NEW_CONTRACT)],
    caller: Writer,
    request: Request,
    response: Response,
    catalog: Catalog,
    contracts: Contracts,
    session: Transaction,
) -> ContractDocument:
    """The consumer's act. Policy is asked before anyone is bothered. With `offer` the answer is `active`, else the provider signs."""
    dataset, for_what = _dataset(wanted.dataset, catalog), _purpose(wanted.purpose)
    hidden = not may_see(dataset, caller, contracts)
    if hidden and wanted.offer is not None:
        raise _no_such_dataset()
    terms = terms_of(wanted, dataset, for_what, caller)
    access: Access = request.app.state.access
    # Asked before the transaction begins: the decision is recorded in one of its own, whatever comes of the proposal.
    decision = access.decide("propose", caller=caller, dataset=dataset, purpose=for_what.code, contract=terms)
    if not decision.allow:
        raise _no_such_dataset() if hidden else Refused(decision.id, decision.reasons, refusal_code(decision.codes))
    allowed = Allowed(decision.id, decision.obligations)
    text = _text(request, terms, dataset, for_what, allowed)
    contract = propose(session, terms, dataset, caller, allowed=allowed, text=text, remark=wanted.note)
    response.headers["Location"] = f"/v1/contracts/{contract.id}"
    return _shown(contract)


@router.get("/{contract_id}", summary="A contract, now or when it has changed", responses=CONTRACT)
async def read_contract(
    known: Read,
    request: Request,
    contracts: Contracts,
    wait: Annotated[int, Query(ge=0, le=30, description="Seconds to wait at most, while the contract is in `state`.")] = 0,
    state: Annotated[State | None, Query(description="The state that the caller knows.")] = None,
) -> ContractDocument:
    """With `?wait=30&state=proposed` it answers once the contract is no longer `proposed`, or after 30 seconds."""
    if wait and state is None:
        raise Invalid([{"pointer": "?state", "detail": "says what to wait for: the answer comes once the state is another"}])
    if wait and state is not None:
        await contracts.wait_while(known.id, state, wait)
    return await run_in_threadpool(_read, request.app.state.database, known.id)


@router.post("/{contract_id}/sign", summary="Sign a contract", responses=CONTRACT)
def sign_contract(
    wanted: Annotated[Signing, _example(examples.SIGNING)],
    caller: Writer,
    known: Written,
    request: Request,
    catalog: Catalog,
    session: Transaction,
) -> ContractDocument:
    """The provider's act; over personal and sensitive data both sides', by key. In force once the last needed has signed."""
    # Before the database is asked for anything: it may wait for the client's own server.
    client = request.app.state.identity.client(caller.client_id)  # none for a person, who signs without a key
    if client is not None and client.jwks_uri is not None and wanted.signature is not None:
        client = replace(client, jwks=request.app.state.published_keys.jwks(client.jwks_uri, key_named_in(wanted.signature)))
    contract = session.get_one(Contract, known.id)
    sign(session, contract, wanted, _dataset(known.dataset_slug, catalog), caller, client)
    return _shown(contract)


@router.post("/{contract_id}/suspend", summary="Suspend a contract", responses=CONTRACT)
def suspend_contract(caller: Writer, known: Written, catalog: Catalog, session: Transaction, why: Reason = None) -> ContractDocument:
    """By the provider or the privacy officer. Its streams end; nothing is delivered until it is resumed."""
    contract = session.get_one(Contract, known.id)
    suspend(session, contract, why or Act(), caller, both_sign=_dataset(known.dataset_slug, catalog).needs_signatures)
    return _shown(contract)


@router.post("/{contract_id}/resume", summary="Resume a contract", responses=CONTRACT)
def resume_contract(caller: Writer, known: Written, catalog: Catalog, session: Transaction, why: Reason = None) -> ContractDocument:
    """By the side that suspended it, or by the privacy officer."""
    contract = session.get_one(Contract, known.id)
    resume(session, contract, why or Act(), caller, both_sign=_dataset(known.dataset_slug, catalog).needs_signatures)
    return _shown(contract)


@router.post("/{contract_id}/end", summary="End a contract", responses=CONTRACT)
def end_contract(caller: Writer, known: Written, catalog: Catalog, session: Transaction, why: Reason = None) -> ContractDocument:
    """By either side or the privacy officer, for good. A proposal is withdrawn or declined by it."""
    contract = session.get_one(Contract, known.id)
    end(session, contract, why or Act(), caller, both_sign=_dataset(known.dataset_slug, catalog).needs_signatures)
    return _shown(contract)


@router.get(
    "/{contract_id}/text",
    summary="The text of a contract",
    response_class=Response,
    responses=_shows("# Data contract", media_type="text/markdown"),
)
def read_text(known: Read, session: Reading) -> Response:
    """Byte for byte what is signed, with its `Repr-Digest` (RFC 9530)."""
    contract = session.get_one(Contract, known.id)
    return Response(contract.text, media_type="text/markdown; charset=utf-8", headers={"Repr-Digest": contract.text_digest})


@router.get(
    "/{contract_id}/schema",
    summary="The schema of what a contract receives",
    response_class=JSONResponse,
    responses=_shows(examples.RECEIVED, media_type="application/schema+json"),
)
def read_schema(known: Read, request: Request) -> JSONResponse:
    """JSON Schema 2020-12 of an event's `data` after the obligations of this contract."""
    access: Access = request.app.state.access
    return JSONResponse(access.received_schema(known), media_type="application/schema+json")


@router.get(
    "/{contract_id}/usage", summary="What was delivered under a contract", response_model=UsageDocument, responses=_shows(examples.USAGE)
)
def read_usage(known: Read, session: Reading) -> UsageDocument:
    """By day (UTC), events and bytes of events: added up from the releases in the audit log."""
    return UsageDocument(days=[UsageDay(**day._asdict()) for day in usage(session, known.id)])


@router.get(
    "/{contract_id}/asyncapi.json",
    summary="AsyncAPI 3.0 of what a contract receives",
    responses=_shows({"asyncapi": "3.0.0", "info": {"title": "Visits", "version": "1"}, "channels": {}}),
)
def read_asyncapi(known: Read, request: Request, catalog: Catalog) -> dict[str, Any]:
    access: Access = request.app.state.access
    received = access.received_schema(known)
    return contract_document(request.app.state.settings.issuer, _dataset(known.dataset_slug, catalog), known.id, received)


def visible_contract(contract_id: str, caller: Principal, contracts: Contracts) -> ContractView:
    """The contract, if the caller may see it. Raises `not_found`."""
    contract = contracts.get(contract_id)
    if contract is None or not (caller.organization_id in {contract.provider_id, contract.consumer_id} or caller.roles & OVERSEERS):
        raise ExchangeError("not_found")
    return contract


def _dataset(slug: str, catalog: Catalog) -> DatasetView:
    dataset = catalog.get(slug)
    if dataset is None:
        raise _no_such_dataset()
    return dataset


def _no_such_dataset() -> Invalid:
    return Invalid([{"pointer": "/dataset", "detail": "names no dataset"}])


def _purpose(code: str) -> Purpose:
    found = purpose(code)
    assert found is not None  # the document has been checked
    return found


def _text(request: Request, terms: ContractView, dataset: DatasetView, for_what: Purpose, allowed: Allowed) -> bytes:
    people = request.app.state.identity
    offer = dataset.offers[terms.offer_id] if terms.offer_id else None
    return render(
        terms,
        dataset,
        for_what,
        issuer=request.app.state.settings.issuer,
        log=log_identity(request.app.state.keys, request.app.state.settings),
        names=(people.organization(terms.provider_id).name, people.organization(terms.consumer_id).name),
        decision_id=allowed.decision_id,
        obligations=allowed.obligations,
        terms=offer.terms if offer else None,
    )


def _read(database: Database, contract_id: str) -> ContractDocument:
    with database.reading() as session:
        return _shown(session.get_one(Contract, contract_id))


def plain(row: Contract) -> dict[str, Any]:
    """The members of the contract's document."""
    same = set(ContractDocument.model_fields) - {"provider", "consumer", "dataset", "offer", "decision", "signatures"}
    return {name: getattr(row, name) for name in same} | {
        "provider": row.provider_id,
        "consumer": row.consumer_id,
        "dataset": row.dataset_slug,
        "offer": row.offer_id,
        "decision": row.decision_id,
        "signatures": [{"side": it.side, "by": it.by, "at": it.at, "key_id": it.key_id} for it in row.signatures],
    }


def _shown(row: Contract) -> ContractDocument:
    return ContractDocument.model_validate(plain(row))
