"""Subscribes to server-sent events over many connections, all released at once, until each has had the whole backlog.

Plan: address, subscribers ([path, token] each), events (of the backlog). Result: seconds, deliveries, bytes.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass

from tests.benchmarks.load.control import BUFFER_BYTES, connect, get, read_plan, tell, wait_for_go
from tests.benchmarks.material import MARKER
from tests.dpop import Presenter

ACCEPT = "text/event-stream"
OVERLAP = len(MARKER) - 1


@dataclass(slots=True)
class _Subscriber:
    connection: socket.socket
    events: int = 0
    tail: bytes = b""
    """The end of what came last: a marker may stand across two reads."""


def main() -> None:
    plan = read_plan()
    selector = selectors.DefaultSelector()
    requests = [get(f"{path}?cursor=earliest", Presenter(token), ACCEPT) for path, token in plan["subscribers"]]
    subscribers = [_Subscriber(connect(plan["address"])) for _ in requests]
    for subscriber in subscribers:
        selector.register(subscriber.connection, selectors.EVENT_READ, subscriber)
    # What was left over of the read before is put in front, so that every marker is whole once.
    buffer = bytearray(BUFFER_BYTES + OVERLAP)
    free = memoryview(buffer)[OVERLAP:]
    wanted, size, unfinished = plan["events"], 0, len(subscribers)
    wait_for_go()
    began = time.monotonic()
    for subscriber, request in zip(subscribers, requests, strict=True):
        subscriber.connection.sendall(request)
    while unfinished:
        for key, _ in selector.select():
            subscriber = key.data
            got = subscriber.connection.recv_into(free)
            if not got:
                raise ConnectionError(f"a stream ended after {subscriber.events} events: {subscriber.tail!r}")
            size += got
            buffer[OVERLAP - len(subscriber.tail) : OVERLAP] = subscriber.tail
            subscriber.events += buffer.count(MARKER, OVERLAP - len(subscriber.tail), OVERLAP + got)
            subscriber.tail = bytes(buffer[OVERLAP + max(0, got - OVERLAP) : OVERLAP + got])
            if subscriber.events >= wanted:
                selector.unregister(subscriber.connection)
                unfinished -= 1
    seconds = time.monotonic() - began
    deliveries = sum(subscriber.events for subscriber in subscribers)
    tell({"seconds": seconds, "events": deliveries, "bytes": size})


if __name__ == "__main__":
    main()
