from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines import Engines
from tests.gateway import Gateway


@pytest.fixture
def new_gateway(engines: Engines, tmp_path: Path) -> Iterator[Callable[[], Gateway]]:
    """Gateways of this test alone, started, and ended with it."""
    made: list[Gateway] = []

    def new() -> Gateway:
        gateway = Gateway(engines, tmp_path / f"gateway-{len(made)}")
        made.append(gateway)
        gateway.start()
        return gateway

    yield new
    for gateway in made:
        gateway.close()
