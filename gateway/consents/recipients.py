"""Recipients of an erasure: who was given events of the subject's datasets, and by which names they know the person.

They are told before the keys of those names are destroyed, for afterwards nobody can make them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import isodate
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.access.fields import Refusal, period_ms
from gateway.access.lens import contract_key, pseudonym
from gateway.access.models import DecisionRow
from gateway.audit.models import AuditEntry
from gateway.contracts.models import Contract
from gateway.keys import Keys
from gateway.notices.feed import notify

ACKNOWLEDGE = timedelta(days=7)
MOST_EPOCHS = 1000
"""Pseudonyms of one period that a notice names, the latest ones."""


def tell_recipients(session: Session, keys: Keys, datasets: Sequence[str], secret: bytes, at: datetime) -> int:
    """Tell each organization that received something of these datasets, contract by contract; how many contracts that were.

    A notice names dataset and contract and the pseudonyms of the person in it, if the contract's decisions made any.
    """
    theirs = select(Contract).where(Contract.dataset_slug.in_(datasets))
    received = select(AuditEntry.number).where(AuditEntry.kind == "release", AuditEntry.contract == Contract.id).exists()
    contracts = session.scalars(theirs.where(received).order_by(Contract.id)).all()
    for contract in contracts:
        named = sorted(_pseudonyms(session, contract_key(keys, contract.id), contract, secret, at))
        data = {"dataset": contract.dataset_slug, "provider": contract.provider_id, "contract": contract.id, "pseudonyms": named}
        notify(session, contract.consumer_id, "erasure.requested", data, must_acknowledge_by=at + ACKNOWLEDGE)
    return len(contracts)


def _pseudonyms(session: Session, key: bytes, contract: Contract, secret: bytes, at: datetime) -> set[str]:
    decided = select(DecisionRow.obligations).where(
        DecisionRow.contract_id == contract.id, DecisionRow.action == "receive", DecisionRow.allow.is_(True)
    )
    periods = {period for obligations in session.scalars(decided) for period in _periods(obligations)}
    return {pseudonym(key, epoch, secret) for period in periods for epoch in _epochs(period, contract, at)}


def _periods(obligations: Sequence[dict[str, Any]]) -> Iterator[int | None]:
    """The periods of pseudonyms, in milliseconds; None: one name for good."""
    for obligation in obligations:
        if obligation["kind"] == "pseudonymise":
            try:
                yield period_ms(obligation["period"]) if obligation.get("period") else None
            except Refusal:
                continue  # it was never carried out


def _epochs(period: int | None, contract: Contract, at: datetime) -> range:
    if period is None:
        return range(1)
    last = int(at.timestamp() * 1000) // period
    first = last - MOST_EPOCHS + 1
    if contract.history != "all":
        back = timedelta() if contract.history == "none" else isodate.parse_duration(contract.history)
        begins = contract.valid_from.astimezone(UTC).timestamp() * 1000 - back // timedelta(milliseconds=1)
        first = max(first, int(begins) // period)
    return range(first, last + 1)
