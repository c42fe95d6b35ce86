"""The feed of an organization: what others did that concerns it, written in the transaction in which it happened.

Its order is that of the changes. Their counter is held from the first number that a transaction takes until it commits, so no notice
appears before one that a reader has passed already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from gateway.changes import Change, note
from gateway.database import new_id, now
from gateway.notices.models import Notice
from gateway.waiting import Waiting

Type = Literal[
    "client.pending",
    "contract.active",
    "contract.ended",
    "contract.proposed",
    "contract.suspended",
    "erasure.requested",
    "policy.changed_for_you",
    "schema.published",
]
CHANGE = "notice_written"
"""The kind of the change that each notice comes with; its object is the organization."""
MOST = 100
"""Notices of one answer."""


def notify(
    session: Session,
    organization_id: str,
    type: Type,  # noqa: A002 - as CloudEvents names it
    data: Mapping[str, Any],
    *,
    must_acknowledge_by: datetime | None = None,
) -> Notice:
    """Tell an organization something, in the caller's transaction: what happened and the notice of it are durable together.

    `data` holds identifiers and never a person's. That of `erasure.requested` names the `dataset`, over which the organization's
    contracts are suspended if the notice is not acknowledged in time (`gateway/contracts/unacknowledged.py`).
    """
    notice = Notice(
        n=note(session, CHANGE, organization_id),
        id=new_id("ntf"),
        organization_id=organization_id,
        type=type,
        data=dict(data),
        at=now(),
        must_acknowledge_by=must_acknowledge_by,
    )
    session.add(notice)
    session.flush()
    return notice


def read_after(session: Session, organization_id: str, n: int) -> Sequence[Notice]:
    """The next notices of this organization after number `n`, a hundred at most."""
    mine = select(Notice).where(Notice.organization_id == organization_id, Notice.n > n)
    return session.scalars(mine.order_by(Notice.n).limit(MOST)).all()


def newest(session: Session, organization_id: str) -> int:
    """The number of this organization's last notice; 0 if it has none."""
    return session.scalar(select(func.max(Notice.n)).where(Notice.organization_id == organization_id)) or 0


def forget_old(session: Session, before: datetime) -> None:
    """Delete what was told before this instant, save what is still to be acknowledged."""
    settled = or_(Notice.must_acknowledge_by.is_(None), Notice.acknowledged_at.is_not(None), Notice.lapsed_at.is_not(None))
    session.execute(delete(Notice).where(Notice.at < before, settled))


class Feed:
    """Who waits for a notice, and how far each organization's feed reaches as this process knows it."""

    def __init__(self) -> None:
        self._reaches: dict[str, int] = {}
        self._waiting = Waiting()

    def on_changes(self, _session: Session, changes: Sequence[Change]) -> None:
        """Wake those whom these changes tell something."""
        for change in changes:
            if change.kind == CHANGE:
                self._reaches[change.object] = change.n
                self._waiting.wake(change.object)

    async def wait_beyond(self, organization_id: str, n: int, seconds: float) -> None:
        """Return once the organization has a notice after number `n`, or after these seconds. Holds no thread."""
        await self._waiting.until(lambda: self._reaches.get(organization_id, 0) > n, organization_id, seconds)

    def stop(self) -> None:
        """Let go all who wait: the process is about to end."""
        self._waiting.stop()


def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.notices
    return feed


LiveFeed = Annotated[Feed, Depends(_feed)]
