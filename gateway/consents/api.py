"""Consent over HTTP: given and withdrawn by the client of the dataset's owner, found again by subject.

A person's identifier comes in bodies only, becomes an `sref` at once, and is neither kept, shown nor logged.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import event

from consent.models import ConsentRecord
from consent.records import ANY_RECIPIENT, Terms, give, locked, name_of, of_subject, withdraw
from consent.subjects import find, normalise, sref_of
from gateway.audit.record import Entry, record
from gateway.catalog.directory import Catalog, DatasetView
from gateway.catalog.documents import PurposeCode, Slug
from gateway.changes import Changes, note
from gateway.database import Database, Reading, Transaction, new_id, now, rfc3339
from gateway.errors import ExchangeError, Invalid
from gateway.http import Document, Time
from gateway.idempotency import IdempotentRoute
from gateway.identity.directory import Directory
from gateway.identity.principal import Allow, Principal
from gateway.keys import Keys

router = APIRouter(prefix="/v1/consents", tags=["consents"], route_class=IdempotentRoute)

OFFICER = "privacy_officer"
Reader = Annotated[Principal, Allow("consents:read")]
Writer = Annotated[Principal, Allow("consents:write")]
Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Identifier = Annotated[
    str, Field(min_length=1, max_length=512, description="As the dataset's events name the person; taken, never returned.")
]
ConsentId = Annotated[str, Path(pattern=r"^cns_[0-9a-z]{26}$", examples=["cns_01kaqv8f7e9n3p5r7t9w1y3a5c"])]

ASKED: dict[str, Any] = {
    "dataset": "port-credit-footfall",
    "subject": "visitor-4711",
    "purposes": ["transit-planning"],
    "recipients": [ANY_RECIPIENT],
    "given_by": "subject",
    "valid_until": "2027-11-23T00:00:00Z",
}
ANSWERED: dict[str, Any] = {
    "id": "cns_01kaqv8f7e9n3p5r7t9w1y3a5c",
    "state": "given",
    "dataset": "port-credit-footfall",
    "purposes": ["transit-planning"],
    "recipients": [ANY_RECIPIENT],
    "notice": None,
    "given_by": "subject",
    "evidence": None,
    "given_at": "2026-11-23T12:00:00.250Z",
    "valid_from": "2026-11-23T12:00:00.250Z",
    "valid_until": "2027-11-23T00:00:00Z",
    "ended_at": None,
}


def _distinct(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError("names something twice")
    return values


class Notice(Document):
    """The notice that the person was shown."""

    id: Word
    version: Word
    language: Word


class Evidence(Document):
    """What shows that consent was given: its kind, and the digest of what the provider keeps."""

    kind: Word
    digest: Word


class ConsentDocument(Document):
    """Consent as it is given. `valid_from` is now, `valid_until` open, unless said."""

    model_config = ConfigDict(json_schema_extra={"examples": [ASKED]})

    dataset: Slug
    subject: Identifier
    purposes: Annotated[list[PurposeCode], Field(min_length=1, max_length=50), AfterValidator(_distinct)]
    recipients: Annotated[list[Word], Field(min_length=1, max_length=200), AfterValidator(_distinct)]
    notice: Notice | None = None
    given_by: Literal["subject", "guardian", "provider"]
    evidence: Evidence | None = None
    valid_from: Time | None = None
    valid_until: Time | None = None


class SearchDocument(Document):
    """A person in a dataset."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"dataset": "port-credit-footfall", "subject": "visitor-4711"}]})

    dataset: Slug
    subject: Identifier


class Shown(BaseModel):
    """A consent record (ISO/IEC TS 27560), without its subject."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANSWERED]})

    id: str
    state: str
    dataset: str
    purposes: list[str]
    recipients: list[str]
    notice: dict[str, Any] | None
    given_by: str
    evidence: dict[str, str] | None
    given_at: str
    valid_from: str
    valid_until: str | None
    ended_at: str | None


class Found(BaseModel):
    """The records of a person."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [ANSWERED], "next": None}]})

    items: list[Shown]
    next: str | None


class Barrier(BaseModel):
    """`change` is the withdrawal's number, `replicas` how many have applied it, `waited_ms` how long that took once it was durable."""

    change: int
    replicas: int
    waited_ms: int


class Withdrawn(BaseModel):
    """`still_shared` is what goes on under another ground than consent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "state": "withdrawn",
                    "effective_at": "2026-11-23T12:30:00.125Z",
                    "still_shared": [],
                    "barrier": {"change": 4711, "replicas": 1, "waited_ms": 1},
                },
            ],
        },
    )

    state: Literal["withdrawn"]
    effective_at: str
    still_shared: list[dict[str, str]]
    barrier: Barrier


@router.post("", status_code=201, summary="Record consent that a person gave", response_model=Shown)
def give_consent(
    body: ConsentDocument, caller: Writer, session: Transaction, catalog: Catalog, request: Request, response: Response
) -> Any:
    """A new consent record, for a dataset of the caller's organization."""
    dataset = _owned(catalog.get(body.dataset), caller)
    scheme = _scheme(dataset, body.subject)
    at = now()
    _check_recipients(body.recipients, request.app.state.identity)
    _check_times(body, at)
    terms = Terms(
        dataset=dataset.slug,
        purposes=body.purposes,
        recipients=body.recipients,
        given_by=body.given_by,
        valid_from=body.valid_from or at,
        valid_until=body.valid_until,
        notice=body.notice.model_dump() if body.notice else None,
        evidence=body.evidence.model_dump() if body.evidence else None,
    )
    sref = sref_of(session, *_index_key(request), dataset.owner_id, scheme, body.subject)
    consent_id = new_id("cns")
    change = note(session, "consent_given", f"{dataset.slug} {sref} {consent_id}")
    given = give(session, terms, consent_id=consent_id, sref=sref, at=at, change=change)
    record(session, _entry("given", given, caller, dataset.owner_id))
    response.headers["Location"] = f"{request.app.state.settings.issuer}/v1/consents/{given.id}"
    return _show(given)


