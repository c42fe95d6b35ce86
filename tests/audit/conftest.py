from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.database import Database
from gateway.migrations import upgrade
from tests.city import City, a_city
from tests.databases import database
from tests.engines import Postgres

__all__ = ["database"]


@pytest.fixture
def on_postgres(postgres: Postgres) -> Iterator[Database]:
    """A migrated database for what PostgreSQL alone does, or may have done to it."""
    url = postgres.url(postgres.create_database())
    upgrade(url)
    made = Database(url)
    yield made
    made.close()


@pytest.fixture
def city(database: Database, tmp_path: Path) -> Iterator[City]:
    with a_city(database, tmp_path) as made:
        yield made
