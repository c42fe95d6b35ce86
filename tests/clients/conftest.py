from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.clients.foreign import run_node, run_program, run_python
from tests.e2e.district import District
from tests.engines import Engines, install
from tests.gateway import Gateway


@pytest.fixture(scope="module")
def district(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[District]:
    """A gateway with the footfall dataset on it, for clients that were not written here."""
    with Gateway(engines, tmp_path_factory.mktemp(f"clients-{engines.kind}")) as gateway:
        yield District(gateway)


@pytest.fixture(scope="session")
def openid_client() -> Callable[..., dict[str, Any]]:
    """Runs `openid_client/client.mjs`."""
    return partial(run_node, install.node_modules(install.OPENID_CLIENT))


@pytest.fixture(scope="session")
def go_client() -> Callable[..., dict[str, Any]]:
    """Runs `go_oauth2/main.go`."""
    return partial(run_program, install.go_client())


@pytest.fixture(scope="session")
def clients_python() -> Callable[..., dict[str, Any]]:
    """Runs `<program>.py` of this folder."""
    return partial(run_python, install.clients_python())
