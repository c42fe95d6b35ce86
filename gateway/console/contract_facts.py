"""What the page of a contract shows beside its terms: history, what it receives, what was delivered by day, why something was denied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from fastapi import Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.access import api as access_api
from gateway.access.decide import Access
from gateway.access.models import DecisionRow
from gateway.audit import api as audit_api
from gateway.audit.usage import usage
from gateway.catalog import sample
from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import compile_list_validator
from gateway.console.days import MOST_DAYS, Days, by_day
from gateway.console.schema_words import Field, fields_of
from gateway.console.sharing import name_of
from gateway.console.words import Say
from gateway.contracts.directory import ContractView
from gateway.contracts.models import Contract
from gateway.contracts.states import Verb, movers, sides_of
from gateway.database import now
from gateway.errors import ExchangeError
from gateway.http import parse_time
from gateway.identity.principal import Principal

MOST_STEPS = 200
MOST_DENIALS = 10
WRITE = "contracts:write"


@dataclass(frozen=True, slots=True)
class Received:
    """What a contract receives: its fields in words, one invented event, and the schema; or why nothing, as a problem."""

    fields: Sequence[Field] = ()
    sample: Any = None
    problem: ExchangeError | None = None


def acts_of(row: Contract, caller: Principal, *, both_sign: bool) -> list[Verb]:
    """What the caller may do with it now, as `contracts.states` says; a person has no key, so that they never sign where one is needed."""
    if WRITE not in caller.scopes:
        return []
    sides = set(sides_of(caller, row))
    verbs: tuple[Verb, ...] = ("sign", "suspend", "resume", "end")
    able = [verb for verb in verbs if sides & set(movers(row, verb, both_sign=both_sign))]
    return [verb for verb in able if verb != "sign" or not both_sign]


def history_of(request: Request, session: Session, row: Contract, caller: Principal) -> list[dict[str, Any]]:
    """What was done to it, by whom and when, as the audit log has it."""
    wanted = audit_api.Search(contract=row.id, kind="contract")
    found = audit_api.search_entries(caller, session, wanted, request.app.state.tiles, request, Response(), limit=MOST_STEPS)
    people = request.app.state.identity
    return [
        {
            "action": item["entry"]["action"],
            "at": parse_time(item["at"]),
            "by": name_of(people, item["entry"]["organization"]) if item["entry"].get("organization") else None,
            "side": item["entry"].get("detail", {}).get("side"),
        }
        for item in found["items"]
    ]


def received_of(access: Access, contract: ContractView, dataset: DatasetView, say: Say) -> Received:
    """What it receives after its obligations, under the policy of now."""
    try:
        schema = access.received_schema(contract)
    except ExchangeError as refused:
        return Received(problem=refused)
    validator = compile_list_validator(schema)
    personal = {*dataset.personal_pointers, dataset.subject_pointer or ""}
    try:
        event = sample.events(dataset.slug, "sample", schema, lambda data: validator.is_valid([data]), count=1)[0]["data"]
    except ExchangeError:
        event = None
    return Received(fields_of(schema, personal, say), event)


def delivered_by_day(session: Session, contract_id: str) -> Days | None:
    """Events that left under it on the last days, as the releases in the audit log count them."""
    days = usage(session, contract_id, now() - timedelta(days=MOST_DAYS))
    return by_day({date.fromisoformat(each.day): each.events for each in days})


def denials_of(session: Session, caller: Principal, contract_id: str | None = None) -> list[dict[str, Any]]:
    """The last decisions that said no, with their reasons, to who may read them; those about one contract, if it is named."""
    asked = select(DecisionRow).where(DecisionRow.allow.is_(False))
    if contract_id is not None:
        asked = asked.where(DecisionRow.contract_id == contract_id)
    if not caller.roles & access_api.OVERSEERS:
        asked = asked.where(DecisionRow.organization_id == caller.organization_id)
    rows = session.scalars(asked.order_by(DecisionRow.id.desc()).limit(MOST_DENIALS))
    return [
        {
            "id": row.id,
            "at": row.at,
            "dataset": row.dataset_slug,
            "purpose": row.purpose,
            "reasons": [reason_told(reason) for reason in row.reasons],
        }
        for row in rows
    ]


def reason_told(reason: Mapping[str, Any]) -> dict[str, Any]:
    """{title, rule, file, line, ground} of a reason."""
    rule = reason.get("rule", {})
    return {
        "title": reason["title"],
        "rule": rule.get("title", ""),
        "file": rule.get("file", ""),
        "line": rule.get("line", ""),
        "ground": rule.get("legal_ground", ""),
    }
