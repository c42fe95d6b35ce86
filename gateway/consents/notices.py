"""Notices of consent: written by a dataset's owner, read by anybody, and what a record must fit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from consent.models import Notice, NoticeVersion
from consent.notices import Content, locked, publish, revise, same_terms, uncovered, version
from consent.records import ANY_RECIPIENT, Terms
from gateway.audit.record import Entry, record
from gateway.catalog.directory import DatasetView
from gateway.catalog.directory import Directory as Catalog
from gateway.consents.documents import NewNotice, NoticeContent, NoticeReference
from gateway.consents.visible import owned, scheme_of
from gateway.database import new_id, now, rfc3339
from gateway.errors import ExchangeError, Invalid
from gateway.identity.directory import Directory as People
from gateway.identity.principal import Principal


def write(session: Session, body: NewNotice, caller: Principal, catalog: Catalog, people: People) -> NoticeVersion:
    """A new notice. Raises `not_found`, `Invalid` for a dataset without subjects or an unknown recipient."""
    dataset = owned(body.dataset, caller, catalog)
    scheme_of(dataset)
    check_recipients(body.recipients, people)
    made = publish(session, new_id("ntc"), dataset.slug, _content(body), now())
    record(session, _entry("notice_written", made, dataset, caller))
    return made


def rewrite(session: Session, notice_id: str, body: NoticeContent, caller: Principal, catalog: Catalog, people: People) -> NoticeVersion:
    """The next version of a notice. Raises `not_found`, `Invalid`."""
    notice = locked(session, notice_id)
    dataset = owned(notice.dataset, caller, catalog) if notice else None
    if notice is None or dataset is None:
        raise ExchangeError("not_found")
    check_recipients(body.recipients, people)
    made = revise(session, notice, _content(body), now())
    record(session, _entry("notice_changed", made, dataset, caller))
    return made


def shown_terms(
    session: Session,
    reference: NoticeReference,
    dataset: DatasetView,
    purposes: Sequence[str],
    recipients: Sequence[str],
    validity: tuple[datetime, datetime | None],
) -> Terms:
    """The terms of a record under this notice. Raises `Invalid` with each place that does not fit it.

    A version is good while it is the newest, or one that differs from the newest in its words only.
    """
    notice, shown = session.get(Notice, reference.id), version(session, reference.id, int(reference.version))
    if notice is None or notice.dataset != dataset.slug:
        raise Invalid([{"pointer": "/notice/id", "detail": "is no notice of this dataset; POST /v1/notices-of-consent makes one"}])
    newest = version(session, notice.id, notice.current)
    if shown is None:
        raise Invalid([{"pointer": "/notice/version", "detail": f"is no version of this notice; the newest is {notice.current}"}])
    if newest is None or not same_terms(shown, newest):
        raise Invalid([{"pointer": "/notice/version", "detail": f"is superseded: the person must be shown version {notice.current}"}])
    beyond = uncovered(shown, purposes, recipients)
    errors = [
        {"pointer": f"/{member}/{place}", "detail": "is not in the notice that the person was shown"}
        for member, places in zip(("purposes", "recipients"), beyond, strict=True)
        for place in places
    ]
    if errors:
        raise Invalid(errors)
    return Terms(
        dataset=dataset.slug,
        purposes=purposes,
        recipients=recipients,
        notice=reference.model_dump(),
        valid_from=validity[0],
        valid_until=validity[1],
        legal_ground=shown.legal_ground,
        covers_earlier=shown.covers_earlier,
    )


def check_recipients(recipients: Sequence[str], people: People) -> None:
    """Raises `Invalid` for each that is neither an organization nor `any_recipient`."""
    unknown = [n for n, name in enumerate(recipients) if name != ANY_RECIPIENT and people.organization(name) is None]
    if unknown:
        raise Invalid([{"pointer": f"/recipients/{n}", "detail": f"is no organization; or {ANY_RECIPIENT}"} for n in unknown])


def show_version(session: Session, dataset: str, shown: NoticeVersion) -> dict[str, Any]:
    """A version, as anybody may read it."""
    before = version(session, shown.notice_id, shown.number - 1)
    return {
        "id": shown.notice_id,
        "version": str(shown.number),
        "dataset": dataset,
        "title": shown.title,
        "text": shown.text,
        "text_digest": shown.text_digest,
        "purposes": shown.purposes,
        "recipients": shown.recipients,
        "legal_ground": shown.legal_ground,
        "covers_earlier": shown.covers_earlier,
        "asks_anew": before is None or not same_terms(before, shown),
        "created_at": rfc3339(shown.created_at),
    }


def _content(body: NoticeContent) -> Content:
    return Content(
        title=body.title.model_dump(),
        text=body.text.model_dump(),
        purposes=body.purposes,
        recipients=body.recipients,
        legal_ground=body.legal_ground,
        covers_earlier=body.covers_earlier,
    )


def _entry(action: str, made: NoticeVersion, dataset: DatasetView, caller: Principal) -> Entry:
    return Entry(
        kind="consent",
        action=action,
        actor=caller.actor,
        organization=caller.organization_id,
        dataset=dataset.slug,
        detail={
            "notice": made.notice_id,
            "version": str(made.number),
            **{f"text_{name}": digest for name, digest in made.text_digest.items()},
        },
        provider=dataset.owner_id,
    )
