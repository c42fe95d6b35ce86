"""The engines as fixtures. `--engines=embedded|real|all`; a test that takes `engines` runs once on each chosen set."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.engines import Engines, Kafka, OpenIdProvider, Postgres, install
from tests.engines.asyncapi import asyncapi_errors as ask_asyncapi_parser
from tests.engines.sets import KINDS, RealEngines

# Fixtures of what `tests.engines.install` installs. With `--engines=embedded` nothing is, and a test that takes one is deselected.
INSTALLED = {
    "kafka",
    "postgres",
    "opa_binary",
    "asyncapi_errors",
    "openid_provider",
    "openid_client",
    "go_client",
    "clients_python",
    "browser",
    "tlog_programs",
}
# What only the real set has: a test that takes one of these and `engines` runs on that set alone.
SERVERS = {"kafka", "postgres"}
CHROMIUM = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
POSTGRES = pytest.StashKey[Postgres]()


LONG = {"replicas", "faults", "remembered", "e2e", "console", "cli"}
"""Folders of tests that wait longest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engines", choices=(*KINDS, "all"), default="all", help="which set of engines to test on (default: both)")


def pytest_configure() -> None:
    # A shell that starts tests in the background lets them ignore Ctrl-C, and they hand that on to each program that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engines" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("engines")
        kinds = [kind for kind in KINDS if chosen in {kind, "all"} and (kind == "real" or not SERVERS & set(metafunc.fixturenames))]
        metafunc.parametrize("engines", kinds, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not LONG & set(item.path.parts))  # else the last of them would keep one process, and the others wait
    if config.getoption("engines") != "embedded":
        return
    out = [item for item in items if isinstance(item, pytest.Function) and INSTALLED & set(item.fixturenames)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def engine_folder() -> Iterator[Path]:
    """Where engines keep data and logs. Not pytest's own folder: PostgreSQL, as another user, could not enter it."""
    folder = Path(tempfile.mkdtemp(prefix="exchange-engines-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(engine_folder: Path) -> Iterator[Kafka]:
    """A running broker. A test that kills it starts it again before it ends."""
    broker = Kafka(install.kafka_jars(), engine_folder / "kafka")
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest, engine_folder: Path) -> Iterator[Postgres]:
    """A running server. A test that kills it starts it again before it ends."""
    server = request.config.stash[POSTGRES] = Postgres(install.postgres_binaries(), engine_folder / "postgres")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module", autouse=True)
def databases_of_a_module(request: pytest.FixtureRequest) -> Iterator[None]:
    """Those that nobody uses any more end with it: hundreds of them take minutes to delete at the end."""
    yield
    if (server := request.config.stash.get(POSTGRES, None)) is not None:
        server.drop_unused()


@pytest.fixture(scope="session")
def opa_binary() -> Path:
    """The program `opa`: to start an `Opa`, or for `opa test`, `opa check`."""
    return install.opa_binary()


@pytest.fixture(scope="session")
def tlog_programs() -> Path:
    """The folder of others' programs that verify and witness transparency logs."""
    return install.tlog_programs()


@pytest.fixture(scope="session")
def asyncapi_errors() -> Callable[[str], list[str]]:
    """What the AsyncAPI format's own parser finds wrong with a document."""
    return partial(ask_asyncapi_parser, install.node_modules(install.ASYNCAPI_PARSER))


@pytest.fixture(scope="session")
def openid_provider(engine_folder: Path) -> Iterator[OpenIdProvider]:
    """The city's OpenID provider, running. A test that stops it, or changes its keys or people, makes one of its own."""
    provider = OpenIdProvider(install.node_modules(install.OPENID_PROVIDER), engine_folder / "openid")
    provider.start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, running. Of one module: while it runs, this thread has an event loop, and other modules' tests run their own."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=install.chromium(), args=CHROMIUM)
        yield running
        running.close()


@pytest.fixture(scope="session")
def engine_sets() -> dict[str, Engines]:
    """The sets in use, by kind: pytest makes `engines` anew whenever tests go from one to the other."""
    return {}


@pytest.fixture(scope="session")
def engines(request: pytest.FixtureRequest, engine_folder: Path, engine_sets: dict[str, Engines]) -> Engines:
    """One set of engines, running: a test that takes it runs on each."""
    kind: str = request.param
    if kind not in engine_sets:
        real = RealEngines(*map(request.getfixturevalue, ("kafka", "postgres", "opa_binary"))) if kind == "real" else None
        engine_sets[kind] = Engines(engine_folder / kind, real)
    return engine_sets[kind]
