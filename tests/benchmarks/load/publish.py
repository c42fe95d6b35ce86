"""Publishes batches over several connections, each of which sends its next batch when the one before is acknowledged.

Plan: address, path, token, connections, batches, first (the number of the first event), distinct (how many batches are built; they are
sent again in turn). Result: seconds, events.
"""

from __future__ import annotations

import itertools
import selectors
import time

from tests.benchmarks.load.control import Answers, connect, post, read_plan, tell, wait_for_go
from tests.benchmarks.material import BATCH, compact, events

MEDIA_TYPE = "application/cloudevents-batch+json"


def main() -> None:
    plan = read_plan()
    made = events(plan["distinct"] * BATCH, first=plan["first"])
    bodies = [b"[" + b",".join(compact(next(made)) for _ in range(BATCH)) + b"]" for _ in range(plan["distinct"])]
    requests = itertools.islice(itertools.cycle([post(plan["path"], plan["token"], MEDIA_TYPE, body) for body in bodies]), plan["batches"])
    selector = selectors.DefaultSelector()
    connections = [connect(plan["address"]) for _ in range(plan["connections"])]
    for connection in connections:
        selector.register(connection, selectors.EVENT_READ, Answers(connection))
    wait_for_go()
    began = time.monotonic()
    waiting = 0
    for connection in connections:
        if request := next(requests, None):
            connection.sendall(request)
            waiting += 1
    while waiting:
        for key, _ in selector.select():
            answers: Answers = key.data
            if not answers.receive():
                continue
            answers.next()
            if request := next(requests, None):
                key.fileobj.sendall(request)  # type: ignore[union-attr]
            else:
                waiting -= 1
    tell({"seconds": time.monotonic() - began, "events": plan["batches"] * BATCH})


if __name__ == "__main__":
    main()
