"""Grounds: under what a contract is allowed now, for who asks without reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from gateway.access.decide import Access
from gateway.access.models import DecisionRow
from gateway.access.revisions import active
from gateway.contracts.directory import ContractView
from gateway.contracts.models import Contract
from gateway.database import now
from gateway.errors import ExchangeError


@dataclass(frozen=True, slots=True)
class Standing:
    """`kinds` of the obligations that a contract is allowed under, and the legal ground as the decision names it."""

    kinds: frozenset[str]
    ground: str


def standing(session: Session, access: Access, contract: ContractView) -> Standing | None:
    """How the contract stands under the policy of now; None if that refuses it.

    From its last decision, if that is still good; else the engine is asked; and if none answers, from its last decision all the same.
    Raises `database_unavailable`.
    """
    last = _last_decision(session, contract)
    revision = active(session)
    if last is not None and revision is not None and last.revision == revision.id and last.until > now():
        return _standing(last.allow, last.reasons, last.obligations)
    try:
        document = access.proposed_again(contract)
    except ExchangeError:
        return _standing(last.allow, last.reasons, last.obligations) if last is not None else None
    return _standing(document["allow"], document["reasons"], document["obligations"])


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
