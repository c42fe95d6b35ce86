"""Around every request: its identifier, its size, its log line and its metrics. Plain ASGI, so that nothing waits between a
judgement and its write.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.database import new_id
from gateway.errors import ExchangeError
from gateway.identity.possession import ANSWER_HEADERS, METHOD
from gateway.limits import InFlight

log = structlog.get_logger("gateway.requests")

MOST_BODY = 1024 * 1024
MOST_BATCH = 16 * 1024 * 1024
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)

requests = Counter("exchange_requests_total", "Requests, by method, route and status.", ["method", "route", "status"])
seconds = Histogram("exchange_request_seconds", "Time until a request's answer began, in seconds.", ["route"])


class Requests:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, in_flight: InFlight, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = new_id("req")
        scope["exchange.request_id"] = request_id
        traceparent = Headers(scope=scope).get("traceparent", "")
        scope[METHOD] = scope["method"]
        answer_headers: dict[str, str] = {}
        scope[ANSWER_HEADERS] = answer_headers
        # HEAD is GET without a body (RFC 9110 section 9.3.2), which the server leaves out. Events that nobody gets are not read.
        if scope["method"] == "HEAD" and not scope["path"].endswith("/events"):
            scope = {**scope, "method": "GET"}
        status = 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                for name, value in answer_headers.items():
                    headers[name] = value
                if TRACEPARENT.fullmatch(traceparent):
                    headers["traceparent"] = traceparent
                self._note(scope, status, time.perf_counter() - began, request_id, traceparent)
            await send(message)

        with self._in_flight.hold() as carry:
            await self._app(scope, _bounded(scope, receive, self._in_flight, carry), answered)

    def _note(self, scope: Scope, status: int, took: float, request_id: str, traceparent: str) -> None:
        route = getattr(scope.get("route"), "path", "none")
        requests.labels(scope["method"], route, status).inc()
        seconds.labels(route).observe(took)
        # The route, not the path: a path may hold what a caller should not have put there.
        told = {"traceparent": traceparent} if TRACEPARENT.fullmatch(traceparent) else {}
        log.info("request", method=scope["method"], route=route, status=status, ms=round(took * 1000, 1), request=request_id, **told)


def _bounded(scope: Scope, receive: Receive, in_flight: InFlight, carry: Callable[[int], None]) -> Receive:
    """`receive` that refuses bodies over the limit with 413, and what is more than the process carries with 503, by their length where
    it is given, else as they come.

    Starlette's own exception, because FastAPI lets no other through while it reads a body.
    """
    most = MOST_BATCH if scope["path"].endswith("/events") else MOST_BODY
    length = Headers(scope=scope).get("content-length", "")
    declared = int(length) if length.isascii() and length.isdigit() else 0
    received = carried = 0

    def take_up(size: int) -> None:
        nonlocal carried
        if size > most:
            raise HTTPException(413)
        if size > carried:
            try:
                in_flight.admit(size - carried)
            except ExchangeError as error:
                raise HTTPException(error.status, headers=error.headers) from error
            carry(size - carried)
            carried = size

    async def bounded() -> Message:
        nonlocal received
        take_up(declared)
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            take_up(received)
        return message

    return bounded
