"""What is measured: real engines, one gateway process on them, two organizations, and datasets that are made when a row asks for them."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from connectors.client import Client
from connectors.cloudevent import rfc3339
from connectors.consents import import_consents
from consent.records import ANY_RECIPIENT
from gateway.catalog.models import Dataset
from gateway.setup import activate_policies
from gateway.streams.kafka_log import KafkaLog
from tests.benchmarks import material
from tests.benchmarks.generator import run
from tests.engines import Engines, Kafka, Opa, Postgres, install
from tests.engines.sets import RealEngines
from tests.gateway import Gateway

STREAMS_PER_CONTRACT = 200
CACHE_MB = 32
"""Less than the backlog of a row, so that both sides of a ratio read it from the log, the lone subscriber too."""
AT_ONCE = 8
"""Calls of the control plane that prepare a row are made so many at once."""
PARTITIONS = 8
PULLED, STREAMED, LIVE, OFFERED, PUBLISHED = "bench-pulled", "bench-streamed", "bench-live", "bench-offered", "bench-published"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """A contract in force, and a token that names it."""

    contract: str
    path: str
    token: str


class Stage:
    """`ending` takes what is to be closed; `say` is told what is being prepared."""

    def __init__(self, ending: ExitStack, say: Say) -> None:
        self.say = say
        folder = Path(tempfile.mkdtemp(prefix="exchange-bench-"))
        folder.chmod(0o755)
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        self.engines = _engines(folder, ending, say)
        say("the gateway starts")
        settings = {"EXCHANGE_STREAMS_PER_CONTRACT": str(STREAMS_PER_CONTRACT), "EXCHANGE_CACHE_MB": str(CACHE_MB)}
        self.gateway = Gateway(self.engines, folder / "gateway", settings)
        ending.callback(self.gateway.close)
        activate_policies(self.gateway.settings(), material.policies(folder, [PULLED, STREAMED, LIVE]))
        self.gateway.start()
        self.provider = self.gateway.partner("Provider", kind="department")
        self.consumer = self.gateway.partner("Consumer")
        self.address = ["127.0.0.1", self.gateway.port]
        self._made: set[str] = set()
        self._published: dict[str, int] = {}

    @property
    def bootstrap(self) -> str:
        """Of Kafka, for its own clients."""
        return self.engines.log_url.removeprefix("kafka://")

    def dataset(self, slug: str, *, personal: bool, partitions: int = PARTITIONS) -> None:
        """Make this dataset, unless it is made; everybody whom its events are about has consented."""
        if slug in self._made:
            return
        self.say(f"{slug} is made" + (f", and {material.SUBJECTS:,} people consent" if personal else ""))
        self.provider.post("/v1/datasets", material.dataset(slug, personal=personal, partitions=partitions))
        if personal:
            self._consent(slug)
        self._made.add(slug)

    def backlog(self, slug: str, events: int) -> None:
        """See that the dataset has this many events, which must not be fewer than it has."""
        missing = events - self._published.get(slug, 0)
        if not missing:
            return
        self.say(f"{missing:,} events go into {slug}")
        run("publish", self.publishing(slug, batches=missing // material.BATCH, distinct=missing // material.BATCH))
        self._published[slug] = events

    def publishing(self, slug: str, *, batches: int, distinct: int) -> dict[str, Any]:
        """A plan of `load.publish`."""
        return {
            "address": self.address,
            "path": f"/v1/datasets/{slug}/events",
            "token": self.token(self.provider),
            "connections": 8,
            "batches": batches,
            "first": self._published.get(slug, 0),
            "distinct": distinct,
        }

    def terms(self, slug: str, count: int) -> list[Terms]:
        """New contracts of the consumer over this personal dataset, signed by both sides, with all its history."""
        self.say(f"{count} {'contracts over' if count > 1 else 'contract over'} {slug} {'are' if count > 1 else 'is'} signed")
        with ThreadPoolExecutor(AT_ONCE) as calls:
            contracts = list(calls.map(lambda _: self._contract(slug), range(count)))
        return [Terms(contract, f"/v1/contracts/{contract}/events", self.token(self.consumer, contract)) for contract in contracts]

    def token(self, client: Client, contract: str | None = None) -> str:
        """A token that is good for the row that asks for it."""
        assert client.credentials is not None
        client.credentials.forget(contract)
        return client.credentials.token(client.http, contract)

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

    def topic_of(self, slug: str) -> str:
        """The topic that holds the dataset."""
        database = self.gateway.database()
        try:
            with database.reading() as session:
                return session.get_one(Dataset, slug).topic
        finally:
            database.close()

    def _consent(self, slug: str) -> None:
        asked = {"dataset": slug, "purposes": [material.PURPOSE], "recipients": [ANY_RECIPIENT]}
        shown = self.provider.post("/v1/notices-of-consent", asked | material.NOTICE)
        terms = asked | {"notice": {"id": shown["id"], "version": shown["version"], "language": "en"}, "given_by": "subject"}
        people = ({"subject": material.subject(number)} for number in range(material.SUBJECTS))
        for _ in import_consents(self.provider, slug, terms, people):
            pass

    def _contract(self, slug: str) -> str:
        now = datetime.now(UTC)
        proposal = {"dataset": slug, "purpose": material.PURPOSE, "valid_until": rfc3339(now + timedelta(days=30)), "history": "all"}
        contract = self.consumer.post("/v1/contracts", proposal)["id"]
        self.provider.sign(contract)
        state = self.consumer.sign(contract)["state"]
        if state != "active":
            raise ValueError(f"the contract is {state} after both have signed it")
        return str(contract)


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
