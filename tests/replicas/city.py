"""A city on several replicas: gateways of one exchange, subscribers on each, load on all, and calls of which an observer keeps count."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import psycopg

from connectors.client import Client, ProblemError
from tests.dpop import bound_token
from tests.e2e.district import FOOTFALL, District
from tests.e2e.listener import until
from tests.engines import Engines, Postgres
from tests.gateway import READER, Gateway
from tests.replicas.ledger import Ledger
from tests.replicas.load import Load
from tests.replicas.observer import Observer, Shore, Subscriber, Tap
from tests.replicas.proxy import Proxy

BOUND_S = 10.5
"""The longest that a call may take: what the barrier may wait, and half a second for the call itself."""
TOKEN_S = 3600
READY_S = 60.0
"""In which all of them start, at once."""


@dataclass(frozen=True, slots=True)
class Call:
    """An answer: `took` are seconds, `shore` is what the observed sockets had acknowledged when it came."""

    status: int
    document: dict[str, Any]
    took: float
    shore: Shore


class Broken(Exception):
    """A call that was not answered; `took` are seconds."""

    def __init__(self, why: str, took: float) -> None:
        super().__init__(why)
        self.took = took


@dataclass
class City:
    """`count` replicas, each with `streams` subscribers under contracts of their own. Use it in `with`: within, events flow."""

    engines: Engines
    folder: Path
    count: int = 3
    streams: int = 2
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.people: list[str] = []
        """Whom events are about."""
        self.observer = Observer()
        self.replicas: list[Gateway] = []
        self._numbers = itertools.count()
        self.wires: list[Proxy] = []
        """By replica, its connections to the database."""
        self._renewed = time.monotonic()
        self._load: Load | None = None

    def __enter__(self) -> Self:
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._load is not None:
            self._load.stop()
        self.observer.__exit__(None, None, None)
        for replica in reversed(self.replicas):
            replica.close()
        for wire in self.wires:
            wire.close()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", replica.port) for replica in self.replicas]

    def subscriber(self, contract: str, home: int, start: bytes | None = None) -> Subscriber:
        """Under this contract, at this replica first, from this cursor on; by default from the earliest event."""
        return Subscriber(contract, lambda: bound_token(self.consumer, contract), self.addresses, home, start)

    def stall(self, home: int) -> Tap | None:
        """A reader at this replica that stands where another is, and does not read what comes; None if nobody is there."""
        like = self.reading[home % len(self.reading)]
        return self.observer.stall(self.subscriber(like.contract, home, like.cursor))

    def token(self) -> str:
        """The provider's. Kept until `renew_tokens`."""
        client = self.district.provider
        assert client.credentials is not None
        return client.credentials.token(client.http)

    def renew_tokens(self) -> None:
        """Ask for new ones, while everybody is well: nobody is asked for hours, or by the threads of observer and load."""
        if time.monotonic() > self._renewed + TOKEN_S / 2:
            self._renewed = time.monotonic()
            assert self.consumer.credentials is not None
            assert self.district.provider.credentials is not None
            for one in self.reading:
                self.consumer.credentials.forget(one.contract)
                bound_token(self.consumer, one.contract)
            self.district.provider.credentials.forget(None)
            self.token()

    def person(self) -> str:
        """Somebody new."""
        return f"person-{next(self._numbers):05d}"

    def consent(self, person: str, replica: int) -> Call:
        """Given at this replica, if it can; events flow from then on."""
        body = {"dataset": FOOTFALL, "purposes": ["transit-planning"], "recipients": ["any_recipient"], "subject": person}
        said = self.call(replica, "POST", "/v1/consents", body | {"given_by": "subject", "notice": self.district.notice})
        if said.status == 201:
            self.people.append(person)
        return said

    def consents(self, count: int = 1) -> dict[str, str]:
        """People who consent now, and are heard of on every stream: their records by name."""
        given = {}
        for number in range(count):
            person = self.person()
            given[person] = str(self.consent(person, number % self.count).document["id"])
        self.wait_to_hear(given)
        return given

    def withdraw(self, consent: str, replica: int) -> Call:
        return self.call(replica, "POST", f"/v1/consents/{consent}/withdraw")

    def call(self, replica: int, method: str, path: str, body: Any = None, *, token: str | None = None) -> Call:
        """One request at this replica, which is tried once. Raises `Broken`."""
        headers = {"Authorization": f"Bearer {token or self.token()}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.replicas[replica].port, timeout=BOUND_S)
        began = time.monotonic()
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            # At once: what comes from here on came after the call.
            took, shore = time.monotonic() - began, self.observer.shore()
            return Call(answer.status, json.loads(answer.read() or b"{}"), took, shore)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(type(error).__name__, time.monotonic() - began) from error
        finally:
            connection.close()

    def signal(self, replica: int, number: signal.Signals) -> int:
        """Send the gateway itself this signal; its process id."""
        pid = self.replicas[replica].pid
        os.kill(pid, number)
        return pid

    def cut_sessions(self, replica: int) -> int:
        """End all sessions that this replica has at the database; how many."""
        ending = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = %s"
        url = self._postgres.url().replace("+psycopg", "", 1)
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute(ending, [_name(replica)]).fetchone()
        return int(row[0]) if row else 0

    def standing(self, replica: int = 0) -> dict[str, Any]:
        """`GET /v1/replicas` at this one, by the operator."""
        found: dict[str, Any] = self.clients[replica].get("/v1/replicas")
        return found

    def wait_until_well(self, seconds: float = 60, *, replicas: int = 0) -> None:
        """Return once so many replicas (0: all) are ready and live, and every subscriber hears new events."""
        wanted = replicas or self.count
        until(lambda: sum(replica.is_ready(policy=True) for replica in self.replicas) >= wanted, "replicas are ready", seconds)
        until(lambda: any(len(self._live(at)) >= wanted for at in range(self.count)), "leases are live", seconds)
        until(lambda: all(subscriber.listens for subscriber in self.reading), "all subscribers listen", seconds)
        if self.people:
            self.wait_to_hear_more([subscriber.count for subscriber in self.reading], seconds)

    def wait_to_hear_more(self, before: list[int], seconds: float = 30) -> None:
        """Return once every subscriber has heard more than so many events."""
        until(lambda: all(one.count > was for one, was in zip(self.reading, before, strict=True)), "all hear more", seconds)

    def wait_to_hear(self, people: Iterable[str], seconds: float = 30) -> None:
        """Return once every subscriber has heard of each of these people."""
        wanted = {*people}
        until(lambda: all(wanted <= subscriber.heard_of() for subscriber in self.reading), "all are heard of", seconds)

    @property
    def reading(self) -> list[Subscriber]:
        """The subscribers that are to hear what flows."""
        return [subscriber for subscriber in self.observer.subscribers if subscriber.stays]

    def seat(self, replica: int) -> str:
        """How this replica is called."""
        return f"{socket.gethostname()}:{self.replicas[replica].port}"

    @property
    def _postgres(self) -> Postgres:
        assert self.engines.real is not None
        return self.engines.real.postgres

    def _live(self, replica: int) -> set[str]:
        """Who holds a lease, by this replica's word; nobody if it does not answer."""
        with suppress(ProblemError, httpx2.TransportError):
            return {item["id"] for item in self.standing(replica)["items"] if item["state"] == "live"}
        return set()

    def _set_up(self) -> None:
        lifetimes = {"EXCHANGE_TOKEN_LIFETIME_S": str(TOKEN_S), "EXCHANGE_CLIENT_REQUESTS_PER_MINUTE": "1000000"}
        lifetimes |= {"EXCHANGE_ORGANIZATION_REQUESTS_PER_MINUTE": "1000000"}
        first: Gateway | None = None
        direct = ""
        for number in range(self.count):
            environment = lifetimes | {"PGAPPNAME": _name(number)} | self.environment
            replica = Gateway(self.engines, self.folder / _name(number), environment, beside=first, ready_s=READY_S)
            direct = direct or replica.database_url
            first = first or replica
            self.wires.append(Proxy(self._postgres.port))
            replica.database_url = direct.replace(f":{self._postgres.port}/", f":{self.wires[-1].port}/")
            self.replicas.append(replica)
        with ThreadPoolExecutor(self.count) as starting:
            list(starting.map(Gateway.start, self.replicas))
        first = self.replicas[0]
        self.clients = [replica.operator() for replica in self.replicas]
        self.district = District(first)
        self.consumer: Client = first.partner("Start-up", scopes=READER)
        self.observer.__enter__()
        for home in range(self.count):
            for _ in range(self.streams):
                self.observer.watch(self.subscriber(self.district.contract(self.consumer), home))
        self.ledger = Ledger(first, direct, self.folder / "checkpoint-seen")
        self._load = Load([replica.port for replica in self.replicas], self.token, self.people, self.ledger.acknowledged)
        self._load.start()


def _name(replica: int) -> str:
    return f"replica-{replica}"


def is_dead(pid: int) -> bool:
    """True if nothing runs under this process id, nor ever will go on."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in {"Z", "X"}


def is_backed_up(tap: Tap) -> bool:
    """True once what the gateway has for a reader that does not read stands, and does not get less."""
    was = tap.acknowledged()
    time.sleep(1.5)
    return 0 < was == tap.acknowledged()
