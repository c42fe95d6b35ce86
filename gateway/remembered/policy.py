"""Policy, remembered and applied again: the revision that was active last, with its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy.orm import Session

from gateway.access.models import PolicyRevision
from gateway.access.revisions import active, install
from gateway.changes import Change, last
from gateway.errors import SettingsRefused
from gateway.remembered.place import Remembered
from gateway.remembered.redoing import AS_IT_WAS, Outcome, Redoing, last_redo
from gateway.streams.log import MAX_EVENT_BYTES

MOST_BYTES = MAX_EVENT_BYTES - 64 * 1024
"""Of a revision's files. A larger one is remembered by its digest, and activated again by hand."""


def describe(session: Session, change: Change) -> Sequence[Mapping[str, Any]]:
    """The revision with its files; it holds rules, and no data."""
    found = session.get(PolicyRevision, change.object)
    if found is None:
        return ()
    files = found.files if len(orjson.dumps(found.files)) <= MOST_BYTES else None
    told: dict[str, Any] = {"digest": found.digest, "files": files}
    if found.proposed_by is not None and found.approved_by is not None:
        told["agreed"] = {"proposed_by": found.proposed_by, "approved_by": found.approved_by}
    return (told,)


def reapply(redoing: Redoing, entries: Sequence[Remembered]) -> Outcome:
    """Make the same files the active revision, under a new identifier."""
    told = last_redo(entries)
    now_active = active(redoing.session)
    if told is None or (now_active is not None and now_active.digest == told["digest"]):
        return AS_IT_WAS
    revision = entries[-1].object
    by_hand = f"Policy revision {revision} (digest {told['digest']}) was active: draft it again from its files (exchange policy draft DIR)"
    if told["files"] is None:
        return Outcome(by_hand=(f"{by_hand}; they are too large to be remembered.",))
    change = last(redoing.session) + 1
    try:
        install(redoing.session, told["files"], agreed=told.get("agreed"))
    except SettingsRefused as refused:
        return Outcome(by_hand=(f"{by_hand}. {refused}",))
    return Outcome(change)
