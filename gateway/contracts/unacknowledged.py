"""Unacknowledged: who was told to erase a person's data and does not say in time that it is done receives no more of that dataset."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from gateway.contracts.models import Contract
from gateway.contracts.propose import note_act
from gateway.notices.models import Notice

REASON = "An erasure was not acknowledged in time."
AT_ONCE = 50
"""Notices that one transaction settles."""


def any_overdue(session: Session, at: datetime) -> bool:
    """True if the time of a notice of erasure is over without an acknowledgement."""
    return session.scalar(select(Notice.n).where(*_overdue(at)).limit(1)) is not None


def suspend_overdue(session: Session, at: datetime) -> int:
    """Suspend the contracts of each recipient over each dataset whose notice of erasure is overdue, and say how many there were.

    The officer alone resumes them, and may do so whatever was acknowledged: a notice suspends once. A suspension that the provider
    could lift becomes the officer's too.
    """
    # Contracts are held before notices, and both before the change counter, as by whoever else moves a contract.
    found = session.scalars(select(Notice).where(*_overdue(at)).order_by(Notice.n).limit(AT_ONCE)).all()
    contracts = {notice.id: _open_contracts(session, notice) for notice in found}
    held = session.scalars(select(Notice).where(Notice.id.in_(contracts), *_overdue(at)).with_for_update(skip_locked=True))
    suspended = 0
    for notice in held.all():
        notice.lapsed_at = at
        for contract in contracts[notice.id]:
            if contract.suspended_by != "officer":
                _suspend(session, contract, notice)
                suspended += 1
    return suspended


def _overdue(at: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        Notice.type == "erasure.requested",
        Notice.must_acknowledge_by <= at,
        Notice.acknowledged_at.is_(None),
        Notice.lapsed_at.is_(None),
    )


def _open_contracts(session: Session, notice: Notice) -> Sequence[Contract]:
    theirs = select(Contract).where(
        Contract.consumer_id == notice.organization_id,
        Contract.dataset_slug == notice.data.get("dataset"),
        Contract.state.in_(("active", "suspended")),
    )
    return session.scalars(theirs.order_by(Contract.id).with_for_update()).all()


def _suspend(session: Session, contract: Contract, notice: Notice) -> None:
    contract.state, contract.suspended_by = "suspended", "officer"
    contract.reason, contract.reason_note = REASON, f"The notice is {notice.id}."
    note_act(session, contract, "suspended", None, {"by": "officer", "reason": "erasure_not_acknowledged", "notice": notice.id})
