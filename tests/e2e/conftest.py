"""One gateway for each set of engines, shared by the tests that do not break it, and fresh ones for those that do."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.client import Client
from tests.e2e.district import District
from tests.e2e.open_data import Numbers
from tests.e2e.wire import assert_calm
from tests.engines import Engines
from tests.gateway import READER, Gateway

names = itertools.count()


@pytest.fixture
def new_gateway(engines: Engines, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Gateways of this test alone, started, and ended with it: `new_gateway(EXCHANGE_TOKEN_LIFETIME_S="30")`."""
    made: list[Gateway] = []

    def new(**environment: str) -> Gateway:
        gateway = Gateway(engines, tmp_path / f"gateway-{len(made)}", environment)
        made.append(gateway)
        gateway.start()
        return gateway

    yield new
    for gateway in made:
        gateway.close()
        assert_calm(gateway)


@pytest.fixture(scope="session")
def gateway(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The shared gateway of this set of engines. Do not kill it, and do not change its policy."""
    with Gateway(engines, tmp_path_factory.mktemp(f"gateway-{engines.kind}")) as running:
        yield running
    assert_calm(running)


@pytest.fixture(scope="session")
def district(gateway: Gateway) -> District:
    return District(gateway)


@pytest.fixture
def numbers(gateway: Gateway) -> Numbers:
    """A new open dataset of numbers, with whom it belongs to."""
    return Numbers(gateway)


@pytest.fixture(scope="session")
def reader(gateway: Gateway) -> Client:
    """Whoever reads numbers; shared, so that no test may end it."""
    return gateway.partner("Reader of numbers", scopes=READER)


@pytest.fixture
def consumer(gateway: Gateway) -> Client:
    """A start-up's client that authenticates by key."""
    return gateway.partner("Start-up", scopes=READER)
