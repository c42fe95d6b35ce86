"""Preview: what a revision would change, before it does: every contract in force and the decisions of the last days, replayed.

It runs in a thread of its own, one at a time in a process, in child processes, and tells how far it is. What it found is kept with the
revision, and approval names it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from gateway.access.decision import PolicyUnavailable
from gateway.access.desk import Desk, Obligations, contracts_in_force, digest_of_contracts
from gateway.access.draft import locked
from gateway.access.models import DecisionRow, PolicyPreview
from gateway.access.replay import Answer, Sides, both_sides, change_of, fields_changed, reader_facts
from gateway.access.revisions import active, modules_of, sheets_of
from gateway.access.vetting import vet
from gateway.contracts.directory import ContractView
from gateway.database import now
from gateway.errors import ExchangeError
from gateway.identity.principal import Principal

log = structlog.get_logger(__name__)

MOST_ASKED = 50_000
"""Decisions of which no two were made on the same facts. It bounds memory; what was left out is told."""
MOST_GROUPS = 500
AT_ONCE = 1000
BEAT_S = 0.5
SILENT = timedelta(seconds=60)
"""A preview that has not told anything for so long has died with its replica."""


class Previews:
    """The previews that this process makes. `desk` is that of the process."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._worker = ThreadPoolExecutor(1, "policy-preview")
        self._stopping = threading.Event()

    def begin(self, revision_id: str, days: int, caller: Principal) -> PolicyPreview:
        """Begin one, and return it as it stands. Raises `not_found`, `illegal_state`, `policy_refused` for files that nobody can ask."""
        with self._desk.database.transaction() as session:
            revision = locked(session, revision_id, "preview")
            against = active(session)
            if against is None:
                raise ExchangeError("illegal_state", "No revision is active.", legal=[])
            last = session.scalar(select(func.max(PolicyPreview.number)).where(PolicyPreview.revision_id == revision_id)) or 0
            at = now()
            preview = PolicyPreview(
                revision_id=revision_id,
                number=last + 1,
                state="running",
                days=days,
                done=0,
                total=0,
                asked_by=caller.actor,
                asked_at=at,
                beat_at=at,
                digest=revision.digest,
                against=against.id,
                contracts_digest="",
            )
            session.add(preview)
            session.flush()
            work = (revision_id, preview.number, dict(against.files), dict(revision.files), days, against.id)
        self._worker.submit(self._run, *work)
        return preview

    def finish(self) -> None:
        """Return when all that were begun here are done."""
        self._worker.submit(lambda: None).result()

    def stop(self) -> None:
        """What is under way gives up at its next step."""
        self._stopping.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _run(self, revision_id: str, number: int, before: dict[str, str], after: dict[str, str], days: int, against: str) -> None:
        try:
            replaying = _Replaying(self._desk, revision_id, number, self._stopping)
            self._keep(
                revision_id, number, "done", result=replaying.run(before, after, days, against), contracts=replaying.contracts_digest
            )
        except PolicyUnavailable as error:
            self._keep(revision_id, number, "failed", problem=str(error))
        except Exception as error:
            log.exception("preview_failed", revision=revision_id, number=number)
            self._keep(revision_id, number, "failed", problem=type(error).__name__)

    def _keep(
        self,
        revision_id: str,
        number: int,
        state: str,
        *,
        result: dict[str, Any] | None = None,
        problem: str | None = None,
        contracts: str = "",
    ) -> None:
        with self._desk.database.transaction() as session:
            preview = session.get_one(PolicyPreview, (revision_id, number))
            preview.state, preview.result, preview.problem, preview.beat_at = state, result, problem, now()
            preview.contracts_digest = contracts
            if state == "done":
                preview.done = preview.total


def read_preview(session: Session, revision_id: str, number: int) -> PolicyPreview:
    """The preview as it stands; one whose replica has died has failed. Raises `not_found`."""
    found = session.get(PolicyPreview, (revision_id, number))
    if found is None:
        raise ExchangeError("not_found")
    if found.state == "running" and found.beat_at < now() - SILENT:
        found.state, found.problem = "failed", "The replica that was at work on it has ended: ask for another one."
    return found


