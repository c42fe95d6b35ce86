"""Grounds: under what contracts are allowed now, for who asks without reading."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from gateway.access.decide import LONGEST_USE, Access
from gateway.access.models import DecisionRow
from gateway.changes import Change
from gateway.contracts.directory import ContractView
from gateway.contracts.models import Contract
from gateway.database import now
from gateway.errors import ExchangeError
from gateway.http import parse_time

MOST_KEPT = 50_000
"""Contracts in memory at most; over that they are looked up again."""


@dataclass(frozen=True, slots=True)
class Standing:
    """`kinds` of the obligations that a contract is allowed under, and the legal ground as the decision names it."""

    kinds: frozenset[str]
    ground: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is known of a contract until `until`, or until something that it depends on changes; `stands` is None if policy refuses it."""

    stands: Standing | None
    until: datetime
    depends_on: frozenset[str]


class Grounds:
    """How contracts stand. Whoever withdraws consent is told of all contracts over a dataset: each is looked up once, then kept.

    Thread-safe. `on_changes` is called in the order of the changes, before anybody relies on them.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._generation = 0
        self._kept: dict[str, _Kept] = {}

    def on_changes(self, _session: Session, changes: Sequence[Change]) -> None:
        """Forget what depended on what changed; after a change of policy, all. A consent is no ground of a contract."""
        objects = {change.object for change in changes if not change.kind.startswith("consent")}
        if not objects:
            return
        with self._lock:
            self._generation += 1
            if any(change.kind == "policy_activated" for change in changes):
                self._kept.clear()
            for contract_id in [each for each, kept in self._kept.items() if not kept.depends_on.isdisjoint(objects)]:
                del self._kept[contract_id]

    def of(self, session: Session, contracts: Sequence[ContractView]) -> dict[str, Standing]:
        """How each of these contracts stands under the policy of now, by its identifier; those that policy refuses are left out.

        From its last decision, if that is still good; else the engine is asked; and if none answers, from its last decision all the same.
        Raises `database_unavailable`.
        """
        generation, at = self._generation, now()
        known = {contract.id: kept for contract in contracts if (kept := self._kept.get(contract.id)) is not None and kept.until > at}
        unknown = [contract for contract in contracts if contract.id not in known]
        if unknown:
            found = self._look_up(session, unknown, at)
            self._keep({contract_id: kept for contract_id, kept in found.items() if kept.until > at}, generation)
            known |= found
        return {contract_id: kept.stands for contract_id, kept in known.items() if kept.stands is not None}

    def _keep(self, found: Mapping[str, _Kept], generation: int) -> None:
        with self._lock:
            # What was looked up before a change that is applied by now may be stale: then it is used once, here.
            if generation != self._generation:
                return
            if len(self._kept) + len(found) > MOST_KEPT:
                self._kept.clear()
            self._kept.update(found)

    def _look_up(self, session: Session, contracts: Sequence[ContractView], at: datetime) -> dict[str, _Kept]:
        good = self._good_decisions(session, [contract.id for contract in contracts], at)
        return {
            contract.id: _kept(contract, good[contract.id]) if contract.id in good else self._ask(session, contract)
            for contract in contracts
        }

    def _good_decisions(self, session: Session, contract_ids: Sequence[str], at: datetime) -> dict[str, DecisionRow]:
        """By contract, the last decision that allowed it under the policy of now and may still be used."""
        good = select(DecisionRow).where(
            DecisionRow.contract_id.in_(contract_ids),
            DecisionRow.allow,
            DecisionRow.revision == self._access.revision,
            DecisionRow.until > at,
        )
        return {str(row.contract_id): row for row in session.scalars(good.order_by(DecisionRow.at))}

    def _ask(self, session: Session, contract: ContractView) -> _Kept:
        last, at = _last_decision(session, contract), now()
        if last is not None and last.revision == self._access.revision and last.until > at:
            return _kept(contract, last)
        try:
            document = self._access.proposed_again(contract)
        except ExchangeError:
            # For this once: the engine may answer the next time.
            return _Kept(_standing(last.allow, last.reasons, last.obligations) if last is not None else None, at, frozenset())
        until = min(at + LONGEST_USE, parse_time(document["until"])) if document.get("until") else at + LONGEST_USE
        return _Kept(_standing(document["allow"], document["reasons"], document["obligations"]), until, _depends_on(contract))


def _kept(contract: ContractView, decision: DecisionRow) -> _Kept:
    return _Kept(_standing(decision.allow, decision.reasons, decision.obligations), decision.until, _depends_on(contract))


def _depends_on(contract: ContractView) -> frozenset[str]:
    return frozenset({contract.id, contract.dataset_slug, contract.provider_id, contract.consumer_id})


def _last_decision(session: Session, contract: ContractView) -> DecisionRow | None:
    """The last one that allowed it, or else the one that it was proposed under: a refusal is of a reader, not of the contract."""
    proposed = select(Contract.decision_id).where(Contract.id == contract.id).scalar_subquery()
    about = select(DecisionRow).where(or_(DecisionRow.contract_id == contract.id, DecisionRow.id == proposed), DecisionRow.allow)
    return session.scalars(about.order_by(DecisionRow.at.desc()).limit(1)).one_or_none()


def _standing(
    allow: bool,  # noqa: FBT001 - the decision's own member
    reasons: Sequence[Mapping[str, Any]],
    obligations: Sequence[Mapping[str, Any]],
) -> Standing | None:
    if not allow:
        return None
    grounds = dict.fromkeys(str(reason["rule"]["legal_ground"]) for reason in reasons)
    return Standing(frozenset(str(obligation["kind"]) for obligation in obligations), "; ".join(grounds))
