"""Notices of consent: what people were shown when they were asked, word for word, in versions that never change.

A version with other purposes, recipients or reach asks for new consent: a record stays tied to the version that the person saw, and
good for what that one said. A version with another text only carries the consent to the one before over.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import select
from sqlalchemy.orm import Session

from consent.models import ConsentRecord, Notice, NoticeVersion
from consent.records import ANY_RECIPIENT

LANGUAGES = ("en", "fr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a version says. `title` and `text` by language; `legal_ground`: consent, or notice_with_opt_out."""

    title: Mapping[str, str]
    text: Mapping[str, str]
    purposes: Sequence[str]
    recipients: Sequence[str]
    legal_ground: str
    covers_earlier: bool


def publish(session: Session, notice_id: str, dataset: str, content: Content, at: datetime) -> NoticeVersion:
    """A new notice, at version 1."""
    session.add(Notice(id=notice_id, dataset=dataset, current=1))
    session.flush()
    return _add(session, notice_id, 1, content, at)


def revise(session: Session, notice: Notice, content: Content, at: datetime) -> NoticeVersion:
    """The next version of a notice that the caller holds (`locked`)."""
    notice.current += 1
    return _add(session, notice.id, notice.current, content, at)


def locked(session: Session, notice_id: str) -> Notice | None:
    """The notice, held until the transaction ends, so that two versions get two numbers."""
    return session.execute(select(Notice).where(Notice.id == notice_id).with_for_update()).scalar_one_or_none()


def version(session: Session, notice_id: str, number: int) -> NoticeVersion | None:
    return session.get(NoticeVersion, (notice_id, number))


def same_terms(one: NoticeVersion, other: NoticeVersion) -> bool:
    """True if consent to one is consent to the other: only the words differ."""
    return _terms(one) == _terms(other)


def uncovered(shown: NoticeVersion, purposes: Sequence[str], recipients: Sequence[str]) -> tuple[list[int], list[int]]:
    """The places of the purposes and of the recipients that this version does not name. A person may agree to a part of a notice."""
    anybody = ANY_RECIPIENT in shown.recipients
    return (
        [place for place, purpose in enumerate(purposes) if purpose not in shown.purposes],
        [place for place, recipient in enumerate(recipients) if not anybody and recipient not in shown.recipients],
    )


def outdated(session: Session, records: Sequence[ConsentRecord]) -> set[str]:
    """The identifiers of those records whose notice has since changed in purpose, recipient or reach: the person must be asked anew."""
    asked = {found.notice["id"] for found in records if found.notice}
    newest = {
        row.notice_id: row
        for row in session.scalars(
            select(NoticeVersion)
            .join(Notice, Notice.id == NoticeVersion.notice_id)
            .where(Notice.id.in_(asked), NoticeVersion.number == Notice.current)
        )
    }
    stale = set()
    for found in records:
        now = newest.get(found.notice["id"]) if found.notice else None
        if now is None or found.notice is None or str(now.number) == found.notice["version"]:
            continue
        shown = version(session, now.notice_id, int(found.notice["version"]))
        if shown is not None and not same_terms(shown, now):
            stale.add(found.id)
    return stale


def digest_of(text: str) -> str:
    """`sha-256=:<base64>:` of the text in UTF-8, in the manner of RFC 9530."""
    return f"sha-256=:{b64encode(sha256(text.encode()).digest()).decode('ascii')}:"


def _add(session: Session, notice_id: str, number: int, content: Content, at: datetime) -> NoticeVersion:
    made = NoticeVersion(
        notice_id=notice_id,
        number=number,
        title=dict(content.title),
        text=dict(content.text),
        text_digest={language: digest_of(text) for language, text in content.text.items()},
        purposes=sorted(content.purposes),
        recipients=sorted(content.recipients),
        legal_ground=content.legal_ground,
        covers_earlier=content.covers_earlier,
        created_at=at,
    )
    session.add(made)
    session.flush()
    return made


def _terms(shown: NoticeVersion) -> tuple[list[str], list[str], str, bool]:
    return (shown.purposes, shown.recipients, shown.legal_ground, shown.covers_earlier)
