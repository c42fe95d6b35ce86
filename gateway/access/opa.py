"""The policy engine beyond one machine: an OPA server that fetches the active revision as a signed bundle.

Every decision asks for provenance, so that it is known which revision it was computed by, and for strict builtin errors:
without them a deny rule whose builtin fails silently does not fire.
"""

from __future__ import annotations

import queue
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import orjson
from opa_client.opa import OpaClient
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Timeout

from gateway.access.answer import checked
from gateway.access.bundle import NAME
from gateway.access.bundle_server import BundleServer, Served
from gateway.access.decision import ENTRYPOINT, Answer, EngineRefused, PolicyUnavailable

CONNECT_SECONDS = 0.3
READ_SECONDS = 0.7
_STRICT = {"provenance": "true", "strict-builtin-errors": "true"}


class _Answer:
    """What the library asks of an answer."""

    def __init__(self, answer: BaseHTTPResponse) -> None:
        self._answer = answer

    def raise_for_status(self) -> None:
        if self._answer.status >= HTTPStatus.BAD_REQUEST:
            raise PolicyUnavailable(f"OPA answered {self._answer.status}")

    def json(self) -> Any:
        return orjson.loads(self._answer.data)


class _Session:
    """One kept connection of `urllib3`, deaf to proxies and `.netrc` of the environment, which would get our token or replace it.

    The library's own session is one of `requests`, which takes as long to make a request as OPA to answer it.
    """

    def __init__(self, pool: HTTPConnectionPool) -> None:
        self._pool = pool

    def post(self, path: str, *, json: dict[str, Any], timeout: Timeout) -> _Answer:
        body = orjson.dumps(json)
        # A retry would repeat what OPA refused, and another address would get the token.
        return _Answer(self._pool.urlopen("POST", path, body, timeout=timeout, retries=False, redirect=False))

    def close(self) -> None:
        self._pool.close()


class _Client(OpaClient):  # type: ignore[misc]
    """The library's client on a session that is made for one question after another."""

    def _init_session(self) -> _Session:
        self.root_url = f"/{self.version}"
        headers = (self.headers or {}) | {"Content-Type": "application/json"}
        if self.ssl:
            return _Session(HTTPSConnectionPool(self.host, self.port, headers=headers, cert_reqs="CERT_REQUIRED"))
        return _Session(HTTPConnectionPool(self.host, self.port, headers=headers))


class OpaEngine:
    """`PolicyEngine` on an OPA server. Thread-safe. `bundles` is what `bundle_routes` serves to that OPA."""

    def __init__(self, url: str, token: str, activation_s: float = 3.0) -> None:
        """`url` is OPA's root, `http://host:port`; `token` the bearer token that its authorization policy expects."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host = parts.hostname or "localhost"
        self._where = (f"[{host}]" if ":" in host else host, parts.port or (443 if secure else 8181), secure)
        self._token = token
        self._activation_s = activation_s
        self._idle: queue.LifoQueue[_Client] = queue.LifoQueue()
        self._expected: str | None = None
        self.bundles = BundleServer()

    def evaluate(self, facts: dict[str, Any]) -> Answer:
        """The answer at `ENTRYPOINT` for these facts, by the active revision. Raises `PolicyUnavailable` within about a second."""
        expected = self._expected
        if expected is None:
            raise PolicyUnavailable("no policy revision is active")
        body = self._ask(facts)
        revision = _revision(body)
        if revision != expected:
            raise PolicyUnavailable("OPA answered by another revision than the active one")
        if "result" not in body:
            raise PolicyUnavailable("the policy is undefined for these facts")
        return checked(body["result"], revision)

    def activate(self, revision: str, bundle: bytes) -> None:
        """Serve the bundle and wait, at most `activation_s`, until a decision shows that OPA has taken it.

        From the first moment no answer of the revision before counts. Raises `EngineRefused` with what OPA said, `PolicyUnavailable`; the
        bundle stays served and expected, so that an OPA that comes back late is believed as soon as it has it.
        """
        self._expected = revision
        self.bundles.serve(Served(revision, bundle))
        deadline = time.monotonic() + self._activation_s
        while True:
            try:
                return self.ping()
            except PolicyUnavailable as error:
                if self._expected != revision:
                    raise PolicyUnavailable("another revision came meanwhile") from error
                if self.bundles.problem is not None:
                    raise EngineRefused(f"OPA refused the revision: {self.bundles.problem}") from error
                if time.monotonic() > deadline:
                    raise PolicyUnavailable(f"OPA has not taken the revision: {error}") from error
            time.sleep(0.02)

    def suspend(self) -> None:
        """Believe no answer until the next `activate`."""
        self._expected = None

    def ping(self) -> None:
        """Return if OPA answers with the active revision, else raise `PolicyUnavailable`."""
        self.evaluate({})

    def close(self) -> None:
        """Close connections and release OPA's open request for a bundle."""
        self._expected = None
        self.bundles.close()
        while not self._idle.empty():
            self._idle.get_nowait().close_connection()

    def _ask(self, facts: dict[str, Any]) -> dict[str, Any]:
        # requests' sessions are not made for several threads: each call borrows a client of its own.
        try:
            client = self._idle.get_nowait()
        except queue.Empty:
            client = self._new_client()
        try:
            body = client.query_rule(facts, ENTRYPOINT, query_params=_STRICT)
        except PolicyUnavailable:
            client.close_connection()
            raise
        except Exception as error:  # whatever failed, there is no answer
            client.close_connection()
            raise PolicyUnavailable(f"OPA did not answer: {type(error).__name__}") from error
        self._idle.put(client)
        if not isinstance(body, dict):
            raise PolicyUnavailable("OPA did not answer with a document")
        return body

    def _new_client(self) -> _Client:
        host, port, secure = self._where
        # A connection and an answer have a second between them.
        return _Client(host=host, port=port, ssl=secure, token=self._token, timeout=Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS))


def _revision(body: dict[str, Any]) -> str:
    """The revision that computed this very answer: provenance is of the same transaction."""
    try:
        return str(body["provenance"]["bundles"][NAME]["revision"])
    except (KeyError, TypeError) as error:
        raise PolicyUnavailable("OPA did not say by which revision it answered") from error
