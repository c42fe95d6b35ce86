from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.identity.exchange import Exchange, an_exchange


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with an_exchange(tmp_path) as made:
        yield made
