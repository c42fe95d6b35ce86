"""Follows streams of server-sent events from their latest event on, over a connection each, until each has had so many.

Plan: address, subscribers ([path, token] each), events. Result: seconds (from the word to go to the last of them), events.
"""

from __future__ import annotations

import selectors
import socket
import time
from typing import Any

from tests.benchmarks.load.control import BUFFER_BYTES, connect, get, read_plan, tell, wait_for_go
from tests.benchmarks.material import MARKER
from tests.dpop import Presenter

ACCEPT = "text/event-stream"
OVERLAP = len(MARKER) - 1


def main() -> None:
    plan = read_plan()
    selector = selectors.DefaultSelector()
    for path, token in plan["subscribers"]:
        selector.register(_listening(plan["address"], path, token), selectors.EVENT_READ)
    counts = dict.fromkeys(selector.get_map(), 0)
    tails = dict.fromkeys(selector.get_map(), b"")
    wanted, unfinished = plan["events"], len(counts)
    wait_for_go()
    began = time.monotonic()
    while unfinished:
        for key, _ in selector.select():
            connection: socket.socket = key.fileobj  # type: ignore[assignment]
            got = connection.recv(BUFFER_BYTES)
            if not got:
                raise ConnectionError(f"a stream ended after {counts[key.fd]} events: {tails[key.fd]!r}")
            # A marker may stand across two reads; what is left over of the one before is too short to hold one.
            counts[key.fd] += (tails[key.fd] + got).count(MARKER)
            tails[key.fd] = (tails[key.fd] + got)[-OVERLAP:]
            if counts[key.fd] >= wanted:
                selector.unregister(connection)
                unfinished -= 1
    tell({"seconds": time.monotonic() - began, "events": sum(counts.values())})


def _listening(address: list[Any], path: str, token: Any) -> socket.socket:
    """A stream whose head has come, so that it misses nothing that is published from now on."""
    connection = connect(address)
    connection.sendall(get(f"{path}?cursor=latest", Presenter(token), ACCEPT))
    head = connection.recv(BUFFER_BYTES)
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head.decode("utf-8", "replace"))
    return connection


if __name__ == "__main__":
    main()
