"""Load: what people of a city do is published all the time, at whichever replica takes it."""

from __future__ import annotations

import http
import http.client
import json
import random
import threading
from collections.abc import Callable, Sequence

from tests.e2e.district import FOOTFALL, visit

EVENTS_A_BATCH = 20
PAUSE_S = 0.1
PUBLISHERS = 2
PATIENCE_S = 2.0


class Load:
    """Some threads, each publishing events of some of `people` (who come and go) over one connection, elsewhere when that breaks.

    `acknowledged` is told the receipt of each batch that was taken.
    """

    def __init__(self, ports: Sequence[int], token: Callable[[], str], people: Sequence[str], acknowledged: Callable[[str], None]) -> None:
        self._ports = ports
        self._token = token
        self._people = people
        self._acknowledged = acknowledged
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._publish, args=(number,), daemon=True) for number in range(PUBLISHERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)

    def _publish(self, number: int) -> None:
        chance, turn, sent = random.Random(number), number, 0
        connection: http.client.HTTPConnection | None = None
        while not self._stop.wait(PAUSE_S):
            people = [*self._people]
            events = [visit(person, sent) for person in chance.sample(people, min(EVENTS_A_BATCH, len(people)))]
            if not events:
                continue
            sent += 1
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._ports[turn % len(self._ports)], timeout=PATIENCE_S)
            try:
                self._send(connection, events)
            except (OSError, http.client.HTTPException):
                connection.close()
                connection, turn = None, turn + 1
        if connection is not None:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, events: Sequence[object]) -> None:
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/cloudevents-batch+json"}
        connection.request("POST", f"/v1/datasets/{FOOTFALL}/events", json.dumps(events), headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status == http.HTTPStatus.CREATED:
            self._acknowledged(answer.headers["Audit-Entry"])
