"""Expiry: contracts whose time is over end by themselves."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.contracts.models import Contract
from gateway.contracts.move import end_as

AT_ONCE = 200
"""Contracts that one transaction ends."""


def expire_due(session: Session, at: datetime) -> int:
    """End the contracts whose time is over, two hundred at most, and say how many there were.

    This writes down what holds already: no decision on a contract is good beyond its `valid_until`.
    """
    due = select(Contract).where(Contract.state != "ended", Contract.valid_until <= at).limit(AT_ONCE).with_for_update(skip_locked=True)
    contracts = session.scalars(due).all()
    for contract in contracts:
        end_as(session, contract, "expired", None)
    return len(contracts)
