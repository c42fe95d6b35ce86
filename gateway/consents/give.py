"""Give: a new record, from what the person was shown and has said. The identifier becomes an `sref` at once, and is not kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from consent.models import ConsentRecord
from consent.records import Act, New, begin, name
from consent.states import FIRST, By
from consent.subjects import sref_of
from gateway.audit.record import Entry, record
from gateway.catalog.directory import DatasetView
from gateway.changes import note
from gateway.consents.documents import ConsentDocument
from gateway.consents.notices import check_recipients, shown_terms
from gateway.consents.receipts import Receipts
from gateway.consents.visible import check_subject, owned, scheme_of
from gateway.database import new_id, now
from gateway.errors import Invalid
from gateway.identity.principal import Principal


def give(session: Session, body: ConsentDocument, caller: Principal, state: Any) -> tuple[ConsentRecord, str | None]:
    """The record and, if consent is given, its withdrawal code. `state` is the application's.

    Raises `not_found`, `Invalid` with the place that does not fit.
    """
    dataset = owned(body.dataset, caller, state.catalog)
    scheme = scheme_of(dataset)
    check_subject(scheme, body.subject)
    at = now()
    check_recipients(body.recipients, state.identity)
    check_times(body.valid_from, body.valid_until, at)
    by = _by(body)
    check_not_to_itself(by, body.recipients, dataset)
    terms = shown_terms(session, body.notice, dataset, body.purposes, body.recipients, (body.valid_from or at, body.valid_until))
    key = state.keys.secret("subject_index")
    sref = sref_of(session, key.id, key.value, dataset.owner_id, scheme, body.subject)
    code, stored = Receipts(state).code() if body.state == "given" else (None, None)
    evidence = body.evidence.model_dump() if body.evidence else None
    new = New(id=new_id("cns"), sref=sref, terms=terms, evidence=evidence, code=stored)
    change = note(session, f"consent_{body.state}", name(dataset.slug, sref, new.id))
    made = begin(session, new, body.state, Act(by=by, at=at, change=change, client=caller.actor))
    record(session, entry_of(body.state, made, caller, dataset.owner_id, by))
    return made, code


def check_times(valid_from: datetime | None, valid_until: datetime | None, at: datetime, pointer: str = "") -> None:
    """Raises `Invalid` for a validity that is over, or over before it begins. One that began earlier counts from now on."""
    if valid_until is not None and valid_until <= at:
        raise Invalid([{"pointer": f"{pointer}/valid_until", "detail": "is in the past"}])
    if valid_until is not None and valid_from is not None and valid_until <= valid_from:
        raise Invalid([{"pointer": f"{pointer}/valid_until", "detail": "is not after valid_from"}])


def check_not_to_itself(by: By, recipients: list[str], dataset: DatasetView) -> None:
    """Raises `Invalid` where a provider consents, in a person's place, to receive data itself."""
    if by == "provider" and dataset.owner_id in recipients:
        place = recipients.index(dataset.owner_id)
        raise Invalid([{"pointer": f"/recipients/{place}", "detail": "is who gives the consent: nobody consents to itself"}])


def entry_of(action: str, found: ConsentRecord, caller: Principal | None, owner: str | None, by: str) -> Entry:
    """The audit entry of an act on a record. It names the record and never the subject: who reads entries must not learn that
    two are about one person.
    """
    return Entry(
        kind="consent",
        action=action,
        actor=caller.actor if caller else None,
        organization=caller.organization_id if caller else None,
        dataset=found.dataset,
        change=found.change,
        detail={"consent": found.id, "by": by},
        provider=owner,
    )


def _by(body: ConsentDocument) -> By:
    if body.state == "requested":
        if body.given_by is not None:
            raise Invalid([{"pointer": "/given_by", "detail": "must be left out: what is requested is given by nobody yet"}])
        return "provider"
    if body.given_by is None:
        raise Invalid([{"pointer": "/given_by", "detail": "is needed: subject, guardian or provider"}])
    if body.given_by not in FIRST[body.state]:
        raise Invalid([{"pointer": "/given_by", "detail": "refuses for nobody: subject or guardian"}])
    return body.given_by
