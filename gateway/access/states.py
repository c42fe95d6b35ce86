"""The states of a revision, and which moves are legal in each."""

from __future__ import annotations

from typing import Literal

from gateway.access.models import PolicyRevision
from gateway.errors import ExchangeError

State = Literal["draft", "proposed", "approved", "activating", "active", "retired"]
Move = Literal["edit", "propose", "preview", "approve", "activate", "retire"]

LEGAL: dict[str, tuple[Move, ...]] = {
    "draft": ("edit", "propose", "preview", "retire"),
    "proposed": ("preview", "approve", "retire"),
    # A preview that another activation has made stale is made again, and approved again.
    "approved": ("preview", "approve", "activate", "retire"),
    "activating": ("activate",),
    "active": ("activate",),
    "retired": (),
}


def legal(revision: PolicyRevision) -> tuple[Move, ...]:
    """The moves that are possible now. A retired revision that was active once may be again: that is going back."""
    if revision.state == "retired" and revision.activated_at is not None:
        return ("preview", "activate")
    return LEGAL[revision.state]


def require(revision: PolicyRevision, move: Move) -> None:
    """Raises `illegal_state`."""
    if move not in legal(revision):
        raise ExchangeError("illegal_state", f"It is {revision.state}.", legal=list(legal(revision)))
