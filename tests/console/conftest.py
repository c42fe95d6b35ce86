"""One gateway with a district on it, whose people sign in at a provider of its own; and browsers to look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.console.city import City
from tests.console.look import Look, invalid
from tests.engines import Engines


@pytest.fixture(scope="session")
def city(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    with City(engines, tmp_path_factory.mktemp(f"console-{engines.kind}")) as running:
        yield running


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The pages that a module's tests were sent. At its end each is held to be valid HTML, in one run of the checker."""
    pages: list[str] = []
    yield pages
    assert invalid(list(dict.fromkeys(pages)), tmp_path_factory.mktemp("seen")) == []


@pytest.fixture
def looks(browser: Browser, city: City, seen: list[str]) -> Iterator[Callable[..., Look]]:
    """`looks(script=False, width=360, language="fr-CA")`: a browser that has been nowhere. At the end nothing may have been wrong."""
    made: list[Look] = []

    def look(**how: Any) -> Look:
        made.append(Look(browser, city.url, seen, **how))
        return made[-1]

    yield look
    assert [found for each in made for found in each.close()] == []
