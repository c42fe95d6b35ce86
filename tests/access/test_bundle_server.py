"""The bundle is served to whoever has the token, at once if it is new, else when it becomes so."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from gateway.access.bundle_server import BundleServer, Served
from tests.access.admin import TOKEN, admin_address

FIRST, SECOND = Served("pol_1", b"one"), Served("pol_2", b"two")


@pytest.fixture
def server() -> BundleServer:
    return BundleServer()


@pytest.fixture
def client(server: BundleServer) -> Iterator[httpx2.Client]:
    with admin_address(server) as url, httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10) as opened:
        yield opened


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer another", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \xe9"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/policy/bundle"), ("POST", "/status")])
def test_without_the_token_nothing_is_served_or_taken(
    server: BundleServer, client: httpx2.Client, authorization: str, method: str, path: str
) -> None:
    server.serve(FIRST)
    answer = client.request(method, path, headers={b"Authorization": authorization.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert b"one" not in answer.content


def test_a_new_bundle_is_served_at_once_with_its_type_and_etag(server: BundleServer, client: httpx2.Client) -> None:
    server.serve(FIRST)
    answer = client.get("/v1/policy/bundle", headers={"Prefer": "modes=snapshot,delta;wait=20"})
    assert (answer.status_code, answer.content) == (200, b"one")
    assert answer.headers["Content-Type"] == "application/vnd.openpolicyagent.bundles"
    assert answer.headers["ETag"] == '"pol_1"'


def test_the_same_bundle_is_answered_304_after_the_wait(server: BundleServer, client: httpx2.Client) -> None:
    server.serve(FIRST)
    started = time.monotonic()
    answer = client.get("/v1/policy/bundle", headers={"If-None-Match": '"pol_1"', "Prefer": "modes=snapshot,delta;wait=1"})
    assert time.monotonic() - started >= 1
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["Content-Type"] == "application/vnd.openpolicyagent.bundles"


def test_who_does_not_ask_to_wait_does_not(server: BundleServer, client: httpx2.Client) -> None:
    server.serve(FIRST)
    assert client.get("/v1/policy/bundle", headers={"If-None-Match": '"pol_1"'}).status_code == 304


def test_before_there_is_a_bundle_there_is_none(client: httpx2.Client) -> None:
    assert client.get("/v1/policy/bundle").status_code == 404


def test_a_bundle_set_by_another_thread_wakes_all_who_wait(server: BundleServer) -> None:
    server.serve(FIRST)

    async def wait() -> list[Served | None]:
        waiting = [asyncio.create_task(server.wait(FIRST.etag, 20)) for _ in range(5)]
        await asyncio.sleep(0.05)
        threading.Thread(target=server.serve, args=(SECOND,)).start()
        return list(await asyncio.gather(*waiting))

    started = time.monotonic()
    assert asyncio.run(wait()) == [SECOND] * 5
    assert time.monotonic() - started < 5


def test_a_server_that_closes_keeps_nobody_waiting(server: BundleServer) -> None:
    server.serve(FIRST)

    async def wait() -> Served | None:
        waiting = asyncio.create_task(server.wait(FIRST.etag, 20))
        await asyncio.sleep(0.05)
        server.close()
        return await waiting

    started = time.monotonic()
    assert asyncio.run(wait()) is None
    assert time.monotonic() - started < 5


def test_a_status_that_names_an_error_is_kept_until_the_next_bundle(server: BundleServer, client: httpx2.Client) -> None:
    server.serve(FIRST)
    status = {"bundles": {"exchange": {"name": "exchange", "code": "bundle_error", "message": "it does not compile"}}}
    assert client.post("/status", json=status).status_code == 204
    before = server.problem
    assert client.get("/v1/policy/bundle").status_code == 200
    assert client.post("/status", json=status).status_code == 204
    fetched = server.problem
    server.serve(SECOND)
    # What comes before this bundle was fetched is about another one.
    assert (before, fetched, server.problem) == (None, "bundle_error: it does not compile", None)


def test_a_status_without_an_error_says_nothing_bad(server: BundleServer, client: httpx2.Client) -> None:
    reports: tuple[dict[str, object], ...] = (
        {},
        {"bundles": None},
        {"bundles": []},
        {"bundles": {"exchange": 1}},
        {"bundles": {"exchange": {"active_revision": "pol_1"}}},
        {"bundles": {"other": {"code": "bad"}}},
    )
    for status in reports:
        assert client.post("/status", json=status).status_code == 204
        assert server.problem is None


@pytest.mark.parametrize(
    "body",
    [b"", b"rubbish", b"[]", b"\xff", b"[" * 100_000, b'{"a": "' + b"x" * 1024 * 1024 + b'"}'],
    ids=["empty", "no JSON", "no object", "no text", "deep", "large"],
)
def test_a_status_that_cannot_be_read_is_refused(server: BundleServer, client: httpx2.Client, body: bytes) -> None:
    assert client.post("/status", content=body).status_code == 400
    assert server.problem is None
