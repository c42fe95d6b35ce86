"""Withdraw: the person whom a session is for takes back a consent of theirs, without a withdrawal code."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from consent.models import ConsentRecord
from consent.records import locked
from gateway.consents.move import Told, stop
from gateway.errors import ExchangeError
from gateway.subjects.codes import Person


def withdraw(state: Any, person: Person, consent_id: str) -> dict[str, Any]:
    """When it returns, no event of this person that only this consent let pass is delivered any more; repeating it answers the same.

    {state, effective_at, still_shared, barrier}. Raises `not_found`, `illegal_state`, `barrier_pending`, `database_unavailable`.
    """

    def mine(session: Session) -> ConsentRecord:
        found = locked(session, consent_id)
        if found is None or person.sref is None or found.sref != person.sref:
            raise ExchangeError("not_found", "There is no such consent of yours.")
        return found

    return stop(state, mine, "withdrawn", None, lambda _found: Told("subject"))
