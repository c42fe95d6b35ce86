"""Grounds: how contracts stand is looked up once, and again when something that it depends on has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from gateway.access.decision import Answer
from gateway.access.grounds import Grounds
from gateway.changes import Change
from gateway.contracts.directory import ContractView
from gateway.database import now, rfc3339
from tests.access.test_decide import CONTRACT, Room, opened


@dataclass
class Stand:
    """A room, and the grounds of its process; `statements` are the questions that these have put to the database."""

    room: Room
    grounds: Grounds
    statements: list[str] = field(default_factory=list)

    def decide(self, ground: str, contract: ContractView = CONTRACT, *, allow: bool = True, until: str | None = None) -> None:
        reasons = [{"code": "by_rule", "title": {"en": "Yes.", "fr": "Oui."}, "rule": {"legal_ground": ground}}]
        document = {"allow": allow, "reasons": reasons, "obligations": [{"kind": "keep", "pointer": "/zone"}], "until": until}
        self.room.engine.answers = [Answer(document, "pol_1")]
        self.room.ask(contract=contract)

    def change(self, kind: str, about: str) -> None:
        self.room.change(kind, about)
        with self.room.database.reading() as session:
            self.grounds.on_changes(session, [Change(2, kind, about, forbids=True)])

    def of(self, *contracts: ContractView) -> dict[str, str]:
        """By contract its ground."""
        with self.room.database.reading() as session:
            self.statements.clear()
            return {contract: stands.ground for contract, stands in self.grounds.of(session, contracts or (CONTRACT,)).items()}


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with opened(tmp_path) as room:
        made = Stand(room, Grounds(room.access))

        def told(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("SELECT"):
                made.statements.append(statement)

        event.listen(room.database.engine, "before_cursor_execute", told)
        yield made
        event.remove(room.database.engine, "before_cursor_execute", told)


def test_how_contracts_stand_is_looked_up_by_one_statement_and_once(stand: Stand) -> None:
    contracts = [replace(CONTRACT, id=f"con_{number}") for number in range(20)]
    for contract in contracts:
        stand.decide(f"ground of {contract.id}", contract)

    first = stand.of(*contracts)

    assert first == {contract.id: f"ground of {contract.id}" for contract in contracts}
    assert len(stand.statements) == 1
    assert stand.of(*contracts) == first
    assert not stand.statements


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("contract_suspended", "con_1"),
        ("organization_changed", "org_1"),
        ("organization_changed", "org_2"),
        ("classification_raised", "footfall"),
        ("policy_activated", "pol_1"),
    ],
)
def test_a_change_of_what_a_contract_depends_on_makes_it_be_looked_up_again(stand: Stand, kind: str, about: str) -> None:
    stand.decide("consent")
    assert stand.of() == {"con_1": "consent"}
    stand.change(kind, about)
    stand.decide("statute")
    assert stand.of() == {"con_1": "statute"}


@pytest.mark.parametrize(("kind", "about"), [("consent_withdrawn", "footfall sref cns_1"), ("contract_ended", "con_2")])
def test_somebody_elses_change_does_not(stand: Stand, kind: str, about: str) -> None:
    stand.decide("consent")
    stand.of()
    stand.change(kind, about)
    assert stand.of() == {"con_1": "consent"}
    assert not stand.statements


def test_what_time_has_made_stale_is_looked_up_again(stand: Stand) -> None:
    stand.decide("consent", until=rfc3339(now()))
    assert stand.of() == {"con_1": "consent"}  # nobody else answers: the last decision counts
    assert stand.statements
    stand.of()
    assert stand.statements


def test_what_policy_refuses_does_not_stand(stand: Stand) -> None:
    stand.decide("none", allow=False)
    assert stand.of() == {}
