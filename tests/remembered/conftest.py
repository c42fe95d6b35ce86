from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines import Engines
from tests.gateway import Gateway

READY_S = 60.0
"""A drill starts a gateway four times, and has time."""


@pytest.fixture
def new_gateway(engines: Engines, tmp_path: Path) -> Iterator[Callable[[], Gateway]]:
    """Gateways of this test alone, started, and ended with it."""
    made: list[Gateway] = []

    def new() -> Gateway:
        gateway = Gateway(engines, tmp_path / f"gateway-{len(made)}", ready_s=READY_S)
        made.append(gateway)
        gateway.start()
        return gateway

    yield new
    for gateway in made:
        gateway.close()
