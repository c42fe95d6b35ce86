"""What a person is shown of themselves, in names and words instead of identifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from consent.notices import version
from consent.records import ANY_RECIPIENT
from gateway.access.models import DecisionRow
from gateway.catalog.purposes import purpose
from gateway.console.days import Days, by_day
from gateway.console.sharing import grounds_of, name_of
from gateway.errors import ExchangeError
from gateway.http import parse_time
from gateway.subjects.api import following_place
from gateway.subjects.ask import Place, consents_of, disclosures_of
from gateway.subjects.codes import Person
from gateway.subjects.models import Disclosure

LIVE = frozenset({"given", "paused"})
"""The states of a consent that the person can end."""


def provider_of(state: Any, person: Person) -> str:
    """Whose subject this person is."""
    dataset = state.catalog.get(person.dataset)
    return name_of(state.identity, dataset.owner_id) if dataset else person.dataset


def consents_shown(session: Session, state: Any, person: Person) -> list[dict[str, Any]]:
    """Their consents, those that stand first."""
    found = [_consent(session, state, record) for record in consents_of(session, person)]
    return sorted(found, key=lambda consent: not consent["live"])


def disclosures_shown(
    session: Session, state: Any, person: Person, after: Place | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Who received something, from behind `after`, with the grounds of each decision; and where the next page begins."""
    found = disclosures_of(session, person, after=after, limit=limit + 1)
    following = following_place(found[limit - 1]) if len(found) > limit else None
    rows = found[:limit]
    grounds = _grounds(session, {row["decision"] for row in rows})
    return [
        {
            "day": row["day"],
            "title": _title(state, row["dataset"]),
            "recipient": row["recipient"]["name"] if row["recipient"] else None,
            "purpose": _purpose(row["purpose"]) if row["purpose"] else None,
            "grounds": grounds.get(row["decision"], []),
            "events": row["events"],
        }
        for row in rows
    ], following


def days_of(session: Session, person: Person) -> Days | None:
    """Events about them by day."""
    counted = select(Disclosure.day, func.sum(Disclosure.events)).where(Disclosure.sref == person.sref).group_by(Disclosure.day)
    return by_day({day: int(count) for day, count in session.execute(counted)})


def stopped(state: Any, act: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Carry out an act that stops something, and tell the barrier's answer so that a template can say it.

    Raises what the act raises but `barrier_pending`, which is an answer too.
    """
    try:
        done = act()
    except ExchangeError as error:
        if error.code != "barrier_pending":
            raise
        return {"pending": True}
    return {
        "pending": False,
        "state": done["state"],
        "at": parse_time(done["effective_at"]),
        "replicas": done["barrier"]["replicas"],
        "waited_ms": done["barrier"]["waited_ms"],
        "still_shared": [_still(state, shared) for shared in done["still_shared"]],
    }


def _still(state: Any, shared: Mapping[str, str]) -> dict[str, Any]:
    contract = state.contracts.get(shared["contract"])
    assert contract is not None  # it was named a moment ago, and contracts are kept for good
    return {
        "consumer": name_of(state.identity, contract.consumer_id),
        "purpose": _purpose(contract.purpose),
        "grounds": grounds_of(shared["ground"]),
    }


def _consent(session: Session, state: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": record["id"],
        "state": record["state"],
        "live": record["state"] in LIVE,
        "title": _title(state, record["dataset"]),
        "since": parse_time(record["history"][-1]["at"]) if record["history"] else None,
        "purposes": [_purpose(code) for code in record["purposes"]],
        "recipients": [name_of(state.identity, name) for name in record["recipients"] if name != ANY_RECIPIENT],
        "valid_until": parse_time(record["valid_until"]) if record["valid_until"] else None,
        "notice": _notice(session, record["notice"]),
    }


def _notice(session: Session, notice: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Word for word what the person was shown, if that is known."""
    if not notice or not str(notice.get("version", "")).isdigit():
        return None
    shown = version(session, notice["id"], int(notice["version"]))
    return shown.text if shown else None


def _grounds(session: Session, decisions: set[str]) -> dict[str, list[dict[str, str]]]:
    """By decision, the legal grounds that its reasons name."""
    rows: Sequence[DecisionRow] = session.scalars(select(DecisionRow).where(DecisionRow.id.in_(decisions))).all()
    return {row.id: grounds_of("; ".join(dict.fromkeys(reason["rule"]["legal_ground"] for reason in row.reasons))) for row in rows}


def _title(state: Any, slug: str) -> Mapping[str, str]:
    dataset = state.catalog.get(slug)
    title: Mapping[str, str] = dataset.title if dataset else {"en": slug, "fr": slug}
    return title


def _purpose(code: str) -> Mapping[str, str]:
    found = purpose(code)
    return found.title if found else {"en": code, "fr": code}
