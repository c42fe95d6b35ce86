"""Decide: facts -> engine -> audit -> Decision.

A decision is computed once per question, audited when computed, and used from memory until its `until` or until
something that it depended on changes. No engine, no usable answer: the answer is no (`policy_unavailable`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, cast

import orjson
import structlog
from prometheus_client import Counter, Histogram
from sqlalchemy import Table
from sqlalchemy.orm import Session

from gateway.access.decision import Action, Answer, Decision, PolicyEngine, PolicyUnavailable
from gateway.access.facts import Question, gather
from gateway.access.lens import Refusal, received
from gateway.access.models import DecisionRow
from gateway.access.revisions import active
from gateway.access.switch import Switch
from gateway.audit.denials import Denials
from gateway.audit.record import Entry, record
from gateway.catalog.directory import DatasetView
from gateway.catalog.directory import Directory as Catalog
from gateway.changes import Change
from gateway.contracts.directory import ContractView
from gateway.database import Database, new_id, now
from gateway.errors import ExchangeError
from gateway.http import parse_time
from gateway.identity.directory import Directory
from gateway.identity.principal import Principal

log = structlog.get_logger(__name__)

LONGEST_USE = timedelta(hours=1)
"""No decision is used longer than this, whatever the policy says."""
MOST_KEPT = 50_000
"""Decisions in memory at most; over that they are computed again."""

computed = Counter("exchange_decisions_total", "Decisions computed, by action and answer.", ["action", "allow"])
unavailable = Counter("exchange_decisions_unavailable_total", "Questions that no engine answered.")
seconds = Histogram("exchange_decision_seconds", "Time of the policy engine for one decision, in seconds.")


_DECISIONS = cast(Table, DecisionRow.__table__)


class Access:
    """The decisions of this process. Thread-safe: the control plane and the stream plane ask from worker threads."""

    def __init__(self, engine: PolicyEngine, database: Database, people: Directory, catalog: Catalog, denials: Denials) -> None:
        self.engine = engine
        self._database = database
        self.people = people
        self._catalog = catalog
        self._denials = denials
        self._lock = threading.Lock()
        self._generation = 0
        self._revision: str | None = None
        """The active revision as the changes tell it: an answer by another does not count, whatever the engine does meanwhile."""
        self._kept: dict[tuple[object, ...], tuple[Decision, frozenset[str]]] = {}
        self.switch = Switch()

    @property
    def revision(self) -> str | None:
        """The active revision; None before `exchange setup`."""
        return self._revision

    def load(self, session: Session) -> None:
        """Learn the active revision, at start."""
        revision = active(session)
        self._revision = revision.id if revision else None

    def decide(
        self,
        action: Action,
        *,
        caller: Principal | None,
        dataset: DatasetView,
        purpose: str | None = None,
        contract: ContractView | None = None,
    ) -> Decision:
        """The decision on this question. Call it before the transaction of the request has begun: it writes in one of its own.

        Raises `policy_unavailable`, `policy_switching`, `database_unavailable`, `audit_unavailable`; a decision that says no is returned,
        not raised.
        """
        question = Question(action, caller, dataset, purpose, contract)
        kept = self.kept(question)
        return kept if kept is not None else self._compute(question)

    def received_schema(self, contract: ContractView) -> dict[str, Any]:
        """The JSON Schema of what this contract receives, or would if it came into force, under the policy of now.

        Raises `not_found`, `policy_denied`, `policy_unavailable`.
        """
        document = self.proposed_again(contract)
        dataset = self._catalog.get(contract.dataset_slug)
        if dataset is None:
            raise ExchangeError("not_found")
        if not document["allow"]:
            raise ExchangeError(
                "policy_denied", " ".join(reason["title"]["en"] for reason in document["reasons"]), reasons=document["reasons"]
            )
        try:
            return received(tuple(document["obligations"]), dataset)
        except Refusal as error:
            raise ExchangeError("policy_denied", "The policy asks for something that cannot be carried out on this dataset.") from error

    def proposed_again(self, contract: ContractView) -> dict[str, Any]:
        """What the policy of now says of these terms, as of a proposal by a client that authenticates by key.

        {allow, reasons, obligations, until}. It is no decision, and nothing is let through by it. Raises `not_found`, `policy_unavailable`.
        """
        dataset = self._catalog.get(contract.dataset_slug)
        if dataset is None:
            raise ExchangeError("not_found")
        consumer = Principal(
            "cli_of_the_consumer", contract.consumer_id, frozenset(), frozenset(), frozenset(), strong=True, expires_at=now(), token_id=""
        )
        question = Question("propose", consumer, dataset, contract.purpose, replace(contract, state="proposed"))
        facts = gather(question, self.people, now())
        facts["client"]["standing"] = "active"
        return self._ask(facts).document

    def would_be(self, question: Question) -> tuple[dict[str, Any], Answer]:
        """The facts of this question, and what the policy of now says of them. It is no decision. Raises `policy_unavailable`."""
        facts = gather(question, self.people, now())
        return facts, self._ask(facts)

    def kept(self, question: Question) -> Decision | None:
        """The decision in memory, if it may still be used. Proposals are never answered from memory: each is a record of its own."""
        found = self._kept.get(question.key)
        if found is None or found[0].until <= now():
            return None
        decision = found[0]
        if not decision.allow and question.caller is not None:
            self._count_denial(decision, question, question.caller)
        return decision

    def _count_denial(self, decision: Decision, question: Question, caller: Principal) -> None:
        contract = question.contract
        self._denials.count(
            caller.actor,
            question.dataset.slug,
            contract.id if contract else None,
            decision.codes,
            decision=decision.id,
            organization=caller.organization_id,
            provider=question.dataset.owner_id,
            consumer=contract.consumer_id if contract else None,
        )

    def on_changes(self, _session: Session, changes: Sequence[Change]) -> None:
        """Forget every decision that depended on what changed; after a change of policy, all."""
        objects = {change.object for change in changes}
        activated = [change.object for change in changes if change.kind == "policy_activated"]
        everything = bool(activated)
        if activated:
            self._revision = activated[-1]
            self.switch.turn_to(activated[-1])
        with self._lock:
            self._generation += 1
            stale = [key for key, (_, depends) in self._kept.items() if everything or not depends.isdisjoint(objects)]
            for key in stale:
                del self._kept[key]

    def _compute(self, question: Question) -> Decision:
        generation = self._generation
        at = now()
        facts = gather(question, self.people, at)
        answer = self._ask(facts)
        if answer.revision != self._revision:
            raise _switching()
        decision = _obey(answer, question, at, orjson.dumps(facts))
        self._store(question, decision, at)
        computed.labels(question.action, str(decision.allow).lower()).inc()
        with self._lock:
            # A change that was applied while the engine thought may have made this answer stale: then it is used once, here.
            if generation == self._generation and question.action != "propose":
                if len(self._kept) >= MOST_KEPT:
                    self._kept.clear()
                self._kept[question.key] = (decision, question.depends_on)
        return decision

    def _ask(self, facts: dict[str, object]) -> Answer:
        """Raises `policy_switching` if the engine does not take what has just become active in its time, `policy_unavailable`."""
        while True:
            if self.switch.turning and not self.switch.wait():
                raise _switching()
            try:
                return self._evaluated(facts)
            except PolicyUnavailable as error:
                if not self.switch.turning:  # else it has turned while the engine was asked
                    raise _unavailable(error) from error

    def _evaluated(self, facts: dict[str, object]) -> Answer:
        with seconds.time():
            return self.engine.evaluate(facts)

    def _store(self, question: Question, decision: Decision, at: datetime) -> None:
        caller, contract = question.caller, question.contract
        about = contract.id if contract and contract.id else None
        with self._database.one_statement() as session:
            row = {
                "id": decision.id,
                "at": at,
                "action": question.action,
                "client_id": caller.actor if caller else None,
                "organization_id": caller.organization_id if caller else None,
                "dataset_slug": question.dataset.slug,
                "contract_id": about,
                "purpose": question.purpose,
                "facts": decision.facts,
                "allow": decision.allow,
                "reasons": list(decision.reasons),
                "obligations": list(decision.obligations),
                "revision": decision.revision,
                "until": decision.until,
            }
            record(
                session,
                Entry(
                    kind="decision",
                    action=question.action,
                    actor=caller.actor if caller else None,
                    organization=caller.organization_id if caller else None,
                    dataset=question.dataset.slug,
                    contract=about,
                    purpose=question.purpose,
                    decision=decision.id,
                    revision=decision.revision,
                    detail=_told(decision),
                    provider=question.dataset.owner_id,
                    consumer=contract.consumer_id if contract else (caller.organization_id if caller else None),
                ),
                (_DECISIONS, row),
            )


def _switching() -> ExchangeError:
    return ExchangeError("policy_switching", headers={"Retry-After": "1"})


def _unavailable(error: PolicyUnavailable) -> ExchangeError:
    unavailable.inc()
    log.warning("policy_unavailable", reason=str(error))
    return ExchangeError("policy_unavailable", headers={"Retry-After": "2"})


def _obey(answer: Answer, question: Question, at: datetime, facts: bytes) -> Decision:
    document = answer.document
    until = at + LONGEST_USE
    if document.get("until"):
        until = min(until, parse_time(document["until"]))
    if question.contract is not None and question.contract.valid_until > at:
        until = min(until, question.contract.valid_until)
    return Decision(
        id=new_id("dec"),
        allow=document["allow"],
        reasons=tuple(document["reasons"]),
        obligations=tuple(document["obligations"]) if document["allow"] else (),
        revision=answer.revision,
        until=until,
        facts=facts,
    )


def _told(decision: Decision) -> dict[str, str]:
    """What the audit entry says of it: the answer, and the digests by which nobody can change later what it was made from."""
    answer = {"allow": decision.allow, "reasons": decision.reasons, "obligations": decision.obligations}
    digests = {
        "facts_digest": sha256(decision.facts).hexdigest(),
        "answer_digest": sha256(orjson.dumps(answer, option=orjson.OPT_SORT_KEYS)).hexdigest(),
    }
    if decision.allow:
        return {"answer": "allow"} | digests
    return {"answer": "deny", "reasons": " ".join(decision.codes)} | digests


def refusal_code(codes: Sequence[str]) -> str:
    """The problem code that tells the caller most: a state of the contract or a weak client before policy in general."""
    for code, wire in (
        ("contract_not_active", "contract_not_in_force"),
        ("contract_expired", "contract_not_in_force"),
        ("contract_not_yet_valid", "contract_not_in_force"),
        ("strong_client_required", "strong_client_required"),
    ):
        if code in codes:
            return wire
    return "policy_denied"
