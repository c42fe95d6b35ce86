"""Decide: computed once, audited when computed, used until something changes or time passes; no answer is a no."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from gateway.access.decide import Access
from gateway.access.decision import Answer, PolicyUnavailable
from gateway.access.models import DecisionRow
from gateway.access.switch import SWITCH_S
from gateway.audit.denials import Denials
from gateway.audit.models import AuditEntry
from gateway.audit.release import AuditWriter
from gateway.catalog.directory import Directory as Catalog
from gateway.changes import Change
from gateway.contracts.directory import ContractView
from gateway.database import Database, now, rfc3339
from gateway.errors import ExchangeError
from gateway.identity.directory import Directory as People
from gateway.identity.principal import Principal
from gateway.key_encryption import KeyEncryptionKeys
from gateway.keys import write_keys
from gateway.migrations import upgrade
from tests.access.test_lens import dataset

REASON = {"code": "purpose_not_covered", "title": {"en": "No.", "fr": "Non."}}
CALLER = Principal("cli_1", "org_2", frozenset(), frozenset(), frozenset({"con_1"}), strong=True, expires_at=now(), token_id="t")
CONTRACT = ContractView("con_1", "active", "org_1", "org_2", "footfall", "research", now(), now() + timedelta(days=1), "all")


@dataclass
class Scripted:
    """An engine that gives the answers that it is told to, and counts."""

    answers: list[Any] = field(default_factory=list)
    asked: int = 0

    def evaluate(self, facts: dict[str, Any]) -> Answer:
        assert facts["action"] in {"receive", "propose"}
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Answer)
        return answer

    def activate(self, revision: str, bundle: bytes) -> None: ...
    def suspend(self) -> None: ...
    def ping(self) -> None: ...
    def close(self) -> None: ...


def answer(*, allow: bool = True, revision: str = "pol_1", until: str | None = None) -> Answer:
    obligations = [{"kind": "keep", "pointer": "/zone"}]
    return Answer({"allow": allow, "reasons": [] if allow else [REASON], "obligations": obligations, "until": until}, revision)


@dataclass
class Room:
    access: Access
    engine: Scripted
    database: Database
    denials: Denials

    def ask(self, caller: Principal = CALLER, contract: ContractView = CONTRACT, action: Any = "receive") -> Any:
        return self.access.decide(action, caller=caller, dataset=dataset(), purpose="research", contract=contract)

    def change(self, kind: str, about: str) -> None:
        with self.database.reading() as session:
            self.access.on_changes(session, [Change(1, kind, about, forbids=True)])

    def stored(self) -> int:
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(DecisionRow)) or 0


@contextmanager
def opened(folder: Path) -> Iterator[Room]:
    """A room with a database in this folder, where the policy `pol_1` is active."""
    upgrade(f"sqlite:///{folder / 'exchange.db'}")
    database = Database(f"sqlite:///{folder / 'exchange.db'}")
    keys = write_keys(folder / "keys.json")
    writer = AuditWriter(database)
    writer.start()
    engine, denials = Scripted(), Denials(writer)
    access = Access(engine, database, People("https://exchange.example", keys, KeyEncryptionKeys(folder / "keys.json")), Catalog(), denials)
    made = Room(access, engine, database, denials)
    made.change("policy_activated", "pol_1")
    access.switch.has("pol_1")
    yield made
    writer.stop()
    database.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with opened(tmp_path) as made:
        yield made


def test_a_decision_is_computed_and_audited_once(room: Room) -> None:
    room.engine.answers = [answer()]

    assert room.ask() is room.ask()

    assert room.engine.asked == room.stored() == 1
    with room.database.reading() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.kind == "decision")).all()
        assert len(entries) == 1
        assert entries[0].decision == room.ask().id


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("contract_suspended", "con_1"),
        ("client_revoked", "cli_1"),
        ("organization_changed", "org_2"),
        ("organization_changed", "org_1"),
        ("classification_raised", "footfall"),
    ],
)
def test_a_change_of_what_it_depended_on_makes_it_be_computed_again(room: Room, kind: str, about: str) -> None:
    room.engine.answers = [answer(), answer()]
    first = room.ask()
    room.change(kind, about)
    assert room.ask().id != first.id


def test_a_change_of_something_else_does_not(room: Room) -> None:
    room.engine.answers = [answer()]
    first = room.ask()
    room.change("contract_suspended", "con_2")
    assert room.ask() is first


def test_another_policy_forgets_every_decision_and_answers_of_the_old_one_do_not_count(room: Room) -> None:
    room.engine.answers = [answer(), answer(), answer(revision="pol_2")]
    room.ask()
    room.change("policy_activated", "pol_2")

    with pytest.raises(ExchangeError) as refused:
        room.ask()
    assert refused.value.code == "policy_switching"
    assert room.engine.asked == 1

    room.access.switch.has("pol_2")
    with pytest.raises(ExchangeError) as refused:
        room.ask()
    assert refused.value.code == "policy_switching"
    assert room.ask().revision == "pol_2"


def test_questions_wait_for_the_engine_together_and_not_one_after_another(room: Room) -> None:
    room.change("policy_activated", "pol_2")
    began = time.monotonic()
    for _ in range(5):
        with pytest.raises(ExchangeError) as refused:
            room.ask()
        assert refused.value.code == "policy_switching"
    assert SWITCH_S <= time.monotonic() - began < 2 * SWITCH_S
    assert room.engine.asked == 0


def test_a_question_that_waits_is_answered_as_soon_as_the_engine_has_the_revision(room: Room) -> None:
    room.engine.answers = [answer(revision="pol_2")]
    room.change("policy_activated", "pol_2")
    took = threading.Timer(0.2, room.access.switch.has, ["pol_2"])
    took.start()
    began = time.monotonic()
    assert room.ask().revision == "pol_2"
    assert 0.1 < time.monotonic() - began < SWITCH_S
    took.join()


def test_no_answer_is_a_no_and_is_not_remembered(room: Room) -> None:
    room.engine.answers = [PolicyUnavailable("away"), answer()]

    with pytest.raises(ExchangeError) as refused:
        room.ask()

    assert refused.value.code == "policy_unavailable"
    assert room.ask().allow


def test_a_kept_decision_is_not_used_at_or_after_its_until(room: Room) -> None:
    room.engine.answers = [answer(until=rfc3339(now() - timedelta(seconds=1))), answer()]
    assert room.ask().id != room.ask().id


def test_no_decision_is_used_longer_than_an_hour_or_than_its_contract(room: Room) -> None:
    room.engine.answers = [answer(until=rfc3339(now() + timedelta(days=9))), answer()]
    assert room.ask().until <= now() + timedelta(hours=1)
    soon = replace(CONTRACT, id="con_9", valid_until=now() + timedelta(minutes=1))
    assert room.ask(contract=soon).until == soon.valid_until


def test_a_denial_has_no_obligations_and_its_further_uses_are_counted(room: Room) -> None:
    room.engine.answers = [answer(allow=False)]
    denied = room.ask()
    room.ask()
    room.ask()

    assert denied.obligations == ()
    assert room.ask() is denied
    room.denials.flush()
    with room.database.reading() as session:
        again = session.scalars(select(AuditEntry.entry).where(AuditEntry.kind == "decision").order_by(AuditEntry.number)).all()
    assert b'"count":"3"' in again[-1]
    assert len(again) == 2


def test_a_token_that_names_no_contract_and_one_that_names_another_are_not_one_question(room: Room) -> None:
    room.engine.answers = [answer(), answer(allow=False), answer(), answer()]
    asked = [
        room.ask(caller)
        for caller in (
            replace(CALLER, contracts=frozenset()),
            replace(CALLER, contracts=frozenset({"con_2"})),
            CALLER,
            replace(CALLER, strong=False),
        )
    ]
    assert len({decision.id for decision in asked}) == 4


def test_every_proposal_is_a_decision_of_its_own(room: Room) -> None:
    room.engine.answers = [answer(), answer()]
    assert room.ask(action="propose").id != room.ask(action="propose").id


def test_facts_are_kept_byte_for_byte(room: Room) -> None:
    room.engine.answers = [answer()]
    decision = room.ask()
    with room.database.reading() as session:
        assert session.get_one(DecisionRow, decision.id).facts == decision.facts
    assert b'"action":"receive"' in decision.facts
