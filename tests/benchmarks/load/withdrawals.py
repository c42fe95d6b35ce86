"""Withdraws one consent after another while their events flow, and watches every stream at its socket for what must not come any more.

Plan: addresses (of the replicas), subscribers ([contract, token] each), path and token (to publish), token of the provider, people
([identifier, consent] each, in the order in which they withdraw). Result: took_ms (of each call), forbidden (events of which a byte
came after the call had returned), deliveries, seconds.
"""

from __future__ import annotations

import http.client
import itertools
import random
import secrets
import threading
import time
from typing import Any

from tests.benchmarks.load.control import read_plan, tell, wait_for_go
from tests.benchmarks.material import SEED, compact, events
from tests.replicas.observer import Observer, Shore, Subscriber

BATCHES_A_SECOND, EVENTS_A_BATCH = 10, 20
AROUND = 20
"""Events are about the people who withdraw next, and about some who just have."""
GROUP = 25
"""After so many withdrawals it is listened for a while, and looked at what has come."""
AFTERWARDS_S = 0.5
LISTENING_S = 30.0
CALL_S = 20.0
JSON = "application/json"
BATCH = "application/cloudevents-batch+json"


class Caller:
    """A connection to one replica that is kept."""

    def __init__(self, address: list[Any], token: str) -> None:
        self._connection = http.client.HTTPConnection(address[0], address[1], timeout=CALL_S)
        self._token = token

    def post(self, path: str, body: bytes | None, media_type: str, accepted: int) -> http.client.HTTPResponse:
        """An answer, of which only the head is read. Raises `ConnectionError` for another status."""
        self._connection.request("POST", path, body, {"Authorization": f"Bearer {self._token}", "Content-Type": media_type})
        answer = self._connection.getresponse()
        if answer.status != accepted:
            raise ConnectionError(answer.read().decode("utf-8", "replace")[:2000])
        return answer


class Publisher(threading.Thread):
    """Publishes about the people around `place`, at each replica in turn."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.place = 0
        self.ends = threading.Event()
        self.failed: Exception | None = None
        self._plan = plan
        self._samples = list(events(200))

    def run(self) -> None:
        callers = itertools.cycle([Caller(address, self._plan["token"]) for address in self._plan["addresses"]])
        choose, due = random.Random(SEED), time.monotonic()
        try:
            while not self.ends.is_set():
                next(callers).post(self._plan["path"], self._batch(choose), BATCH, 201).read()
                due += 1 / BATCHES_A_SECOND
                time.sleep(max(0.0, due - time.monotonic()))
        except (OSError, http.client.HTTPException) as error:
            self.failed = error

    def _batch(self, choose: random.Random) -> bytes:
        people = self._plan["people"][max(0, self.place - AROUND // 4) : self.place + AROUND]
        return b"[" + b",".join(compact(self._event(choose, person)) for person, _ in choose.choices(people, k=EVENTS_A_BATCH)) + b"]"

    def _event(self, choose: random.Random, person: str) -> dict[str, Any]:
        sample = choose.choice(self._samples)
        return sample | {"id": f"{person}-{secrets.token_hex(6)}", "data": sample["data"] | {"visitor": person}}


def main() -> None:
    plan = read_plan()
    publisher = Publisher(plan)
    with Observer() as observer:
        addresses = [(host, port) for host, port in plan["addresses"]]
        for number, (contract, token) in enumerate(plan["subscribers"]):
            observer.watch(Subscriber(contract, lambda token=token: token, addresses, number))  # type: ignore[misc] # no lambda with a default
        publisher.start()
        _wait_until_all_hear(observer)
        wait_for_go()
        began = time.monotonic()
        took, forbidden, deliveries = [], 0, 0
        callers = [Caller(address, plan["token"]) for address in plan["addresses"]]
        for place in range(0, len(plan["people"]), GROUP):
            shores: dict[str, Shore] = {}
            for number, (person, consent) in enumerate(plan["people"][place : place + GROUP], place):
                publisher.place = number
                called = time.monotonic()
                answer = callers[number % len(callers)].post(f"/v1/consents/{consent}/withdraw", None, JSON, 200)
                took.append((time.monotonic() - called) * 1000)
                # At once: what comes from here on came after the call.
                shores[person] = observer.shore()
                answer.read()
            time.sleep(AFTERWARDS_S)
            heard = sum(subscriber.count for subscriber in observer.subscribers)
            forbidden += sum(len(observer.beyond(shore, person + "-")) for person, shore in shores.items())
            _require_flow(publisher, heard)
            deliveries += heard
            observer.forget()
        seconds = time.monotonic() - began
        publisher.ends.set()
        publisher.join()
    tell({"took_ms": took, "forbidden": forbidden, "deliveries": deliveries, "seconds": seconds})


def _wait_until_all_hear(observer: Observer) -> None:
    deadline = time.monotonic() + LISTENING_S
    while not all(subscriber.count for subscriber in observer.subscribers):
        if time.monotonic() > deadline:
            silent = sum(not subscriber.count for subscriber in observer.subscribers)
            raise TimeoutError(f"{silent} of {len(observer.subscribers)} streams hear nothing")
        time.sleep(0.1)


def _require_flow(publisher: Publisher, heard: int) -> None:
    """That nothing forbidden comes says something only while the rest does."""
    if publisher.failed is not None:
        raise publisher.failed
    if not heard:
        raise ConnectionError("nothing flows any more")


if __name__ == "__main__":
    main()