@router.post("/search", summary="Find the consent records of a person", response_model=Found)
def search_consents(body: SearchDocument, caller: Reader, session: Reading, catalog: Catalog, request: Request) -> Any:
    """All records of this person for a dataset of the caller's organization, oldest first; ended ones too."""
    dataset = _owned(catalog.get(body.dataset), caller)
    sref = find(session, *_index_key(request), dataset.owner_id, _scheme(dataset, body.subject), body.subject)
    return {"items": [_show(found) for found in of_subject(session, dataset.slug, sref)] if sref else [], "next": None}


@router.get("/{consent_id}", summary="Read a consent record", response_model=Shown)
def read_consent(consent_id: ConsentId, caller: Reader, session: Reading, catalog: Catalog) -> Any:
    """The record, to a client of the dataset's owner and to the privacy officer."""
    return _show(_visible(session.get(ConsentRecord, consent_id), caller, catalog))


@router.post("/{consent_id}/withdraw", summary="Withdraw consent", response_model=Withdrawn)
def withdraw_consent(consent_id: ConsentId, caller: Writer, catalog: Catalog, request: Request) -> Any:
    """End the record. When the call returns, no event of this person that only this consent let pass is delivered any more.

    It asks for no evidence and needs nothing but the database; repeating it gives the same answer.
    """
    database: Database = request.app.state.database
    changes: Changes = request.app.state.changes
    durable: list[float] = []
    with database.transaction() as session:
        event.listen(session, "after_commit", lambda _session: durable.append(time.monotonic()))
        found = _visible(locked(session, consent_id), caller, catalog)
        if found.state != "withdrawn":
            change = note(session, "consent_withdrawn", name_of(found))
            withdraw(session, found, at=now(), change=change)
            record(session, _entry("withdrawn", found, caller, _owner(catalog, found.dataset)))
        answer = {"state": found.state, "effective_at": rfc3339(found.ended_at or now()), "still_shared": []}
        change = found.change
    # Committing has applied it already, unless the database went away in between: then this raises, and repeating goes on here.
    if changes.apply() < change:
        raise ExchangeError("database_unavailable", "The withdrawal is stored; repeat to wait until it is applied.")
    waited = round((time.monotonic() - durable[0]) * 1000)
    return answer | {"barrier": {"change": change, "replicas": 1, "waited_ms": waited}}


def _owned(dataset: DatasetView | None, caller: Principal) -> DatasetView:
    if dataset is None or dataset.owner_id != caller.organization_id:
        raise ExchangeError("not_found", "There is no such dataset of your organization.")
    return dataset


def _visible(found: ConsentRecord | None, caller: Principal, catalog: Catalog) -> ConsentRecord:
    if found is None or (OFFICER not in caller.roles and _owner(catalog, found.dataset) != caller.organization_id):
        raise ExchangeError("not_found")
    return found


def _owner(catalog: Catalog, slug: str) -> str | None:
    dataset = catalog.get(slug)
    return dataset.owner_id if dataset else None


def _scheme(dataset: DatasetView, subject: str) -> str:
    if dataset.subject_pointer is None or dataset.subject_scheme is None:
        raise Invalid([{"pointer": "/dataset", "detail": "has no subject: its events are about no person"}])
    try:
        normalise(dataset.subject_scheme, subject)
    except ValueError as error:
        raise Invalid([{"pointer": "/subject", "detail": str(error)}]) from None
    return dataset.subject_scheme


def _check_recipients(recipients: list[str], directory: Directory) -> None:
    unknown = [n for n, name in enumerate(recipients) if name != ANY_RECIPIENT and directory.organization(name) is None]
    if unknown:
        raise Invalid([{"pointer": f"/recipients/{n}", "detail": f"is no organization; or {ANY_RECIPIENT}"} for n in unknown])


def _check_times(body: ConsentDocument, at: datetime) -> None:
    if body.valid_until is not None and body.valid_until <= at:
        raise Invalid([{"pointer": "/valid_until", "detail": "is in the past"}])
    if body.valid_until is not None and body.valid_from is not None and body.valid_until <= body.valid_from:
        raise Invalid([{"pointer": "/valid_until", "detail": "is not after valid_from"}])


def _index_key(request: Request) -> tuple[str, bytes]:
    keys: Keys = request.app.state.keys
    key = keys.secret("subject_index")
    return key.id, key.value


def _entry(action: str, found: ConsentRecord, caller: Principal, owner: str | None) -> Entry:
    # It names the record and never the subject: who reads entries must not learn that two are about one person.
    return Entry(
        kind="consent",
        action=action,
        actor=caller.client_id,
        organization=caller.organization_id,
        dataset=found.dataset,
        change=found.change,
        detail={"consent": found.id},
        provider=owner,
    )


def _show(found: ConsentRecord) -> dict[str, Any]:
    return {
        "id": found.id,
        "state": found.state,
        "dataset": found.dataset,
        "purposes": found.purposes,
        "recipients": found.recipients,
        "notice": found.notice,
        "given_by": found.given_by,
        "evidence": found.evidence,
        "given_at": rfc3339(found.given_at),
        "valid_from": rfc3339(found.valid_from),
        "valid_until": rfc3339(found.valid_until) if found.valid_until else None,
        "ended_at": rfc3339(found.ended_at) if found.ended_at else None,
    }
