"""A small server of the standard library: it records what comes and answers what it was given, as the wire says, to the byte."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Answer = tuple[int, dict[str, str], bytes]


class Recorded:
    """The requests that came, and the answers that wait, by path."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: dict[str, list[Answer]] = {}
        self.url = ""

    def give(self, path: str, *answers: Answer) -> None:
        self.answers.setdefault(path, []).extend(answers)

    def sent(self, path: str) -> list[tuple[dict[str, str], bytes]]:
        return [(headers, body) for _, asked, headers, body in self.requests if asked.partition("?")[0] == path]


def as_json(body: Any, status: int = 200, **headers: str) -> Answer:
    kind = "application/problem+json" if status >= 400 else "application/json"
    return status, {"Content-Type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()


def as_stream(text: str) -> Answer:
    return 200, {"Content-Type": "text/event-stream"}, text.encode()


def token(value: str, expires_in: float = 600, *, kind: str = "Bearer", **headers: str) -> Answer:
    return as_json({"access_token": value, "token_type": kind, "expires_in": expires_in}, 200, **headers)


def form_of(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


@contextmanager
def listening() -> Iterator[Recorded]:
    """A server at a free port that gives, for each path, one answer after another."""
    recorded = Recorded()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            recorded.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status, headers, content = recorded.answers[self.path.partition("?")[0]].pop(0)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the names that the base looks for

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    recorded.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield recorded
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
