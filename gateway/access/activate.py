"""Activate: let another revision answer, everywhere at once or nowhere; and back again.

The row goes to `activating` with a change that forbids. The barrier waits until every replica has dropped what it decided; each
replica's engine takes the revision and says so in a row (`report`). When all that are live have it, it is active. If one says that it
does not take it, or none has it in ten seconds, the former revision answers again, by another change at the barrier.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Any

from sqlalchemy import Row, not_, select
from sqlalchemy.orm import Session, defer

from gateway.access.models import EngineReport, PolicyPreview, PolicyRevision
from gateway.access.revisions import IN_FORCE
from gateway.access.states import require
from gateway.audit.record import Entry, record
from gateway.barrier.models import Lease
from gateway.barrier.wait import Barrier
from gateway.changes import await_again, note
from gateway.database import Database, now, rfc3339
from gateway.errors import ExchangeError
from gateway.identity.four_eyes import four_eyes
from gateway.identity.models import Organization
from gateway.identity.people_models import Person
from gateway.identity.principal import Principal
from gateway.identity.roles import holdable
from gateway.notices.feed import notify

SETTLED_S = 10.0
"""Seconds after which an activation is settled by what the engines have said until then."""
LOOK_S = 0.02
WITHOUT_CONTENT = (defer(PolicyRevision.files), defer(PolicyRevision.vetting))
"""What a revision says is long, and its state is all that is looked at."""
ROLE = "privacy_officer"

Affected = Sequence[Mapping[str, Any]]
"""The contracts for which it changes something: {contract, dataset, purpose, provider, consumer, change}."""


class Verdict(Enum):
    """What has become of an activation."""

    WAIT = "wait"
    ACTIVE = "active"
    BACK = "back"


def activate(database: Database, barrier: Barrier, revision_id: str, caller: Principal, affected: Affected, wait: timedelta) -> None:
    """Make the revision active, and return when it is. Called again while it is activating, or when it is active, it waits on.

    `wait` is that of four eyes. Raises `not_found`, `illegal_state`, `stale`, `second_person_needed`, `policy_not_taken`,
    `barrier_pending`.
    """
    until = time.monotonic() + SETTLED_S
    with database.transaction() as session:
        change = _begin(session, revision_id, caller, affected, wait)
    with barrier.places.lent():
        while (verdict := settle(database, revision_id, change, in_time=time.monotonic() < until)) is Verdict.WAIT:
            time.sleep(LOOK_S)
    if verdict is Verdict.BACK:
        with database.reading() as session:
            problem = session.get_one(PolicyRevision, revision_id).problem or {"instances": []}
        told = "; ".join(f"{each['instance']}: {each['says']}" for each in problem["instances"])
        raise ExchangeError("policy_not_taken", f"The former revision answers again. {told}", instances=problem["instances"])


def _begin(session: Session, revision_id: str, caller: Principal, affected: Affected, wait: timedelta) -> int:
    # Whoever else activates waits here for this transaction, and then sees what it did.
    session.scalars(select(PolicyRevision.id).where(PolicyRevision.state.in_(IN_FORCE)).with_for_update()).all()
    revision = session.get(PolicyRevision, revision_id, with_for_update=True)
    if revision is None:
        raise ExchangeError("not_found")
    if revision.state in IN_FORCE and revision.change is not None:
        await_again(session, revision.change)
        return revision.change
    require(revision, "activate")
    in_force = session.scalars(select(PolicyRevision).where(PolicyRevision.state.in_(IN_FORCE)).order_by(PolicyRevision.state)).all()
    if other := next((each for each in in_force if each.state == "activating"), None):
        raise ExchangeError("illegal_state", f"{other.id} is being activated at this moment.", legal=[])
    former = in_force[0]
    if revision.state == "approved":
        _check_agreement(session, revision, former, wait)
    revision.state, revision.replaces, revision.activated_by = "activating", former.id, caller.actor
    revision.problem, revision.affected = None, [dict(each) for each in affected]
    revision.change = note(session, "policy_activated", revision.id)
    record(session, entry(revision, "activate", caller, {"replaces": former.id}))
    return revision.change


def _check_agreement(session: Session, revision: PolicyRevision, former: PolicyRevision, wait: timedelta) -> None:
    """What two persons agreed on is what happens now, and they could still agree on it."""
    assert revision.proposed_by is not None
    assert revision.approved_by is not None
    for person_id in (revision.proposed_by, revision.approved_by):
        if not is_officer(session, person_id):
            raise ExchangeError("second_person_needed", "Who proposed or approved it is no privacy officer any more.")
    four_eyes(session, revision.proposed_by, revision.approved_by, wait=wait)
    seen = session.get_one(PolicyPreview, (revision.id, revision.approved_preview))
    if seen.against != former.id:
        raise ExchangeError(
            "stale",
            "Another revision became active after this one was approved, so that it would change something else than was seen.",
            hint="Ask for another preview, and have the revision approved by it.",
        )


def is_officer(session: Session, person_id: str) -> bool:
    """True if this person is a privacy officer in good standing."""
    person = session.get(Person, person_id)
    if person is None or person.standing != "active" or person.organization_id is None:
        return False
    organization = session.get_one(Organization, person.organization_id)
    roles = holdable([*person.claimed_roles, *person.granted_roles], kind=organization.kind, operates=organization.operates)
    return ROLE in roles


def report(session: Session, instance: str, revision_id: str, change: int, state: str, says: str) -> None:
    """Write down what the engine of this replica makes of the revision: `has`, `refused`, `silent`."""
    session.merge(EngineReport(instance=instance, revision_id=revision_id, change=change, state=state, says=says[:2000], at=now()))


def settle(database: Database, revision_id: str, change: int, *, in_time: bool) -> Verdict:
    """Look whether the engines have it, and write down what that comes to, once. Raises `barrier_pending` when it goes back."""
    with database.reading() as session:
        state = session.execute(select(PolicyRevision.state, PolicyRevision.change).where(PolicyRevision.id == revision_id)).one()
        if _settled(state, change):
            return Verdict.ACTIVE if state.state == "active" else Verdict.BACK
        if _judge(session, change, in_time=in_time)[0] is Verdict.WAIT:
            return Verdict.WAIT
    with database.transaction() as session:
        locked = session.get_one(PolicyRevision, revision_id, with_for_update=True, options=WITHOUT_CONTENT)
        if _settled(locked, change):
            return Verdict.ACTIVE if locked.state == "active" else Verdict.BACK
        verdict, lacking = _judge(session, change, in_time=in_time)
        if verdict is Verdict.ACTIVE:
            _finish(session, locked)
        elif verdict is Verdict.BACK:
            _go_back(session, locked, lacking)
        return verdict


def _settled(revision: PolicyRevision | Row[str, int | None], change: int) -> bool:
    return revision.state != "activating" or revision.change != change


def _judge(session: Session, change: int, *, in_time: bool) -> tuple[Verdict, list[dict[str, str]]]:
    """And the instances without it, with what each says."""
    live = set(session.scalars(select(Lease.id).where(not_(Lease.fenced))))
    reports = {each.instance: each for each in session.scalars(select(EngineReport).where(EngineReport.change == change))}
    having = {instance for instance, each in reports.items() if each.state == "has"} & live
    said = {name: each.says for name, each in reports.items()}
    lacking = [{"instance": name, "says": said.get(name, "It has said nothing.")} for name in sorted(live - having)]
    refusing = {name for name, each in reports.items() if each.state == "refused"} & live
    if refusing:
        return Verdict.BACK, [each for each in lacking if each["instance"] in refusing]
    if having == live and live:
        return Verdict.ACTIVE, []
    if in_time:
        return Verdict.WAIT, lacking
    return (Verdict.ACTIVE if having else Verdict.BACK), lacking


def _finish(session: Session, revision: PolicyRevision) -> None:
    former = session.get_one(PolicyRevision, revision.replaces, with_for_update=True, options=WITHOUT_CONTENT)
    former.state = "retired"
    revision.state, revision.activated_at = "active", now()
    record(session, entry(revision, "activated", None, {"replaces": former.id}))
    for each in revision.affected or ():
        data = {"revision": revision.id, **{name: each[name] for name in ("contract", "dataset", "purpose", "change")}}
        for organization in dict.fromkeys((each["consumer"], each["provider"])):
            notify(session, organization, "policy.changed_for_you", data)
    revision.affected = None


def _go_back(session: Session, revision: PolicyRevision, lacking: list[dict[str, str]]) -> None:
    former = session.get_one(PolicyRevision, revision.replaces, with_for_update=True, options=WITHOUT_CONTENT)
    revision.state = "approved" if revision.activated_at is None else "retired"
    revision.problem, revision.affected = {"at": rfc3339(now()), "instances": lacking}, None
    former.change = note(session, "policy_activated", former.id)
    told = {"replaces": former.id, "instances": " ".join(each["instance"] for each in lacking)}
    record(session, entry(revision, "went_back", None, told, change=former.change))


def entry(
    revision: PolicyRevision, action: str, caller: Principal | None, more: Mapping[str, str] | None = None, *, change: int | None = None
) -> Entry:
    """The audit entry of an act on a revision: each names its digest and the persons who have agreed on it until then."""
    detail = {"digest": revision.digest} | ({"state": "installed"} if revision.installed else {}) | dict(more or {})
    for name in ("proposed_by", "approved_by", "activated_by"):
        if (person := getattr(revision, name)) is not None:
            detail[name] = person
    if revision.approved_preview is not None:
        detail["preview"] = str(revision.approved_preview)
    return Entry(
        kind="policy",
        action=action,
        actor=caller.actor if caller else None,
        organization=caller.organization_id if caller else None,
        revision=revision.id,
        change=change if change is not None else revision.change if action in {"activate", "activated"} else None,
        detail=detail,
    )
