"""Decisions over HTTP: those that were made, with what they were made from, and what one would be; each with why."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from gateway.access import examples
from gateway.access.decide import Access
from gateway.access.explain import explain
from gateway.access.facts import Question
from gateway.access.lens import Refusal, received
from gateway.access.models import DecisionRow, PolicyRevision
from gateway.catalog.directory import Catalog, DatasetView
from gateway.catalog.documents import PurposeCode, Slug
from gateway.contracts.directory import Contracts, ContractView
from gateway.contracts.visible import visible
from gateway.database import Reading, now, rfc3339
from gateway.errors import ExchangeError, Invalid
from gateway.http import After, Document, Limit, page
from gateway.identity.directory import Directory as People
from gateway.identity.principal import Allow, Principal

router = APIRouter(prefix="/v1/decisions", tags=["access"])

OVERSEERS = frozenset({"privacy_officer", "auditor"})
"""The roles that see every decision."""
BY_KEY = frozenset({"private_key_jwt"})
"""How a client authenticates that can have bound tokens."""
DecisionId = Annotated[str, Path(pattern=r"^dec_[0-9a-z]{26}$", examples=["dec_01kaqv8f7e9n3p5r7t9w1y3a5c"])]
Caller = Annotated[Principal, Allow()]


class Made(BaseModel):
    """A decision: what was asked (`facts`, as the engine was given them), the answer, and the revision that it was computed by."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DECISION]})

    id: str
    at: str
    action: str
    allow: bool
    reasons: list[dict[str, Any]]
    obligations: list[dict[str, Any]]
    revision: str
    until: str
    facts: dict[str, Any]


class Explained(Made):
    """`why.mattered`: the facts whose change alone would change the answer; `why.would_allow`: the smallest changes that make it yes."""

    why: dict[str, Any]


class MadePage(BaseModel):
    items: list[Made]
    next: str | None


class Asked(Document):
    """A question: about a contract, or about a dataset and a purpose; for oneself, or for a client of one's organization."""

    dataset: Slug | None = None
    purpose: PurposeCode | None = None
    contract: Annotated[str, Field(pattern=r"^con_[0-9a-z]{26}$")] | None = None
    client: Annotated[str, Field(pattern=r"^cli_[0-9a-z]{26}$")] | None = None
    action: Literal["publish", "propose", "receive"] | None = Field(
        None, description="`receive` if a contract is named or the dataset is open, else `propose`."
    )


class WouldBe(BaseModel):
    """What the policy of now says. It is no decision: nothing is let through by it, and it has no `id`."""

    id: None = None
    action: str
    allow: bool
    reasons: list[dict[str, Any]]
    obligations: list[dict[str, Any]]
    revision: str
    until: str | None
    facts: dict[str, Any]
    sees: dict[str, Any] | None = Field(description="The JSON Schema of the data that would be received.")
    why: dict[str, Any]


