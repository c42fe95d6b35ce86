"""Whether the database has what is remembered outside it, or went back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.changes import ChangeRow
from gateway.remembered.kinds import RESTORED
from gateway.remembered.place import Remembered

AT_ONCE = 500
"""Rows of one statement; SQLite's limit is on parameters."""


class DatabaseWentBack(Exception):
    """The database lacks changes that are remembered outside it: `missing` of those that were looked at, the first being `first`."""

    def __init__(self, where: str, missing: int, first: int) -> None:
        super().__init__(
            f"database_went_back: the database lacks {missing} or more changes that {where} remembers, from change {first} on. "
            "It was restored, or failed over to a standby that was behind. Run `exchange restore`, which applies again what they forbade.",
        )


class Standing(Enum):
    """Of the database, as this process knows it."""

    UNKNOWN = "unknown"
    """The place did not answer yet: nothing is delivered."""
    WHOLE = "whole"
    WENT_BACK = "went_back"
    """For good: what this process has in memory is of a history that the database does not have."""


def lacking(session: Session, entries: Iterable[Remembered]) -> list[Remembered]:
    """Which of these, oldest first, the database lacks: it has another change under the number, or none.

    What is older than a finished restoration that the database has is settled, in whatever way.
    """
    missing: list[Remembered] = []
    remaining = iter(entries)
    while group := list(islice(remaining, AT_ONCE)):
        rows = select(ChangeRow.n, ChangeRow.kind, ChangeRow.object).where(ChangeRow.n.in_({entry.n for entry in group}))
        has = {(n, kind, object_) for n, kind, object_ in session.execute(rows)}
        for entry in group:
            if (entry.n, entry.kind, entry.object) not in has:
                missing.append(entry)
            elif entry.kind == RESTORED:
                missing.clear()
    return missing


def require_whole(session: Session, where: str, tail: Sequence[Remembered]) -> None:
    """Raises `DatabaseWentBack` if the database lacks any of the last entries of the place."""
    missing = lacking(session, tail)
    if missing:
        raise DatabaseWentBack(where, len({entry.n for entry in missing}), missing[0].n)


def reached(entries: Iterable[Remembered]) -> int:
    """Up to which change all are remembered; 0 if there is no mark."""
    return max((entry.n for entry in entries if entry.mark), default=0)
