"""Propose: the consumer's act. What is asked for is checked, policy is asked, and the text that both will sign is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import isodate
from sqlalchemy.orm import Session

from gateway.audit.record import Entry, record
from gateway.catalog.directory import DatasetView, OfferView
from gateway.catalog.models import Dataset
from gateway.catalog.purposes import Purpose
from gateway.changes import note
from gateway.contracts.directory import ContractView
from gateway.contracts.documents import NewContract
from gateway.contracts.models import Contract, Signature
from gateway.contracts.text import digest_of
from gateway.database import new_id, now
from gateway.errors import ExchangeError, Invalid
from gateway.identity.principal import Principal
from gateway.notices.feed import Type, notify

YEAR = timedelta(days=365)
LONGEST = timedelta(days=3660)
CLOCKS_DIFFER = timedelta(minutes=5)
"""How far in the past `valid_from` may lie; it is then now. Events before it are what `history` is for."""
TOLD: Mapping[str, Type] = {
    "proposed": "contract.proposed",
    "activated": "contract.active",
    "resumed": "contract.active",
    "suspended": "contract.suspended",
    "ended": "contract.ended",
}
"""By what is done to a contract, the notice of it."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What policy said to the proposal: the decision's id, and its obligations."""

    decision_id: str
    obligations: Sequence[Mapping[str, Any]]


def terms_of(document: NewContract, dataset: DatasetView, purpose: Purpose, caller: Principal) -> ContractView:
    """The contract as it is proposed. Raises `Invalid` where a term does not fit, or goes beyond the offer."""
    offer = _offer(document, dataset)
    at = now()
    begins = max(_begin(document.valid_from, at), at)
    ends = document.valid_until or begins + (min(isodate.parse_duration(offer.max_validity), LONGEST) if offer else YEAR)
    errors = _faults_of_end(begins, ends) or (_beyond(offer, document, purpose, begins, ends, caller.organization_id) if offer else [])
    if errors:
        raise Invalid(errors)
    return ContractView(
        id=new_id("con"),
        state="proposed",
        provider_id=dataset.owner_id,
        consumer_id=caller.organization_id,
        dataset_slug=dataset.slug,
        purpose=purpose.code,
        valid_from=begins,
        valid_until=_to_the_millisecond(ends),
        history=document.history,
        offer_id=offer.id if offer else None,
    )


def propose(
    session: Session, terms: ContractView, dataset: DatasetView, caller: Principal, *, allowed: Allowed, text: bytes, remark: str | None
) -> Contract:
    """Store the proposal; one that takes up an offer is in force at once. Raises `illegal_state` if the dataset has changed meanwhile."""
    row = session.get_one(Dataset, dataset.slug, with_for_update={"read": True})
    if row.licence_revoked or (terms.offer_id and row.classification in {"personal", "sensitive"}):
        raise ExchangeError("illegal_state", "The dataset has changed meanwhile: its licence was revoked, or it is no longer under offers.")
    at = now()
    contract = Contract(
        id=terms.id,
        state="active" if terms.offer_id else "proposed",
        provider_id=terms.provider_id,
        consumer_id=terms.consumer_id,
        dataset_slug=terms.dataset_slug,
        purpose=terms.purpose,
        valid_from=terms.valid_from,
        valid_until=terms.valid_until,
        history=terms.history,
        note=remark,
        offer_id=terms.offer_id,
        text=text,
        text_digest=digest_of(text),
        decision_id=allowed.decision_id,
        created_at=at,
    )
    # Proposing is the consumer's act where no key must sign; an offer is the provider's, made before.
    if not dataset.needs_signatures:
        contract.signatures.append(Signature(side="consumer", by=caller.actor, at=at))
    if terms.offer_id:
        contract.signatures.append(Signature(side="provider", by=terms.offer_id, at=at))
    session.add(contract)
    session.flush()
    note_act(session, contract, "activated" if terms.offer_id else "proposed", caller, {"text_digest": contract.text_digest})
    return contract


