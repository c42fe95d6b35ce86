"""The writer: durable on return, many in one transaction, and an error rather than silence."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from gateway.audit import release
from gateway.audit.models import AuditEntry, PublishedRange
from gateway.audit.published import Published
from gateway.audit.record import Entry, Ranges, record
from gateway.audit.release import AuditWriter, Outdated
from gateway.database import Database, now, rfc3339
from gateway.errors import ExchangeError
from gateway.keys import b64
from tests.engines import Postgres

ENTRY = Entry(kind="release", action="deliver", contract="con_1", closed=(1, 100))


class Outage:
    """Refuses every statement of a database while `on`, as one that is away does."""

    def __init__(self, database: Database) -> None:
        self.on = False
        event.listen(database.engine, "begin", self._refuse)

    def _refuse(self, *_: object) -> None:
        if self.on:
            raise OperationalError("no", None, Exception("away"))


@pytest.fixture
def writer(database: Database) -> Iterator[AuditWriter]:
    made = AuditWriter(database)
    made.start()
    yield made
    made.stop()


def entries(database: Database) -> list[AuditEntry]:
    with database.reading() as session:
        return list(session.scalars(select(AuditEntry).order_by(AuditEntry.number)))


def test_release_is_durable_when_it_returns(database: Database, writer: AuditWriter) -> None:
    async def deliver() -> None:
        receipt = await writer.release(ENTRY)
        assert [row.leaf_hash for row in entries(database)] == [receipt.leaf_hash]

    asyncio.run(deliver())


def test_positions_are_written_with_the_entry_that_names_them(database: Database, writer: AuditWriter) -> None:
    writer.append(Entry(kind="publish", action="publish"), [Published("topic", 0, 10, 20), Published("topic", 3, 7, 8)])
    with database.reading() as session:
        rows = session.scalars(select(PublishedRange).order_by(PublishedRange.partition)).all()
    assert [(row.topic_id, row.partition, row.first, row.next) for row in rows] == [("topic", 0, 10, 20), ("topic", 3, 7, 8)]


def test_an_entry_is_stored_as_it_is_searched_and_shown(database: Database, writer: AuditWriter) -> None:
    """Every column, by the writer's way and by the control plane's, which are different statements on PostgreSQL."""
    entry = Entry(
        kind="release",
        action="receive",
        actor="cli_1",
        organization="org_1",
        dataset="d",
        contract="con_1",
        purpose="transit-planning",
        decision="dec_1",
        revision="rev_1",
        change=7,
        ranges=Ranges({0: (10, 20)}, {0: 19}),
        closed=(9, 900),
        detail={"note": 'quotes " and \\ and {braces} and é'},
        provider="org_2",
        consumer="org_3",
    )
    writer.append(entry)
    with database.transaction() as session:
        record(session, entry)
    mine, theirs = entries(database)
    drawn = {"number", "at", "salt", "entry", "opening", "leaf", "leaf_hash"}
    for column in AuditEntry.__table__.columns:
        if column.name not in drawn:
            assert getattr(mine, column.name) == getattr(theirs, column.name), column.name
    for row in (mine, theirs):
        said, leaf = json.loads(row.entry), json.loads(row.leaf)
        assert said["detail"] == entry.detail
        assert leaf["commitment"] == b64(sha256(row.salt + row.entry).digest())
        assert row.leaf_hash == sha256(b"\0" + row.leaf).digest()
        assert row.opening is not None
        assert json.loads(row.opening)["grant"] == {"0": [10, 20]}
        assert rfc3339(row.at) == leaf["at"] == said["at"]


def test_entries_are_numbered_in_the_order_in_which_they_waited(database: Database, writer: AuditWriter) -> None:
    async def deliver() -> None:
        await asyncio.gather(*(writer.release(replace(ENTRY, contract=f"con_{number:03}")) for number in range(200)))

    asyncio.run(deliver())
    assert [row.contract for row in entries(database)] == [f"con_{number:03}" for number in range(200)]


def test_all_that_waits_is_written_in_few_transactions(database: Database, writer: AuditWriter) -> None:
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)

    async def deliver() -> None:
        receipts = await asyncio.gather(*(writer.release(ENTRY) for _ in range(500)))
        assert len({receipt.leaf_hash for receipt in receipts}) == 500

    asyncio.run(deliver())
    assert len(entries(database)) == 500
    assert len(commits) <= 50


def test_each_caller_gets_the_receipt_of_its_own_entry(database: Database, writer: AuditWriter) -> None:
    async def deliver() -> dict[str, bytes]:
        contracts = [f"con_{n}" for n in range(100)]
        receipts = await asyncio.gather(*(writer.release(Entry(kind="release", action="deliver", contract=name)) for name in contracts))
        return {name: receipt.leaf_hash for name, receipt in zip(contracts, receipts, strict=True)}

    receipts = asyncio.run(deliver())
    assert {row.contract: row.leaf_hash for row in entries(database)} == receipts


def test_threads_and_event_loops_are_served_together(database: Database, writer: AuditWriter) -> None:
    threads = [threading.Thread(target=writer.append, args=(ENTRY,)) for _ in range(8)]
    for thread in threads:
        thread.start()

    async def deliver() -> None:
        await asyncio.wait_for(writer.release(ENTRY), 5)

    for _ in range(2):
        asyncio.run(deliver())
    for thread in threads:
        thread.join()
    assert len(entries(database)) == 10


def test_without_its_database_every_waiter_is_refused_and_none_hangs(database: Database, writer: AuditWriter) -> None:
    outage = Outage(database)
    outage.on = True

    async def deliver() -> list[object]:
        return await asyncio.wait_for(asyncio.gather(*(writer.release(ENTRY) for _ in range(50)), return_exceptions=True), 5)

    outcomes = asyncio.run(deliver())
    assert [getattr(outcome, "code", None) for outcome in outcomes] == ["audit_unavailable"] * 50
    outage.on = False
    assert entries(database) == []
    asyncio.run(deliver())
    assert len(entries(database)) == 50


def test_an_entry_that_cannot_be_written_down_takes_no_other_with_it(database: Database, writer: AuditWriter) -> None:
    async def deliver() -> list[object]:
        lone_surrogate = Entry(kind="release", action="deliver", purpose="\ud800")
        return list(await asyncio.gather(*map(writer.release, (ENTRY, lone_surrogate, ENTRY)), return_exceptions=True))

    outcomes = asyncio.run(deliver())
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]
    assert len(entries(database)) == 2


def test_more_than_may_wait_is_refused_at_once(database: Database, writer: AuditWriter) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        held.set()
        go_on.wait(5)

    event.listen(database.engine, "begin", hold)

    async def deliver() -> None:
        first = asyncio.ensure_future(writer.release(ENTRY))
        await asyncio.sleep(0)
        held.wait(5)
        waiting = [asyncio.ensure_future(writer.release(ENTRY)) for _ in range(release.MOST_WAITING)]
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(ExchangeError) as refused:
            await writer.release(ENTRY)
        assert time.monotonic() - began < 1
        assert refused.value.code == "audit_unavailable"
        for each in waiting:
            each.cancel()
        go_on.set()
        await first

    asyncio.run(deliver())
    assert len(entries(database)) == 1


def test_who_gave_up_waiting_does_not_disturb_the_others(database: Database, writer: AuditWriter) -> None:
    async def deliver() -> None:
        for _ in range(20):
            gone, stays = asyncio.ensure_future(writer.release(ENTRY)), asyncio.ensure_future(writer.release(ENTRY))
            await asyncio.sleep(0)
            gone.cancel()
            await stays

    asyncio.run(deliver())
    assert len(entries(database)) >= 20


def test_stopping_writes_what_waits_and_refuses_what_comes(database: Database) -> None:
    writer = AuditWriter(database)
    before = writer.alive
    writer.start()
    assert (before, writer.alive) == (False, True)

    async def deliver() -> None:
        waiting = [asyncio.ensure_future(writer.release(ENTRY)) for _ in range(200)]
        await asyncio.sleep(0)
        await asyncio.to_thread(writer.stop)
        await asyncio.gather(*waiting)
        with pytest.raises(ExchangeError, match="audit_unavailable"):
            await writer.release(ENTRY)

    asyncio.run(deliver())
    assert not writer.alive
    assert len(entries(database)) == 200


def test_what_the_network_has_held_back_is_not_written_where_the_log_has_gone_on(on_postgres: Database) -> None:
    writer = AuditWriter(on_postgres)
    writer.start()

    def others_write(later_s: float) -> None:
        """An entry of another replica, so much later than what this one sends next."""
        with on_postgres.transaction() as session:
            record(session, ENTRY)
            newest = session.scalars(select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1)).one()
            newest.at = now() + timedelta(seconds=later_s)

    writer.append(ENTRY)  # from here on it asks nobody how far the log is
    others_write(1.5)
    writer.append(ENTRY)
    others_write(4)
    with pytest.raises(ExchangeError, match="audit_unavailable"):
        writer.append(ENTRY, [Published("topic", 0, 10, 20)])
    assert len(entries(on_postgres)) == 4
    with on_postgres.reading() as session:
        assert session.scalars(select(PublishedRange)).all() == []
    writer.append(ENTRY)  # for it has learnt meanwhile how far the log is
    assert len(entries(on_postgres)) == 5
    writer.stop()


def test_it_writes_again_when_a_killed_database_is_back(postgres: Postgres, on_postgres: Database) -> None:
    writer = AuditWriter(on_postgres)
    writer.start()
    writer.append(ENTRY)
    postgres.kill()
    try:
        with pytest.raises(ExchangeError, match="audit_unavailable"):
            writer.append(ENTRY)
    finally:
        postgres.start()
    writer.append(ENTRY)
    assert len(entries(on_postgres)) == 2
    writer.stop()


def test_no_grant_from_before_a_barred_change_is_written_and_none_is_under_way_when_barring_returns(
    database: Database, writer: AuditWriter
) -> None:
    def grant(change: int, *, grants: bool = True) -> Entry:
        return replace(ENTRY, change=change, ranges=Ranges({0: (0, 10)} if grants else {}, {}))

    async def deliver() -> None:
        under_way = [writer.release(grant(6)) for _ in range(50)]
        await asyncio.sleep(0)
        await writer.bar(7)
        settled = len(entries(database))
        with pytest.raises(Outdated):
            await writer.release(grant(6))
        told = await asyncio.gather(*under_way, return_exceptions=True)
        assert sum(not isinstance(outcome, Outdated) for outcome in told) == settled
        await writer.release(grant(7))
        await writer.release(grant(6, grants=False))  # the account of what has left grants nothing
        await writer.release(replace(grant(6), kind="publish", action="publish"))  # what was appended is there, and lets nothing out
        assert len(entries(database)) == settled + 3

    asyncio.run(deliver())
