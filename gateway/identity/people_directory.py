"""The persons in memory, and which of their sign-ins have ended: what the directory asks when a token is a person's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.changes import Change
from gateway.database import now
from gateway.errors import ExchangeError
from gateway.identity.people_models import Person, PersonSession
from gateway.identity.person_facts import PersonFacts
from gateway.identity.roles import holdable

if TYPE_CHECKING:
    from gateway.identity.directory import OrganizationView

LONGEST_TOKEN = timedelta(hours=1, minutes=1)
"""No access token lives longer: a sign-in that ended before that need not be remembered."""


@dataclass(frozen=True, slots=True)
class PersonView:
    """A person as they stand. `roles` are claimed and granted ones; which of them count depends on the organization."""

    id: str
    organization_id: str | None
    roles: frozenset[str]
    standing: str

    def roles_in(self, organization: OrganizationView | None) -> frozenset[str]:
        """What they may be for this organization, approved or none; everybody is a resident."""
        kind, operates = (organization.kind, organization.operates) if organization else (None, False)
        return holdable(self.roles, kind=kind, operates=operates) | {"resident"}


class PersonDirectory:
    """Loaded at start, kept by changes. Thread-safe: views are replaced, never changed."""

    def __init__(self) -> None:
        self._persons: dict[str, PersonView] = {}
        self._ended: dict[str, datetime] = {}

    def load(self, session: Session) -> None:
        """Read all, at start."""
        self._persons = {row.id: view_of(row) for row in session.scalars(select(Person))}
        ended = select(PersonSession).where(PersonSession.ended_at > now() - LONGEST_TOKEN)
        self._ended = {row.id: row.ended_at for row in session.scalars(ended) if row.ended_at is not None}

    def on_changes(self, session: Session, changes: Sequence[Change]) -> None:
        """Read again the persons that these changes are about, and note which sign-ins they ended."""
        for person_id in {change.object for change in changes if change.kind in {"person_created", "person_changed"}}:
            row = session.get(Person, person_id)
            if row is not None:
                self._persons[person_id] = view_of(row)
        at = now()
        ended = {change.object: at for change in changes if change.kind == "person_signed_out"}
        if ended:
            self._ended = {name: when for name, when in self._ended.items() if when > at - LONGEST_TOKEN} | ended

    def person(self, person_id: str) -> PersonView | None:
        return self._persons.get(person_id)

    def signed_in(self, facts: PersonFacts) -> PersonView:
        """The person, if they are in good standing and this sign-in has not ended. Raises `token_invalid`."""
        found = self._persons.get(facts.id)
        if found is None or found.standing != "active":
            raise ExchangeError("token_invalid", "The person of this token is not in good standing.")
        if facts.session_id in self._ended:
            raise ExchangeError("token_invalid", "This sign-in has ended.", hint="Sign in again, by `exchange login`.")
        return found


def view_of(row: Person) -> PersonView:
    """A row as the directory keeps it."""
    return PersonView(row.id, row.organization_id, frozenset([*row.claimed_roles, *row.granted_roles]), row.standing)
