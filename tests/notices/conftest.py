from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.database import Database
from tests.catalog.rooms import Rooms, rooms_on
from tests.databases import database

__all__ = ["database"]


@pytest.fixture
def rooms(database: Database, tmp_path: Path) -> Iterator[Rooms]:
    with rooms_on(database, tmp_path) as made:
        yield made
