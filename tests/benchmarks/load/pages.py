"""People with browsers: each asks for one page after another, and looks at it before asking for the next.

Plan: address, paths, cookie, users, pages (that each asks for), look_s (how long each looks). Result: ms, of each page from the
request's first byte to the answer's last.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

from tests.benchmarks.load.control import Answers, connect, read_plan, tell, wait_for_go


def ask(plan: dict[str, Any], user: int, taken: list[float]) -> None:
    """What one of them does."""
    connection = connect(plan["address"])
    answers = Answers(connection)
    paths = itertools.islice(itertools.cycle(plan["paths"]), user, user + plan["pages"])
    time.sleep(plan["look_s"] * user / plan["users"])  # nobody waits for the others
    for path in paths:
        head = (
            f"GET {path} HTTP/1.1\r\nHost: exchange\r\nAccept: text/html\r\nSec-Fetch-Site: same-origin\r\nCookie: {plan['cookie']}\r\n\r\n"
        )
        began = time.monotonic()
        connection.sendall(head.encode("ascii"))
        while not answers.receive():
            pass
        taken.append((time.monotonic() - began) * 1000)
        answers.next()
        time.sleep(plan["look_s"])
    connection.close()


def main() -> None:
    plan = read_plan()
    taken: list[float] = []
    people = [threading.Thread(target=ask, args=(plan, user, taken)) for user in range(plan["users"])]
    wait_for_go()
    for person in people:
        person.start()
    for person in people:
        person.join()
    if len(taken) != plan["users"] * plan["pages"]:
        raise ConnectionError("not every page was answered")
    tell({"ms": taken})


if __name__ == "__main__":
    main()
