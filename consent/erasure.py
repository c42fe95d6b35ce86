"""Erasure: a subject's row, keys and consent are gone, and with them everything that led from events to the person.

What stays is the `sref`, which stands in events that cannot be taken back, on the list of those that reach nobody.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, LargeBinary, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from consent.models import Base, ConsentRecord, Subject
from consent.sealing import SubjectKey
from consent.subjects import as_bytes, as_text


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


def erased(session: Session) -> set[str]:
    """Every `sref` that means nobody any more."""
    return {as_text(sref) for sref in session.execute(select(ErasedSubject.sref)).scalars()}