class _Replaying:
    """One preview at work."""

    def __init__(self, desk: Desk, revision_id: str, number: int, stopping: threading.Event) -> None:
        self._desk = desk
        self._stopping = stopping
        self._key = (revision_id, number)
        self._done = self._total = 0
        self._told = 0.0
        self.contracts_digest = ""

    def run(self, before: Mapping[str, str], after: Mapping[str, str], days: int, against: str) -> dict[str, Any]:
        """What is kept of it. Raises `PolicyUnavailable`."""
        if problems := vet(modules_of(after), sheets_of(after)):
            raise PolicyUnavailable("; ".join(problems[:5]))
        at = now()
        with self._desk.database.reading() as session:
            contracts = contracts_in_force(session)
            recorded, count = self._recorded(session, at - timedelta(days=days))
        self.contracts_digest = digest_of_contracts(contracts)
        self._total = 2 * len(contracts) + len(recorded)
        self._tell()
        with both_sides(before, after, twice=True) as sides:
            changed = self._contracts(sides, contracts, at)
            decisions = self._decisions(sides, recorded, against)
        return {
            "at": at.isoformat(),
            "contracts": {"in_force": len(contracts), "changed": changed},
            "decisions": {
                "days": days,
                "recorded": count,
                "replayed": sum(each.count for each in recorded),
                "otherwise": sum(group["decisions"] for group in decisions),
                "changed": decisions[:MOST_GROUPS],
            },
        }

    def _recorded(self, session: Session, since: datetime) -> tuple[list[Recorded], int]:
        """Those since then, and how many they are. Facts that differ by their time alone are asked once, at the newest."""
        columns = (DecisionRow.facts, DecisionRow.revision, DecisionRow.allow, DecisionRow.reasons, DecisionRow.obligations)
        # Identifiers are in the order of time, and have an index.
        wanted = select(*columns).where(DecisionRow.at >= since).order_by(DecisionRow.id.desc())
        found: dict[bytes, Recorded] = {}
        count = 0
        for part in session.execute(wanted, execution_options={"yield_per": AT_ONCE}).partitions():
            for text, revision, allow, reasons, obligations in part:
                facts = orjson.loads(text)
                name = orjson.dumps({**facts, "at": ""}, option=orjson.OPT_SORT_KEYS)
                held = found.get(name)
                if held is None and len(found) < MOST_ASKED:
                    held = found[name] = Recorded(facts, revision, {"allow": allow, "reasons": reasons, "obligations": obligations})
                if held is not None:
                    held.count += 1
            count += len(part)
            self._advance(0)
        return list(found.values()), count

    def _contracts(self, sides: Sides, contracts: Sequence[ContractView], at: datetime) -> list[dict[str, Any]]:
        desk = self._desk
        facts = {each.id: made for each in contracts if (made := reader_facts(each, desk.catalog, desk.people, at)) is not None}
        asked = [each for each in contracts if each.id in facts]
        pairs = sides.ask([facts[each.id] for each in asked], self._advance)
        changed = [(each, *pair) for each, pair in zip(asked, pairs, strict=True) if change_of(*pair) is not None]
        counts: dict[str, Mapping[str, Any]] = {}
        begun = self._done
        for slug in dict.fromkeys(each.dataset_slug for each, _, _ in changed):
            of_dataset = [(each, _passing(one), _passing(other)) for each, one, other in changed if each.dataset_slug == slug]
            dataset = desk.catalog.get(slug)
            assert dataset is not None
            reached = partial(self._of_next, begun, len(of_dataset))
            counted = desk.count_events(dataset, of_dataset, reached)
            counts |= {each.id: told for (each, _, _), told in zip(of_dataset, counted, strict=True)}
            begun += len(of_dataset)
        self._reached(begun + len(contracts) - len(changed))
        return [self._contract(each, one, other, counts[each.id]) for each, one, other in changed]

    def _contract(self, contract: ContractView, before: Answer, after: Answer, events: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "contract": contract.id,
            "dataset": contract.dataset_slug,
            "purpose": contract.purpose,
            "provider": self._named(contract.provider_id),
            "consumer": self._named(contract.consumer_id),
            "change": change_of(before, after),
            "before": _shown(before),
            "after": _shown(after),
            "fields": fields_changed(before, after),
            "events": dict(events),
        }

    def _named(self, organization_id: str) -> dict[str, str]:
        found = self._desk.people.organization(organization_id)
        return {"id": organization_id, "name": found.name if found else organization_id}

    def _decisions(self, sides: Sides, recorded: Sequence[Recorded], against: str) -> list[dict[str, Any]]:
        """Decisions that would come out otherwise: those of one organization, dataset, purpose and reasons together.

        What the revision in force has answered itself is not asked again.
        """
        known = [each for each in recorded if each.revision == against]
        others = [each for each in recorded if each.revision != against]
        answers = sides.ask_after([each.facts for each in known], self._advance)
        pairs = [(each.answer, answer) for each, answer in zip(known, answers, strict=True)]
        pairs += sides.ask([each.facts for each in others], self._advance)
        groups: dict[str, dict[str, Any]] = {}
        for each, (one, other) in zip((*known, *others), pairs, strict=True):
            facts = each.facts
            if (what := change_of(one, other)) is None:
                continue
            group = {
                "action": facts.get("action"),
                "organization": (facts.get("organization") or {}).get("id"),
                "dataset": (facts.get("dataset") or {}).get("slug"),
                "purpose": (facts.get("purpose") or {}).get("code"),
                "change": what,
                "before": _shown(one),
                "after": _shown(other),
            }
            name = json.dumps([group, one["obligations"], other["obligations"]], sort_keys=True)
            groups.setdefault(name, group | {"decisions": 0})["decisions"] += each.count
        return sorted(groups.values(), key=lambda group: -group["decisions"])

    def _advance(self, done: int) -> None:
        self._reached(self._done + done)

    def _of_next(self, begun: int, more: int, share: float) -> None:
        self._reached(begun + int(share * more))

    def _reached(self, done: int) -> None:
        self._done = done
        if self._stopping.is_set():
            raise PolicyUnavailable("the replica that was at work on it was stopped: ask for another one")
        if time.monotonic() - self._told > BEAT_S:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        with self._desk.database.transaction() as session:
            preview = session.get_one(PolicyPreview, self._key)
            preview.done, preview.total, preview.beat_at = min(self._done, self._total), self._total, now()


def _passing(answer: Answer) -> Obligations | None:
    return tuple(answer["obligations"]) if answer["allow"] else None


def _shown(answer: Answer) -> dict[str, Any]:
    return {"allow": answer["allow"], "reasons": answer["reasons"], "obligations": answer["obligations"]}


@dataclass(slots=True)
class Recorded:
    """Facts that decisions were made on, the newest of them, what it said, and how many there are."""

    facts: dict[str, Any]
    revision: str
    answer: Answer
    count: int = 0
