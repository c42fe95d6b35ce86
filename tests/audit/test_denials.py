"""Denials answered from memory are counted: one entry per client, contract, reason and minute."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from sqlalchemy import select

from gateway.audit.denials import Denials
from gateway.audit.models import AuditEntry
from gateway.audit.release import AuditWriter
from gateway.database import Database


@pytest.fixture
def writer(database: Database) -> Iterator[AuditWriter]:
    made = AuditWriter(database)
    made.start()
    yield made
    made.stop()


def denials_of(database: Database) -> list[tuple[str | None, str | None, str, str]]:
    with database.reading() as session:
        rows = session.scalars(select(AuditEntry).order_by(AuditEntry.number)).all()
    shown = [(row, orjson.loads(row.entry)) for row in rows]
    assert {(entry["kind"], entry["action"]) for _, entry in shown} <= {("decision", "denied_again")}
    return sorted((row.actor, row.contract, entry["detail"]["reason"], entry["detail"]["count"]) for row, entry in shown)


def test_uses_of_a_denial_become_one_entry_each_client_contract_and_reason(database: Database, writer: AuditWriter) -> None:
    denials = Denials(writer)
    for _ in range(3):
        denials.count("cli_1", "footfall", "con_1", ["contract_suspended", "consent_missing"])
    denials.count("cli_2", "footfall", "con_1", ["contract_suspended"])
    denials.flush()
    denials.flush()
    assert denials_of(database) == [
        ("cli_1", "con_1", "consent_missing", "3"),
        ("cli_1", "con_1", "contract_suspended", "3"),
        ("cli_2", "con_1", "contract_suspended", "1"),
    ]


def test_what_was_counted_is_written_at_stop(database: Database, writer: AuditWriter) -> None:
    denials = Denials(writer)
    denials.start()
    denials.count("cli_1", "footfall", "con_1", ["contract_suspended"])
    denials.stop()
    assert len(denials_of(database)) == 1


def test_parties_find_the_entry(database: Database, writer: AuditWriter) -> None:
    denials = Denials(writer)
    denials.count("cli_1", "footfall", "con_1", ["x"], decision="dec_1", organization="org_c", provider="org_p", consumer="org_s")
    denials.flush()
    with database.reading() as session:
        row = session.scalars(select(AuditEntry)).one()
    assert (row.organization, row.provider, row.consumer, row.decision) == ("org_c", "org_p", "org_s", "dec_1")


def test_counts_that_the_log_did_not_take_are_kept(database: Database) -> None:
    closed = AuditWriter(database)
    denials = Denials(closed)
    denials.count("cli_1", "footfall", "con_1", ["contract_suspended"])
    denials.flush()
    denials.count("cli_1", "footfall", "con_1", ["contract_suspended"])
    closed.start()
    denials.flush()
    closed.stop()
    assert denials_of(database) == [("cli_1", "con_1", "contract_suspended", "2")]
