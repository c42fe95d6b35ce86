"""Asks for tokens over several connections: each request has an assertion and a proof of its own, signed before the clock starts.

Plan: address, issuer, client, key (of the assertions), nonce, connections, tokens. Result: seconds, events (the tokens).
"""

from __future__ import annotations

import itertools
import secrets
import selectors
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from connectors.credentials import JWT_BEARER, TOKEN_PATH
from connectors.jose import Signer
from tests.benchmarks.load.control import Answers, connect, read_plan, tell, wait_for_go
from tests.dpop import Prover


def requests(plan: dict[str, Any]) -> Iterator[bytes]:
    """Token requests as they go over the wire."""
    signer, prover, target = Signer(plan["key"]), Prover(), plan["issuer"] + TOKEN_PATH
    prover.nonce = plan["nonce"]
    said = {"iss": plan["client"], "sub": plan["client"], "aud": plan["issuer"]}
    for _ in range(plan["tokens"]):
        assertion = signer.sign(said | {"jti": secrets.token_hex(16), "exp": int(time.time()) + 60})
        form = {"grant_type": "client_credentials", "client_assertion_type": JWT_BEARER, "client_assertion": assertion}
        body = urlencode(form)
        head = f"POST {TOKEN_PATH} HTTP/1.1\r\nHost: exchange\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        yield f"{head}DPoP: {prover.proof('POST', target)}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode("ascii")


def main() -> None:
    plan = read_plan()
    left = iter(list(requests(plan)))
    selector = selectors.DefaultSelector()
    for _ in range(plan["connections"]):
        connection = connect(plan["address"])
        selector.register(connection, selectors.EVENT_READ, Answers(connection))
    wait_for_go()
    began = time.monotonic()
    waiting = 0
    for key, request in zip(list(selector.get_map().values()), itertools.islice(left, plan["connections"]), strict=True):
        key.fileobj.sendall(request)  # type: ignore[union-attr]
        waiting += 1
    while waiting:
        for key, _ in selector.select():
            if not key.data.receive():
                continue
            key.data.next()
            following = next(left, None)
            if following is not None:
                key.fileobj.sendall(following)  # type: ignore[union-attr]
            else:
                waiting -= 1
    tell({"seconds": time.monotonic() - began, "events": plan["tokens"]})


if __name__ == "__main__":
    main()
