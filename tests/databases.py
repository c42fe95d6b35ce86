"""A migrated database for the tests of a room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from gateway.database import Database
from gateway.migrations import upgrade
from tests.engines import Engines


@pytest.fixture
def database(engines: Engines) -> Iterator[Database]:
    made = Database(engines.database_url(upgrade))
    yield made
    made.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """One transaction, committed when the test ends."""
    with database.transaction() as opened:
        yield opened
