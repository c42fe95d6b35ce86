"""What is measured: real engines, and one gateway process on them, at which most rows find their place."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from gateway.streams.kafka_log import KafkaLog
from tests.benchmarks.place import Place, Say
from tests.engines import Engines, Kafka, Opa, Postgres, install
from tests.engines.sets import RealEngines
from tests.gateway import Gateway

STREAMS_PER_CONTRACT = 200
CACHE_MB = 32
"""Less than the backlog of a row, so that both sides of a ratio read it from the log, the lone subscriber too."""
PULLED, STREAMED, LIVE, OFFERED, PUBLISHED = "bench-pulled", "bench-streamed", "bench-live", "bench-offered", "bench-published"


class Stage(Place):
    """`ending` takes what is to be closed; `say` is told what is being prepared."""

    def __init__(self, ending: ExitStack, say: Say) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="exchange-bench-"))
        self.folder.chmod(0o755)
        ending.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.engines = _engines(self.folder, ending, say)
        settings = {"EXCHANGE_STREAMS_PER_CONTRACT": str(STREAMS_PER_CONTRACT), "EXCHANGE_CACHE_MB": str(CACHE_MB)}
        settings |= {"EXCHANGE_CLIENT_REQUESTS_PER_MINUTE": "10000000", "EXCHANGE_ORGANIZATION_REQUESTS_PER_MINUTE": "10000000"}
        gateway = Gateway(self.engines, self.folder / "gateway", settings)
        ending.callback(gateway.close)
        super().__init__(gateway, [PULLED, STREAMED, LIVE], say)

    @property
    def bootstrap(self) -> str:
        """Of Kafka, for its own clients."""
        return self.engines.log_url.removeprefix("kafka://")

    def topic(self, *, partitions: int) -> str:
        """A new topic, like those of datasets, for Kafka's own clients."""
        name = f"bench-peer-{secrets.token_hex(4)}"

        async def make() -> None:
            log = KafkaLog(self.bootstrap)
            await log.start()
            try:
                await log.ensure_topic(name, partitions=partitions, retention_ms=None)
            finally:
                await log.stop()

        asyncio.run(make())
        return name


class _Given(Engines):
    """Kafka and PostgreSQL of the environment, as `make engines` prints it; each gateway still has a database and an OPA of its own."""

    @property
    def kind(self) -> Any:
        return "real"

    @property
    def log_url(self) -> str:
        return os.environ["EXCHANGE_LOG_URL"]

    def database_url(self, migrate: Callable[[str], None] | None = None) -> str:
        assert migrate is None
        server, _, _ = os.environ["EXCHANGE_DATABASE_URL"].rpartition("/")
        name = f"bench_{secrets.token_hex(6)}"
        with psycopg.connect(os.environ["EXCHANGE_DATABASE_URL"].replace("+psycopg", "", 1), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"{server}/{name}"

    def opa(self, *, admin_url: str, token: str, public_key: str) -> Opa:
        return Opa(install.opa_binary(), admin_url=admin_url, token=token, public_key=public_key)


def _engines(folder: Path, ending: ExitStack, say: Say) -> Engines:
    """Those of the environment, or new ones that end with the benchmark. PostgreSQL flushes to disk, as it does in production."""
    if {"EXCHANGE_LOG_URL", "EXCHANGE_DATABASE_URL"} <= os.environ.keys():
        say("the engines are those of the environment")
        return _Given(folder)
    kafka = Kafka(install.kafka_jars(), folder / "kafka")
    postgres = Postgres(install.postgres_binaries(), folder / "postgres", fsync=True)
    for engine in (kafka, postgres):
        say(f"{type(engine).__name__} starts")
        ending.callback(engine.kill)
        engine.start()
    return Engines(folder / "engines", RealEngines(kafka, postgres, install.opa_binary()))
