"""Gateways that are made to suffer: the fixtures of the end-to-end tests, and whatever a test killed runs again after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import new_gateway
from tests.engines import Engines

__all__ = ["new_gateway"]


@pytest.fixture(autouse=True)
def everything_runs_again(engines: Engines) -> Iterator[None]:
    """The engines of a session are shared: the next test finds them running, whatever became of this one."""
    yield
    if engines.real is not None:
        for engine in (engines.real.kafka, engines.real.postgres):
            if not engine.running:
                engine.start()
