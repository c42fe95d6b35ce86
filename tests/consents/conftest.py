from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.database import Database
from tests.city import City, a_city
from tests.databases import database

__all__ = ["database"]


@pytest.fixture
def city(database: Database, tmp_path: Path) -> Iterator[City]:
    with a_city(database, tmp_path) as made:
        yield made
