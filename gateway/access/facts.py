"""The facts of a decision: what the policy may know, gathered here and frozen, byte for byte as `schemas/policy-input.json` says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.access.decision import Action
from gateway.catalog.directory import DatasetView
from gateway.catalog.purposes import purpose as purpose_of
from gateway.contracts.directory import ContractView
from gateway.database import rfc3339
from gateway.identity.directory import Directory
from gateway.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Two equal questions have the same answer until something changes or time passes."""

    action: Action
    caller: Principal | None
    dataset: DatasetView
    purpose: str | None
    contract: ContractView | None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells this question from others; the contract's terms count, because a proposal has no identifier yet."""
        caller, who = self.caller, None
        if caller is not None:
            # A token that names contracts reads no other: one that names none is another caller than one that names another.
            named = self.contract is not None and self.contract.id in caller.contracts
            who = (caller.actor, caller.strong, caller.roles, bool(caller.contracts), named)
        return (self.action, who, self.dataset.slug, self.purpose, self.contract)

    @property
    def depends_on(self) -> frozenset[str]:
        """The objects whose change makes the answer stale."""
        named = {self.dataset.slug, self.dataset.owner_id}
        if self.caller:
            named |= {self.caller.actor, self.caller.organization_id}
        if self.contract:
            named |= {self.contract.id, self.contract.provider_id, self.contract.consumer_id}
        return frozenset(named)


def gather(question: Question, people: Directory, at: datetime) -> dict[str, Any]:
    """The facts of this question at this time, as JSON values."""
    dataset, owner = question.dataset, people.organization(question.dataset.owner_id)
    return {
        "action": question.action,
        "at": rfc3339(at.replace(microsecond=0)),
        "client": _client(question, people),
        "organization": _organization(question, people),
        "dataset": {
            "slug": dataset.slug,
            "owner": dataset.owner_id,
            "owner_standing": owner.standing if owner else "unknown",
            "classification": dataset.classification,
            "licence_revoked": dataset.licence_revoked,
            "has_subject": dataset.subject_pointer is not None,
            "retired": False,
        },
        "purpose": _purpose(question.purpose),
        "contract": _contract(question.contract),
    }


def _client(question: Question, people: Directory) -> dict[str, Any] | None:
    caller = question.caller
    if caller is None:
        return None
    client = people.client(caller.client_id)
    # A person is authenticated only while in good standing; whoever is neither is unknown, which the policy denies.
    standing = "active" if caller.person else client.standing if client else "unknown"
    return {
        "id": caller.actor,
        "organization": caller.organization_id,
        "standing": standing,
        "strong": caller.strong,
        "roles": sorted(caller.roles),
        "contracts": sorted(caller.contracts),
    }


def _organization(question: Question, people: Directory) -> dict[str, Any] | None:
    organization = people.organization(question.caller.organization_id) if question.caller else None
    return {"id": organization.id, "kind": organization.kind, "standing": organization.standing} if organization else None


def _purpose(code: str | None) -> dict[str, Any] | None:
    found = purpose_of(code) if code else None
    return {"code": found.code, "broader": list(found.broader)} if found else None


def _contract(contract: ContractView | None) -> dict[str, Any] | None:
    if contract is None:
        return None
    return {
        "id": contract.id,
        "state": contract.state,
        "provider": contract.provider_id,
        "consumer": contract.consumer_id,
        "purpose": contract.purpose,
        "valid_from": rfc3339(contract.valid_from.replace(microsecond=0)),
        "valid_until": rfc3339(contract.valid_until.replace(microsecond=0)),
        "taken_up_offer": contract.offer_id is not None,
    }
