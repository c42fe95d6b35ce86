from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.client import Client
from tests.connectors.recorded import Recorded, listening


@pytest.fixture
def server() -> Iterator[Recorded]:
    with listening() as recorded:
        yield recorded


@pytest.fixture
def open_client(server: Recorded) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(client_id: str | None = "cli_1", **proof: Any) -> Client:
        made.append(Client(server.url, client_id, **proof))
        return made[-1]

    yield make
    for client in made:
        client.close()
