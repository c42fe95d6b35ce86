"""Mass import: who has said the same to the same notice, in chunks, each all or nothing and done once."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from consent.models import ImportedChunk
from consent.records import Act, New, begin_all
from consent.states import FIRST
from consent.subjects import srefs_of
from gateway.audit.record import Entry, record
from gateway.catalog.directory import DatasetView
from gateway.changes import note
from gateway.consents.documents import Chunk
from gateway.consents.give import check_not_to_itself, check_times
from gateway.consents.notices import check_recipients, shown_terms
from gateway.consents.receipts import Receipts
from gateway.consents.visible import check_subject, owned, scheme_of
from gateway.database import new_id, now
from gateway.errors import ExchangeError, Invalid
from gateway.identity.principal import Principal


def import_chunk(session: Session, body: Chunk, caller: Principal, state: Any) -> dict[str, Any]:
    """Make the records of a chunk; nothing, if it was done before.

    Raises `not_found`, `Invalid` with the places that do not fit, `idempotency_key_reused` if another chunk was sent under this number,
    `request_in_progress` if the same one is being done.
    """
    dataset = owned(body.dataset, caller, state.catalog)
    digest = state.keys.secret("subject_index").mac(b"import", orjson.dumps(body.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS))
    done = session.get(ImportedChunk, (dataset.owner_id, body.name, body.chunk))
    if done is not None:
        if done.digest != digest:
            raise ExchangeError("idempotency_key_reused", "Another chunk was imported under this name and number.")
        return _told(done) | {"repeated": True, "items": None}
    records, codes = _records(session, body, dataset, state)
    change = note(session, "consents_imported" if body.state == "given" else "refusals_imported", str(len(records)))
    begin_all(session, records, body.state, Act(by=body.given_by, at=now(), change=change, client=caller.actor))
    ids = sorted(new.id for new in records)
    made = ImportedChunk(
        owner=dataset.owner_id,
        name=body.name,
        chunk=body.chunk,
        digest=digest,
        change=change,
        first=ids[0],
        last=ids[-1],
        records=len(ids),
        at=now(),
    )
    session.add(made)
    try:
        session.flush()
    except IntegrityError as error:
        raise ExchangeError("request_in_progress", "The same chunk is being imported.", headers={"Retry-After": "1"}) from error
    record(session, _entry(made, dataset, caller))
    items = [{"id": new.id, "withdrawal_code": code} for new, code in zip(records, codes, strict=True)]
    return _told(made) | {"repeated": False, "items": items}


def progress(session: Session, owner: str, name: str) -> dict[str, Any]:
    """How far an import has come. Raises `not_found`."""
    mine = (ImportedChunk.owner == owner, ImportedChunk.name == name)
    numbers = session.scalars(select(ImportedChunk.chunk).where(*mine).order_by(ImportedChunk.chunk)).all()
    if not numbers:
        raise ExchangeError("not_found")
    records = session.scalar(select(func.sum(ImportedChunk.records)).where(*mine))
    following = next((place for place, number in enumerate(numbers) if place != number), len(numbers))
    return {"name": name, "chunks": len(numbers), "records": records, "next": following}


def _records(session: Session, body: Chunk, dataset: DatasetView, state: Any) -> tuple[list[New], list[str | None]]:
    scheme, at = scheme_of(dataset), now()
    if body.given_by not in FIRST[body.state]:
        raise Invalid([{"pointer": "/given_by", "detail": "refuses for nobody: subject or guardian"}])
    check_recipients(body.recipients, state.identity)
    check_not_to_itself(body.given_by, body.recipients, dataset)
    for place, said in enumerate(body.consents):
        check_subject(scheme, said.subject, f"/consents/{place}/subject")
        check_times(said.valid_from, said.valid_until, at, f"/consents/{place}")
    key = state.keys.secret("subject_index")
    srefs = srefs_of(session, key.id, key.value, dataset.owner_id, scheme, [said.subject for said in body.consents], hold=True)
    receipts = Receipts(state)
    records: list[New] = []
    codes: list[str | None] = []
    terms = shown_terms(session, body.notice, dataset, body.purposes, body.recipients, (at, None))
    for said in body.consents:
        code, stored = receipts.code() if body.codes and body.state == "given" else (None, None)
        evidence = said.evidence.model_dump() if said.evidence else None
        own = terms.valid(said.valid_from or at, said.valid_until)
        records.append(New(id=new_id("cns"), sref=srefs[said.subject], terms=own, evidence=evidence, code=stored))
        codes.append(code)
    return records, codes


def _told(done: ImportedChunk) -> dict[str, Any]:
    return {"name": done.name, "chunk": done.chunk, "records": done.records, "change": done.change}


def _entry(made: ImportedChunk, dataset: DatasetView, caller: Principal) -> Entry:
    return Entry(
        kind="consent",
        action="imported",
        actor=caller.actor,
        organization=caller.organization_id,
        dataset=dataset.slug,
        change=made.change,
        detail={"import": made.name, "chunk": str(made.chunk), "consents": str(made.records), "first": made.first, "last": made.last},
        provider=dataset.owner_id,
    )
