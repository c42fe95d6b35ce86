"""The migrations make the tables that the models describe, on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.exc import OperationalError

from gateway.changes import Counter
from gateway.database import Base, Database, now, rfc3339
from gateway.identity.client_authentication import digest_of_assertion
from gateway.identity.once import Once
from gateway.migrations import METADATA, is_current, newest, upgrade
from gateway.resources import ROOT
from tests.engines import Engines, Postgres


def test_migrated_schema_is_that_of_the_models(engines: Engines) -> None:
    database = Database(engines.database_url(upgrade))
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        # It takes several, and says one.
        assert compare_metadata(context, cast(MetaData, METADATA)) == []
    database.close()


def test_migrations_know_every_model_of_the_gateway() -> None:
    known = {mapper.class_.__module__ for mapper in Base.registry.mappers}
    for file in (ROOT / "gateway").rglob("*.py"):
        if "__tablename__" in file.read_text("utf-8"):
            assert ".".join(file.relative_to(ROOT).with_suffix("").parts) in known, file


def test_no_change_has_happened_in_a_new_database(engines: Engines) -> None:
    database = Database(engines.database_url(upgrade))
    with database.reading() as session:
        assert [(row.id, row.n) for row in session.query(Counter)] == [(1, 0)]
    database.close()


def test_upgrading_again_changes_nothing(engines: Engines) -> None:
    url = engines.database_url(upgrade)
    upgrade(url)
    database = Database(url)
    assert is_current(database.engine)
    with database.reading() as session:
        assert session.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [newest()]
    database.close()


def test_an_assertion_that_was_spent_before_the_upgrade_is_not_taken_after_it(engines: Engines) -> None:
    url = engines.database_url(lambda url: upgrade(url, "0012"))
    database, until = Database(url), now() + timedelta(minutes=5)
    with database.transaction() as session:
        spent = {"client_id": "cli_1", "jti": "j1", "expires_at": rfc3339(until)}
        session.execute(text("INSERT INTO used_assertions VALUES (:client_id, :jti, :expires_at)"), spent)
    upgrade(url)
    once = Once(database)
    assert not once.use(digest_of_assertion("cli_1", "j1"), until)
    assert once.use(digest_of_assertion("cli_1", "j2"), until)
    database.close()


def test_an_empty_database_is_not_current(engines: Engines) -> None:
    database = Database(engines.database_url())
    assert not is_current(database.engine)
    database.close()


def test_a_migration_gives_up_rather_than_queue_behind_a_lock(postgres: Postgres) -> None:
    url = postgres.url(postgres.create_database())
    upgrade(url)
    engine = create_engine(url)
    with engine.connect() as holder:
        holder.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(OperationalError, match="lock timeout"):
            upgrade(url)
    engine.dispose()
