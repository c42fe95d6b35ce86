"""Erasure: a subject's row, keys and consent are gone, and with them everything that led from events to the person.

What stays is the `sref`, which stands in events that cannot be taken back, on the list of those that reach nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import BigInteger, LargeBinary, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from consent.models import Base, ConsentRecord, Subject
from consent.sealing import SubjectKey
from consent.subjects import as_bytes, as_text

ERASED = "subject_erased"
"""The kind of the change; its object is `<dataset> <sref>`."""


class ErasedSubject(Base):
    """An `sref` that stands in events still and means nobody any more: what is stored under it reaches nobody.

    `change` is the number of the change by which it was erased.
    """

    __tablename__ = "erased_subjects"
    sref: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    change: Mapped[int] = mapped_column(BigInteger)


def locked(session: Session, sref: str) -> bool:
    """Hold the subject's row until the transaction ends; False if it is gone, because somebody else was faster."""
    held = select(Subject.sref).where(Subject.sref == as_bytes(sref)).with_for_update()
    return session.execute(held).scalar_one_or_none() is not None


def erase(session: Session, sref: str, *, change: int) -> None:
    """Erase the subject, in all datasets of its provider. Idempotent: what a restored database brought back is erased again.

    `change` is the number of the change that the caller has noted for it.
    """
    row = as_bytes(sref)
    for table in (SubjectKey, ConsentRecord, Subject):
        session.execute(delete(table).where(table.sref == row))
    if session.get(ErasedSubject, row) is None:
        session.add(ErasedSubject(sref=row, change=change))
    session.flush()


class Named(Protocol):
    """A change, as far as erasure reads it."""

    @property
    def kind(self) -> str: ...
    @property
    def object(self) -> str: ...


class ErasedSubjects:
    """Every `sref` that means nobody any more, in memory: `load` once, then `on_changes`."""

    def __init__(self) -> None:
        self.srefs: set[str] = set()
        """One set for good: others hold on to it."""

    def load(self, session: Session) -> None:
        """Read them all."""
        self.srefs.update(map(as_text, session.execute(select(ErasedSubject.sref)).scalars()))

    def on_changes(self, changes: Sequence[Named]) -> set[str]:
        """Apply what concerns erasure, and return who is erased by it."""
        gone = erased_by(changes)
        self.srefs |= gone
        return gone


def erased_by(changes: Sequence[Named]) -> set[str]:
    """Who is erased by these changes, by `sref`."""
    return {change.object.split(" ")[1] for change in changes if change.kind == ERASED}
