"""What the rooms have in common that say what is remembered of a change, and apply it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from gateway.changes import Change
from gateway.keys import Keys
from gateway.remembered.place import Remembered


@dataclass(frozen=True, slots=True)
class Redoing:
    """One transaction of a restoration. `erased` are the subjects that are erased in the course of it."""

    session: Session
    keys: Keys
    erased: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What applying it again came to: the number of the last change that it took, or None where all stood as it should;
    and what somebody must do by hand, one sentence each.
    """

    change: int | None = None
    by_hand: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of change. Those of one `room` about one object are applied again together: the last says how it was left.

    `describe` gives what is remembered, in parts, each less than the log's largest event. `reapply` is given what is remembered
    of one object, oldest first.
    """

    room: str
    describe: Callable[[Session, Change], Sequence[Mapping[str, Any]]]
    reapply: Callable[[Redoing, Sequence[Remembered]], Outcome]


AS_IT_WAS = Outcome()


def last_redo(entries: Sequence[Remembered]) -> Mapping[str, Any] | None:
    """How the object was left."""
    return entries[-1].redo


def restored(entries: Sequence[Remembered]) -> dict[str, str]:
    """For the audit entry: which change this applies again."""
    return {"restored": str(entries[-1].n)}
