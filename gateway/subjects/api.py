"""What a person can ask over HTTP, without an account: a code from the provider opens a session, whose token answers for them.

An identifier, a code and a token come in bodies and headers only; none is kept, shown again or logged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from consent.subjects import as_bytes, find
from gateway.audit.record import Entry, record
from gateway.catalog.directory import Catalog, DatasetView
from gateway.consents.documents import Found, Stopped
from gateway.consents.visible import check_subject, owned, scheme_of
from gateway.database import Reading, Transaction, now
from gateway.errors import ExchangeError, Invalid
from gateway.http import After, Limit
from gateway.idempotency import IdempotentRoute
from gateway.identity.principal import Allow, Principal
from gateway.keys import Keys, SecretKey
from gateway.limits import network_of
from gateway.subjects.ask import Place, consents_of, disclosures_of, export
from gateway.subjects.codes import Person, give_code, open_session, person_of
from gateway.subjects.documents import Code, Disclosures, Export, Redeemed, Session, Who
from gateway.subjects.withdraw import withdraw

PLACE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})\.((?:con_[0-9a-z]{26})?)\.(dec_[0-9a-z]{26})", re.ASCII)
TOKEN = HTTPBearer(scheme_name="session_token", description="The token of POST /v1/subjects/sessions.", auto_error=False)


def _never_stored(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"


router = APIRouter(prefix="/v1/subjects", tags=["subjects"], route_class=IdempotentRoute, dependencies=[Depends(_never_stored)])


async def _limited(request: Request, response: Response) -> None:
    """Who tries codes gets few tries a minute. Raises `rate_limited`."""
    address = network_of(request)
    response.headers.update(request.app.state.sessions_limit.count(address))


def _asking(request: Request, session: Reading, _header: Annotated[HTTPAuthorizationCredentials | None, Security(TOKEN)]) -> Person:
    """Who asks. Raises `token_missing`, `token_invalid`, `token_expired`."""
    sent = request.headers.getlist("authorization")
    if not sent:
        hint = "Ask the provider for a code, open a session with it, and send its token as `Authorization: Bearer <token>`."
        raise ExchangeError("token_missing", "This is for the person whom the data is about.", hint=hint)
    scheme, _, token = sent[0].partition(" ")
    if len(sent) > 1 or scheme.lower() != "bearer":
        raise ExchangeError("token_invalid", "`Authorization` must be there once, as `Bearer <token>`.")
    return person_of(session, _key(request), token.strip(" "))


Asking = Annotated[Person, Depends(_asking)]
ConsentId = Annotated[str, Path(pattern=r"^cns_[0-9a-z]{26}$", examples=["cns_01kaqv8f7e9n3p5r7t9w1y3a5c"])]


@router.post("/codes", status_code=201, summary="Get a one-time code for a person", response_model=Code)
def make_code(
    body: Who, caller: Annotated[Principal, Allow("consents:write")], session: Transaction, catalog: Catalog, request: Request
) -> Any:
    """For a client of the dataset's owner, who makes sure that it is this person and hands it over. Good once, for ten minutes."""
    dataset = owned(body.dataset, caller, catalog)
    sref = _find(session, request, dataset, body.subject)
    code, expires_at = give_code(session, _key(request), sref=sref, dataset=dataset.slug)
    # Who reads entries must not learn that two are about one person.
    record(
        session,
        Entry(
            kind="subject",
            action="code_given",
            actor=caller.actor,
            organization=caller.organization_id,
            dataset=dataset.slug,
            provider=dataset.owner_id,
        ),
    )
    return {"code": code, "expires_at": expires_at}


@router.post("/sessions", status_code=201, summary="Open a session with a code", response_model=Session, dependencies=[Depends(_limited)])
def make_session(body: Redeemed, session: Transaction, catalog: Catalog, request: Request) -> Any:
    """Uses up the code. The token is good for fifteen minutes, and for `/v1/subjects/self/...` alone."""
    token, expires_at, person = open_session(session, _key(request), body.code)
    dataset = catalog.get(person.dataset)
    record(session, Entry(kind="subject", action="session_opened", dataset=person.dataset, provider=dataset.owner_id if dataset else None))
    return {"token": token, "expires_at": expires_at}


@router.get("/self/consents", summary="My consents", response_model=Found)
def my_consents(person: Asking, session: Reading) -> Any:
    """All records at this provider, oldest first; ended ones too."""
    return {"items": consents_of(session, person), "next": None}


@router.post("/self/consents/{consent_id}/withdraw", summary="Withdraw a consent of mine", response_model=Stopped)
def withdraw_mine(consent_id: ConsentId, person: Asking, request: Request) -> Any:
    """When the call returns, no event of the person that only this consent let pass is delivered any more."""
    return withdraw(request.app.state, person, consent_id)


@router.get("/self/disclosures", summary="Who received something about me", response_model=Disclosures)
def my_disclosures(person: Asking, session: Reading, request: Request, response: Response, limit: Limit = 50, after: After = None) -> Any:
    """By day: the recipient, under which contract, purpose and decision, and how many events. It is written down within seconds."""
    found = disclosures_of(session, person, after=place_of(after), limit=limit + 1)
    following = None
    if len(found) > limit:
        following = following_place(found[limit - 1])
        url = f"{request.app.state.settings.issuer}/v1/subjects/self/disclosures?limit={limit}&after={following}"
        response.headers["Link"] = f'<{url}>; rel="next"'
    return {"items": found[:limit], "next": following}


@router.get("/self/export", summary="All of it, as one document", response_model=Export)
def my_export(person: Asking, session: Reading, response: Response) -> Any:
    """The person's consents, disclosures, and the datasets that these are about."""
    response.headers["Content-Disposition"] = 'attachment; filename="export.json"'
    return {"at": now()} | export(session, person)


def _find(session: Transaction, request: Request, dataset: DatasetView, subject: str) -> bytes | None:
    scheme = scheme_of(dataset)
    check_subject(scheme, subject)
    keys: Keys = request.app.state.keys
    index = keys.secret("subject_index")
    sref = find(session, index.id, index.value, dataset.owner_id, scheme, subject)
    return as_bytes(sref) if sref else None


def _key(request: Request) -> SecretKey:
    keys: Keys = request.app.state.keys
    return keys.secret("client_secret")


def following_place(last: Mapping[str, Any]) -> str:
    """The `next` of a page that ends with this disclosure."""
    return f"{last['day'].isoformat()}.{last['contract'] or ''}.{last['decision']}"


def place_of(after: str | None) -> Place | None:
    """Where a page begins. Raises `Invalid`."""
    if after is None:
        return None
    found = PLACE.fullmatch(after)
    try:
        if found is None:
            raise ValueError(after)
        return date.fromisoformat(found[1]), found[2], found[3]
    except ValueError as error:
        raise Invalid([{"pointer": "?after", "detail": "is not the `next` of a page"}]) from error
