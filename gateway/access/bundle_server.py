"""Serves the active revision's bundle to OPA, which holds a request open until there is another one (long polling).

Protocol: OPA's bundle and status services (https://www.openpolicyagent.org/docs/management-bundles, management-status).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response

from gateway.access.bundle import MEDIA_TYPE, NAME

LONGEST_WAIT_S = 30.0
MAX_STATUS_BYTES = 1024 * 1024
_WAIT = re.compile(r"(?:^|[;,\s])wait=([0-9]{1,4})(?:$|[;,\s])")


@dataclass(frozen=True, slots=True)
class Served:
    """What is being served: a revision and its archive."""

    revision: str
    content: bytes

    @property
    def etag(self) -> str:
        """Names the revision, not the bytes: a signature differs each time that the same revision is built."""
        return f'"{self.revision}"'


class BundleServer:
    """Holds the one bundle that is served. Set from any thread; awaited on any event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Served | None = None
        self._wakers: set[Callable[[], None]] = set()
        self._closed = False
        self._problem: str | None = None
        self._taken = False

    @property
    def current(self) -> Served | None:
        return self._current

    @property
    def problem(self) -> str | None:
        """What OPA reported of the bundle since it has fetched it: why it was not activated. None: nothing bad."""
        return self._problem

    def serve(self, bundle: Served | None) -> None:
        """Serve this from now on, and answer everybody who waits."""
        with self._lock:
            self._current, self._problem, self._taken = bundle, None, False
            self._wake()

    def close(self) -> None:
        """Answer everybody who waits, so that the server can stop."""
        with self._lock:
            self._closed = True
            self._wake()

    def taken(self, bundle: Served) -> None:
        """This bundle is on its way to OPA."""
        with self._lock:
            self._taken = self._taken or bundle is self._current

    def report(self, status: dict[str, Any]) -> None:
        """Take one status report of OPA. What does not have its shape says nothing."""
        bundles = status.get("bundles")
        bundle = bundles.get(NAME) if isinstance(bundles, dict) else None
        # What is reported before this bundle was fetched is about the one before, or about the way here.
        if isinstance(bundle, dict) and self._taken:
            self._problem = f"{bundle['code']}: {bundle.get('message', '')}" if bundle.get("code") else None

    async def wait(self, etag: str | None, seconds: float) -> Served | None:
        """The bundle, as soon as it is another than `etag` names; None if `seconds` pass first or the server closes."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def waker() -> None:
            loop.call_soon_threadsafe(changed.set)

        with self._lock:
            found = self._other_than(etag)
            if found or self._closed:
                return found
            self._wakers.add(waker)
        try:
            await asyncio.wait_for(changed.wait(), seconds)
        except TimeoutError:
            return None
        finally:
            with self._lock:
                self._wakers.discard(waker)
        return self._other_than(etag)

    def _other_than(self, etag: str | None) -> Served | None:
        current = self._current
        return current if current is not None and current.etag != etag else None

    def _wake(self) -> None:
        for waker in self._wakers:
            waker()
        self._wakers.clear()


def bundle_routes(server: BundleServer, token: str) -> APIRouter:
    """The routes for OPA, for the admin address: `GET /v1/policy/bundle` and `POST /status`, with `token` as bearer."""

    def admit(authorization: Annotated[str, Header()] = "") -> None:
        given = authorization.encode("utf-8", "surrogateescape")
        if not token or not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})

    router = APIRouter(dependencies=[Depends(admit)], include_in_schema=False)

    @router.get("/v1/policy/bundle")
    async def bundle(if_none_match: Annotated[str | None, Header()] = None, prefer: Annotated[str, Header()] = "") -> Response:
        asked = _WAIT.search(prefer)
        found = await server.wait(if_none_match, min(float(asked[1]) if asked else 0.0, LONGEST_WAIT_S))
        if found is not None:
            server.taken(found)
            return Response(found.content, media_type=MEDIA_TYPE, headers={"ETag": found.etag})
        if server.current is None:
            return Response(status_code=404)
        # OPA goes on with long polling only while answers have the bundle's media type.
        return Response(status_code=304, media_type=MEDIA_TYPE, headers={"ETag": server.current.etag})

    @router.post("/status")
    async def status(request: Request) -> Response:
        report = await _json_object(request)
        if report is None:
            return Response(status_code=400)
        server.report(report)
        return Response(status_code=204)

    return router


async def _json_object(request: Request) -> dict[str, Any] | None:
    """The body, if it is a JSON object of at most `MAX_STATUS_BYTES`."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_STATUS_BYTES:
            return None
    try:
        document = json.loads(bytes(body))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
