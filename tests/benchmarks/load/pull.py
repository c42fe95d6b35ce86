"""Pulls pages over one connection for each partition until all events have come.

Plan: address, path, token, partitions, events. Result: seconds, events, pages.
"""

from __future__ import annotations

import selectors
import time
from dataclasses import dataclass

from tests.benchmarks.load.control import Answers, connect, get, read_plan, tell, wait_for_go
from tests.benchmarks.material import MARKER
from tests.dpop import Presenter

ACCEPT = "application/cloudevents-batch+json"


@dataclass(slots=True)
class _Puller:
    path: str
    presenter: Presenter
    answers: Answers

    def request(self, cursor: str) -> bytes:
        return get(f"{self.path}&cursor={cursor}", self.presenter, ACCEPT)


def main() -> None:
    plan = read_plan()
    selector = selectors.DefaultSelector()
    for partition in range(plan["partitions"]):
        connection = connect(plan["address"])
        puller = _Puller(f"{plan['path']}?limit_bytes=4194304&partitions={partition}", Presenter(plan["token"]), Answers(connection))
        selector.register(connection, selectors.EVENT_READ, puller)
    wait_for_go()
    began = time.monotonic()
    for key in selector.get_map().values():
        key.fileobj.sendall(key.data.request("earliest"))  # type: ignore[union-attr]
    events = pages = 0
    while events < plan["events"]:
        if not selector.get_map():
            raise ConnectionError(f"{events} of {plan['events']} events came")
        for key, _ in selector.select():
            puller = key.data
            if not puller.answers.receive():
                continue
            got = puller.answers.count(MARKER)
            cursor = puller.answers.header(b"next-cursor").decode("ascii")
            puller.presenter.hear(puller.answers.header(b"dpop-nonce").decode("ascii"))
            puller.answers.next()
            events += got
            pages += 1
            if got:
                key.fileobj.sendall(puller.request(cursor))  # type: ignore[union-attr]
            else:
                selector.unregister(key.fileobj)
    tell({"seconds": time.monotonic() - began, "events": events, "pages": pages})


if __name__ == "__main__":
    main()
