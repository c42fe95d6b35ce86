"""The partner's pages: contracts to read, to sign and to follow, what each receives, and why something was denied.

They show what the API shows to the same person, and do what it does for them.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from gateway.access import api as access_api
from gateway.catalog.directory import Catalog
from gateway.catalog.purposes import purpose
from gateway.console.contract_facts import acts_of, delivered_by_day, denials_of, history_of, reason_told, received_of
from gateway.console.contract_text import readable
from gateway.console.forms import document
from gateway.console.pages import pages_of, told_of
from gateway.console.sharing import name_of
from gateway.console.words import Say, language_of
from gateway.contracts import api as contracts_api
from gateway.contracts.directory import Contracts, ContractView
from gateway.contracts.documents import Act, Signing
from gateway.contracts.models import Contract
from gateway.contracts.states import Verb
from gateway.database import Database, Reading
from gateway.errors import ExchangeError
from gateway.http import After, parse_time
from gateway.identity.browser_sessions import Fields, PageAllow
from gateway.identity.principal import Principal

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, PageAllow("contracts:read")]
Writer = Annotated[Principal, PageAllow("contracts:write", back="/partner/contracts/{contract_id}")]
ContractId = Annotated[str, Path(pattern=r"^con_[0-9a-z]{26}$")]
State = Annotated[str, Path(pattern=r"^(proposed|active|suspended|ended)$")]
Round = Annotated[int, Path(ge=0, le=10_000)]

A_PAGE = 50
SEE_OTHER = 303
MOST_ROUNDS = 300
"""So often a page asks by itself whether the state has changed, every two seconds. A page that is left open does not keep one signed in."""
MOVES = {
    "suspend": contracts_api.suspend_contract,
    "resume": contracts_api.resume_contract,
    "end": contracts_api.end_contract,
}


@router.get("/partner")
def show_contracts(request: Request, caller: Reader, session: Reading, after: After = None) -> HTMLResponse:
    """The contracts of one's organization; for who oversees the exchange, all."""
    state = request.app.state
    found = contracts_api.list_contracts(request, Response(), caller, session, limit=A_PAGE, after=after)
    items = [_named(state, contract) for contract in found["items"]]
    organization = name_of(state.identity, caller.organization_id) if caller.organization_id else None
    denials = denials_of(session, caller)
    return pages_of(request).show(
        request, "partner.html", denials=denials, contracts=items, following=found["next"], after=after, organization=organization
    )


@router.get("/partner/decisions/{decision_id}")
def show_decision(request: Request, decision_id: access_api.DecisionId, caller: Reader, session: Reading, catalog: Catalog) -> HTMLResponse:
    """One decision and why: its reasons, the facts that mattered, and the smallest changes that would make it yes."""
    made = access_api.read_decision(decision_id, caller, session)
    asked = made.facts.get("dataset") or {}
    dataset, for_what = catalog.get(asked.get("slug", "")), purpose((made.facts.get("purpose") or {}).get("code", ""))
    return pages_of(request).show(
        request,
        "decision.html",
        made=made,
        at=parse_time(made.at),
        title=dataset.title if dataset else None,
        purpose=for_what.title if for_what else None,
        reasons=[reason_told(reason) for reason in made.reasons],
    )


async def _known(contract_id: ContractId, caller: Reader, contracts: Contracts) -> ContractView:
    return contracts_api.visible_contract(contract_id, caller, contracts)


Known = Annotated[ContractView, Depends(_known)]


@router.get("/partner/contracts/{contract_id}")
def show_contract(request: Request, known: Known, caller: Reader, session: Reading, catalog: Catalog) -> HTMLResponse:
    """One contract: its text, state, history, what it receives and why something was denied."""
    return _show(request, session, known, caller, catalog)


@router.get("/partner/contracts/{contract_id}/state/{state}/{rounds}")
def show_state(request: Request, known: Known, state: State, rounds: Round, session: Reading) -> Response:
    """What a page that shows `state` asks every two seconds: the same part again, or that all of it be loaded anew."""
    row = session.get_one(Contract, known.id)
    if row.state != state:
        return Response(headers={"HX-Refresh": "true", "Cache-Control": "no-store"})
    return pages_of(request).show(request, "contract_state.html", contract=row, rounds=rounds + 1, most=MOST_ROUNDS)


@router.post("/partner/contracts/{contract_id}/{verb}")
def move_contract(
    request: Request,
    contract_id: ContractId,
    verb: Verb,
    caller: Writer,
    fields: Fields,
    catalog: Catalog,
    contracts: Contracts,
) -> Response:
    """Signs, suspends, resumes or ends it, as the calls of the API do; then back to its page."""
    database: Database = request.app.state.database
    known = contracts_api.visible_contract(contract_id, caller, contracts)
    try:
        with database.transaction() as session:
            if verb == "sign":
                signing = document(Signing, text_digest=fields.get("text_digest", ""))
                contracts_api.sign_contract(signing, caller, known, request, catalog, session)
            else:
                why = document(Act, reason=fields.get("reason", "").strip() or None)
                MOVES[verb](caller, known, catalog, session, why)
    except ExchangeError as error:
        with database.reading() as session:
            return _show(request, session, known, caller, catalog, problem=error)
    return RedirectResponse(f"/partner/contracts/{contract_id}", SEE_OTHER, {"Cache-Control": "no-store"})


def _show(
    request: Request,
    session: Reading,
    known: ContractView,
    caller: Principal,
    catalog: Catalog,
    problem: ExchangeError | None = None,
) -> HTMLResponse:
    state = request.app.state
    say = Say(language_of(request))
    row, dataset = session.get_one(Contract, known.id), catalog.get(known.dataset_slug)
    assert dataset is not None  # contracts name datasets that are there
    received = received_of(state.access, known, dataset, say)
    return pages_of(request).show(
        request,
        "contract.html",
        problem.status if problem else 200,
        back=f"/partner/contracts/{known.id}",
        contract=row,
        named=_named(state, contracts_api.plain(row)),
        needs_key=dataset.needs_signatures,
        acts=acts_of(row, caller, both_sign=dataset.needs_signatures),
        text=readable(row.text),
        history=history_of(request, session, row, caller),
        received=received,
        refused=told_of(received.problem, request) if received.problem else None,
        chart=delivered_by_day(session, known.id),
        denials=denials_of(session, caller, known.id),
        rounds=0,
        most=MOST_ROUNDS,
        form_token=state.browsers.form_token(caller),
        problem=told_of(problem, request) if problem else None,
    )


def _named(state: Any, contract: dict[str, Any]) -> dict[str, Any]:
    """The contract with names instead of identifiers."""
    dataset, for_what = state.catalog.get(contract["dataset"]), purpose(contract["purpose"])
    return contract | {
        "provider": name_of(state.identity, contract["provider"]),
        "consumer": name_of(state.identity, contract["consumer"]),
        "title": dataset.title if dataset else {"en": contract["dataset"], "fr": contract["dataset"]},
        "purpose": for_what.title if for_what else {"en": contract["purpose"], "fr": contract["purpose"]},
    }
