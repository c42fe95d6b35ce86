"""A place to measure at: a gateway with two organizations, and datasets that are made when a row asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.client import Client
from connectors.cloudevent import rfc3339
from connectors.consents import import_consents
from consent.records import ANY_RECIPIENT
from gateway.catalog.models import Dataset
from gateway.setup import activate_policies
from tests.benchmarks import material
from tests.benchmarks.generator import run
from tests.dpop import bound_token
from tests.gateway import Gateway

AT_ONCE = 8
"""Calls of the control plane that prepare a row are made so many at once."""
PARTITIONS = 8

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """A contract in force, and a token that names it, as `bound_token` gives it."""

    contract: str
    path: str
    token: dict[str, Any]


class Place:
    """`gateway` is started, with a rule sheet for each of `personal`, the datasets that are about people; who made it closes it."""

    def __init__(self, gateway: Gateway, personal: Sequence[str], say: Say) -> None:
        self.say = say
        self.gateway = gateway
        say("the gateway starts")
        activate_policies(gateway.settings(), material.policies(gateway.folder, personal))
        gateway.start()
        self.provider = gateway.partner("Provider", kind="department")
        self.consumer = gateway.partner("Consumer")
        self.address = ["127.0.0.1", gateway.port]
        self._made: set[str] = set()
        self._published: dict[str, int] = {}

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
        return [Terms(contract, f"/v1/contracts/{contract}/events", self.bound_token(contract)) for contract in contracts]

    def token(self, client: Client, contract: str | None = None) -> str:
        """A token that is good for the row that asks for it."""
        assert client.credentials is not None
        client.credentials.forget(contract)
        return client.credentials.token(client.http, contract)

    def bound_token(self, contract: str) -> dict[str, Any]:
        """The consumer's for this contract, with what it takes to present it, good for the row that asks for it."""
        assert self.consumer.credentials is not None
        self.consumer.credentials.forget(contract)
        return bound_token(self.consumer, contract)

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
