"""Erase: a person's keys, names and consent are destroyed; what is stored about them stays unreadable, and reaches nobody.

In all datasets of the owner that name people in the same manner, for there a person is one subject.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from consent.erasure import ERASED, erase, locked
from consent.subjects import find, secrets_of
from gateway.audit.record import Entry, record
from gateway.catalog.directory import Catalog, DatasetView
from gateway.catalog.directory import Directory as Datasets
from gateway.changes import last, note
from gateway.consents.documents import Barrier, SearchDocument
from gateway.consents.move import wait_until_passed
from gateway.consents.recipients import tell_recipients
from gateway.consents.visible import check_subject, scheme_of, searched
from gateway.database import Database, now
from gateway.idempotency import IdempotentRoute
from gateway.identity.principal import Allow, Principal
from gateway.keys import Keys

router = APIRouter(prefix="/v1/subjects", tags=["subjects"], route_class=IdempotentRoute)

Eraser = Annotated[Principal, Allow("consents:write", fresh=True)]


class Erased(BaseModel):
    """`found` is false where nobody is known by this name, any more or ever; `told` counts the contracts under which others must erase."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "state": "erased",
                    "found": True,
                    "told": 2,
                    "barrier": {"change": 4711, "replicas": 1, "waited_ms": 3},
                },
            ],
        },
    )

    state: Literal["erased"]
    found: bool
    told: int
    barrier: Barrier


@router.post("/erase", summary="Erase a person", response_model=Erased)
def erase_subject(body: SearchDocument, caller: Eraser, catalog: Catalog, request: Request) -> Any:
    """By a client of the dataset's owner, or the privacy officer, and of persons by who has just signed in.

    When the call returns nothing about the person is delivered any more. Every recipient is told to erase too, and to acknowledge that
    within seven days. Nothing takes this back; a later event of the same person is a new subject's, without consent. Repeating it does
    nothing and waits again.
    """
    state = request.app.state
    database: Database = state.database
    keys: Keys = state.keys
    dataset = searched(body.dataset, caller, catalog)
    scheme = scheme_of(dataset)
    check_subject(scheme, body.subject)
    index, told = keys.secret("subject_index"), 0
    with database.transaction() as session:
        sref = find(session, index.id, index.value, dataset.owner_id, scheme, body.subject)
        found = sref is not None and locked(session, sref)
        if sref is not None and found:
            told, change = _erase(session, keys, catalog, dataset, sref, caller)
        else:
            change = last(session)  # whoever was erased before stands at or before it
    barrier = wait_until_passed(state, change)
    return {"state": "erased", "found": found, "told": told, "barrier": barrier}


def _erase(session: Session, keys: Keys, catalog: Datasets, dataset: DatasetView, sref: str, caller: Principal) -> tuple[int, int]:
    """Erase the subject, whose row is held: how many contracts were told, and the number of the change."""
    same = [other.slug for other in catalog.all() if (other.owner_id, other.subject_scheme) == (dataset.owner_id, dataset.subject_scheme)]
    told = tell_recipients(session, keys, same, secrets_of(session, [sref])[sref], now())
    change = note(session, ERASED, f"{dataset.slug} {sref}")
    erase(session, sref, change=change)
    # It says that somebody was erased, and nothing by which to know who.
    entry = Entry(
        kind="subject",
        action="erased",
        actor=caller.actor,
        organization=caller.organization_id,
        dataset=dataset.slug,
        change=change,
        detail={"contracts_told": str(told)},
        provider=dataset.owner_id,
    )
    record(session, entry)
    return told, change