def _shows(example: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


@router.get("", summary="Decisions", response_model=MadePage, responses=_shows({"items": [examples.DECISION], "next": None}))
def list_decisions(
    request: Request,
    response: Response,
    caller: Caller,
    session: Reading,
    dataset: Slug | None = None,
    contract: Annotated[str | None, Query(max_length=40)] = None,
    allow: Annotated[bool | None, Query(description="Only those that said yes, or no.")] = None,
    limit: Limit = 50,
    after: After = None,
) -> dict[str, Any]:
    """In the order in which they were made: those that the caller's organization asked for; to the auditor and the officer, all."""
    statement = select(DecisionRow)
    if not caller.roles & OVERSEERS:
        statement = statement.where(DecisionRow.organization_id == caller.organization_id)
    for column, wanted in ((DecisionRow.dataset_slug, dataset), (DecisionRow.contract_id, contract), (DecisionRow.allow, allow)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    return page(session, statement, DecisionRow.id, _made, limit=limit, after=after, request=request, response=response)


@router.post("", summary="What a decision would be, and why", responses=_shows(examples.WOULD_BE))
def ask(
    wanted: Annotated[Asked, Body(openapi_examples={"example": {"value": examples.ASKED}})],
    caller: Caller,
    request: Request,
    catalog: Catalog,
    contracts: Contracts,
    session: Reading,
) -> WouldBe:
    """Would this client be allowed, what would it see, and if not: what is the smallest change that makes it yes."""
    access: Access = request.app.state.access
    question = _question(wanted, caller, catalog, contracts, access.people)
    facts, answer = access.would_be(question)
    document, revision = answer.document, session.get_one(PolicyRevision, answer.revision)
    return WouldBe(
        action=question.action,
        revision=answer.revision,
        facts=facts,
        sees=_sees(document, question.dataset),
        why=explain(revision.files, facts).as_json(),
        **document,
    )


@router.get("/{decision_id}", summary="Read a decision", responses=_shows(examples.DECISION | {"why": examples.WHY}))
def read_decision(decision_id: DecisionId, caller: Caller, session: Reading) -> Explained:
    """The decision and why it came out so, to the organization that asked, to the auditor and to the officer: `decision_id` leads here."""
    row = session.get(DecisionRow, decision_id)
    if row is None or (row.organization_id != caller.organization_id and not caller.roles & OVERSEERS):
        raise ExchangeError("not_found")
    revision = session.get_one(PolicyRevision, row.revision)
    made = _made(row)
    return Explained(**made, why=explain(revision.files, made["facts"]).as_json())


def _made(row: DecisionRow) -> dict[str, Any]:
    same = ("id", "action", "allow", "reasons", "obligations", "revision")
    told = {name: getattr(row, name) for name in same}
    return told | {"at": rfc3339(row.at), "until": rfc3339(row.until), "facts": json.loads(row.facts)}


def _question(wanted: Asked, caller: Principal, catalog: Catalog, contracts: Contracts, people: People) -> Question:
    """Raises `Invalid` where it names nothing that the caller may know."""
    contract = contracts.get(wanted.contract) if wanted.contract else None
    if wanted.contract and (contract is None or not _is_party(contract, caller)):
        raise Invalid([{"pointer": "/contract", "detail": "names no contract of yours"}])
    slug = contract.dataset_slug if contract else wanted.dataset
    if slug is None or (contract is not None and wanted.dataset not in (None, slug)):
        raise Invalid([{"pointer": "/dataset", "detail": "must be there, or be that of the contract"}])
    dataset = visible(slug, caller, catalog, contracts)
    purpose = contract.purpose if contract else wanted.purpose
    action = wanted.action or ("receive" if contract is not None or dataset.classification == "open" else "propose")
    asker = _asker(wanted, caller, people)
    if contract is not None:
        asker = replace(asker, contracts=asker.contracts | {contract.id})
    elif action == "propose":
        contract = _proposal(asker, dataset, purpose)
    return Question(action, asker, dataset, purpose, contract)


def _is_party(contract: ContractView, caller: Principal) -> bool:
    return caller.organization_id in {contract.provider_id, contract.consumer_id} or bool(caller.roles & OVERSEERS)


def _asker(wanted: Asked, caller: Principal, people: People) -> Principal:
    """The caller, or the client that they ask for, as it comes with the authentication that it is registered with."""
    if wanted.client is None:
        return caller
    client = people.client(wanted.client)
    if client is None or (client.organization_id != caller.organization_id and not caller.roles & OVERSEERS):
        raise Invalid([{"pointer": "/client", "detail": "names no client of yours"}])
    by_key = client.token_endpoint_auth_method in BY_KEY
    return replace(
        caller, client_id=client.id, organization_id=client.organization_id, strong=by_key, roles=frozenset(client.roles), person=None
    )


def _proposal(asker: Principal, dataset: DatasetView, purpose: str | None) -> ContractView | None:
    if purpose is None:
        return None
    at = now()
    return ContractView(
        "", "proposed", dataset.owner_id, asker.organization_id, dataset.slug, purpose, at, at + timedelta(days=365), "none"
    )


def _sees(document: dict[str, Any], dataset: DatasetView) -> dict[str, Any] | None:
    if not document["allow"]:
        return None
    try:
        return received(tuple(document["obligations"]), dataset)
    except Refusal:
        return None
