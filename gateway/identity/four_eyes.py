"""Four eyes: two persons, never one twice, never a program (design section 8).

Asked where one person proposes and another must approve. There is no setting that turns it off.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from gateway.database import now
from gateway.errors import ExchangeError
from gateway.identity.people_models import Person


def four_eyes(session: Session, first: str, second: str, *, wait: timedelta, at: datetime | None = None) -> None:
    """Return if `second` may approve what `first` proposed; both are actors: `per_...`, of others none may.

    They must be two persons, by provider and subject and by their employees' number; where that cannot be told, they are not. The
    second one's account and roles must have stood for `wait`, which production never makes less than 24 hours.

    Raises `second_person_needed`.
    """
    one, other = session.get(Person, first), session.get(Person, second)
    if one is None or other is None:
        raise ExchangeError("second_person_needed", "A program is nobody's second pair of eyes.")
    if other.standing != "active":
        raise ExchangeError("second_person_needed", "The second person is not in good standing.")
    if not _two_persons(one, other):
        raise ExchangeError("second_person_needed", "These two accounts are, or may be, one person's.")
    if max(other.created_at, other.roles_changed_at) > (at or now()) - wait:
        hours = round(wait.total_seconds() / 3600)
        raise ExchangeError(
            "second_person_needed", f"An account that is new, or whose roles changed, waits {hours} hours before it approves."
        )


def _two_persons(one: Person, other: Person) -> bool:
    if one.id == other.id or (one.issuer, one.subject_hash) == (other.issuer, other.subject_hash):
        return False
    if one.employee_hash is None and other.employee_hash is None:
        # One provider tells its people apart. Of two providers each may have an account of the same person.
        return one.issuer == other.issuer
    return one.employee_hash is not None and other.employee_hash is not None and one.employee_hash != other.employee_hash