def note_act(session: Session, contract: Contract, action: str, caller: Principal | None, detail: Mapping[str, str]) -> None:
    """The change `contract_<action>`, its audit entry, and the notices to the parties that did not do it themselves.

    All in the transaction of what was done. Without a caller: time did it.
    """
    session.flush()
    n = note(session, f"contract_{action}", contract.id)
    record(
        session,
        Entry(
            kind="contract",
            action=action,
            actor=caller.actor if caller else None,
            organization=caller.organization_id if caller else None,
            dataset=contract.dataset_slug,
            contract=contract.id,
            purpose=contract.purpose,
            decision=contract.decision_id if action in {"proposed", "activated"} else None,
            change=n,
            detail=dict(detail) | ({"offer": contract.offer_id} if contract.offer_id and action == "activated" else {}),
            provider=contract.provider_id,
            consumer=contract.consumer_id,
        ),
    )
    if action in TOLD:
        _tell(session, contract, TOLD[action], caller)


def _tell(session: Session, contract: Contract, what: Type, caller: Principal | None) -> None:
    """Tell the parties whose act it was not."""
    told = {
        "contract": contract.id,
        "dataset": contract.dataset_slug,
        "purpose": contract.purpose,
        "provider": contract.provider_id,
        "consumer": contract.consumer_id,
        "state": contract.state,
    }
    told |= {name: value for name in ("ended_reason", "reason") if (value := getattr(contract, name)) is not None}
    for party in sorted({contract.provider_id, contract.consumer_id} - {caller.organization_id if caller else None}):
        notify(session, party, what, told)


def _offer(document: NewContract, dataset: DatasetView) -> OfferView | None:
    if document.offer is None:
        return None
    offer = dataset.offers.get(document.offer)
    if offer is None:
        raise Invalid([{"pointer": "/offer", "detail": "names no offer of this dataset"}])
    if dataset.needs_signatures:
        raise Invalid([{"pointer": "/offer", "detail": "stands no longer: each contract over this dataset is signed by both sides"}])
    return offer


def _begin(asked: datetime | None, at: datetime) -> datetime:
    if asked is None:
        return at
    if asked < at - CLOCKS_DIFFER:
        raise Invalid([{"pointer": "/valid_from", "detail": "lies in the past; leave it out to begin now, and ask for `history`"}])
    if asked > at + LONGEST:
        raise Invalid([{"pointer": "/valid_from", "detail": "lies more than ten years ahead"}])
    return _to_the_millisecond(asked)


def _to_the_millisecond(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


def _faults_of_end(begins: datetime, ends: datetime) -> list[dict[str, str]]:
    if ends <= begins:
        return [{"pointer": "/valid_until", "detail": "must be later than valid_from, and than now"}]
    if ends - begins > LONGEST:
        return [{"pointer": "/valid_until", "detail": "makes it longer than ten years"}]
    return []


def _beyond(
    offer: OfferView, document: NewContract, purpose: Purpose, begins: datetime, ends: datetime, consumer: str
) -> list[dict[str, str]]:
    errors = []
    if offer.purpose not in purpose.with_broader:
        errors.append({"pointer": "/purpose", "detail": f"is not what the offer is for: {offer.purpose}, or narrower"})
    if ends - begins > isodate.parse_duration(offer.max_validity):
        errors.append({"pointer": "/valid_until", "detail": f"goes beyond the offer: {offer.max_validity} from valid_from at most"})
    if _length(document.history) > _length(offer.max_history):
        errors.append({"pointer": "/history", "detail": f"goes beyond the offer: {offer.max_history} at most"})
    if not {"anyone", "approved_organizations", consumer} & set(offer.to):
        errors.append({"pointer": "/offer", "detail": "is made to others"})
    return errors


def _length(history: str) -> timedelta:
    known = {"none": timedelta(0), "all": timedelta.max}
    return known[history] if history in known else isodate.parse_duration(history)
