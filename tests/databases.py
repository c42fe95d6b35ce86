"""A migrated database for the tests of a room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.database import Database
from gateway.migrations import upgrade
from tests.engines import Engines


@pytest.fixture
def database(engines: Engines) -> Iterator[Database]:
    made = Database(engines.database_url(upgrade))
    yield made
    made.close()
