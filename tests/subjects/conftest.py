from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.database import Database
from gateway.limits import Requests
from gateway.subjects import api as subjects_api
from tests.city import City, a_city
from tests.databases import database

__all__ = ["database"]


@pytest.fixture
def city(database: Database, tmp_path: Path) -> Iterator[City]:
    with a_city(database, tmp_path) as made:
        app = made.http.app
        app.include_router(subjects_api.router)  # type: ignore[attr-defined]
        app.state.sessions_limit = Requests(30, "sessions")  # type: ignore[attr-defined]
        yield made
