"""`Idempotency-Key`: a POST that is repeated gets its first answer again and does nothing twice."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy import func, select, update

from gateway.database import Transaction, now
from gateway.errors import ExchangeError
from gateway.idempotency import IdempotentAnswer, IdempotentRoute
from gateway.identity.models import Organization
from gateway.identity.principal import Allow, Principal
from tests.identity.exchange import Exchange, an_exchange, bearer


class Counting:
    """Routes that count how often they ran."""

    def __init__(self) -> None:
        self.ran = 0
        self.go_on = threading.Event()
        self.begun = threading.Event()
        self.router = APIRouter(route_class=IdempotentRoute)
        for name in ("count", "refuse", "fail", "crash", "wait", "stream", "uncommitted", "open"):
            self.router.add_api_route(f"/{name}", getattr(self, name), methods=["POST"], status_code=201, response_model=None)

    async def count(self, request: Request, caller: Annotated[Principal, Allow()], a: int = 0) -> JSONResponse:  # noqa: ARG002
        self.ran += 1
        body = await request.body()
        return JSONResponse({"ran": self.ran, "bytes": len(body)}, 201, {"Location": f"/{self.ran}", "X-Client": caller.client_id})

    async def open(self) -> dict[str, int]:
        self.ran += 1
        return {"ran": self.ran}

    def refuse(self) -> None:
        self.ran += 1
        raise ExchangeError("illegal_state", legal=[])

    def fail(self) -> None:
        self.ran += 1
        raise ExchangeError("log_unavailable")

    def crash(self) -> None:
        self.ran += 1
        raise RuntimeError("unforeseen")

    def wait(self) -> dict[str, int]:
        self.ran += 1
        self.begun.set()
        self.go_on.wait(10)
        return {"ran": self.ran}

    def stream(self) -> StreamingResponse:
        self.ran += 1
        return StreamingResponse(iter([b"a", b"b", b"c"]), 201)

    def uncommitted(self, session: Transaction) -> dict[str, int]:
        """Answers 201, and then its transaction fails."""
        self.ran += 1
        session.add(Organization(id="org_1", name="City of Mississauga", kind="partner", standing="pending", created_at=now()))
        return {"ran": self.ran}


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with an_exchange(tmp_path) as made:
        yield made


@pytest.fixture
def counting(exchange: Exchange) -> Counting:
    made = Counting()
    exchange.mount(made.router)
    return made


def post(exchange: Exchange, path: str, key: str | None = "k1", body: bytes = b"{}", headers: dict[str, str] | None = None) -> Any:
    named = {"Idempotency-Key": key} if key is not None else {}
    return exchange.http.post(path, content=body, headers=exchange.operator | named | (headers or {}))


def test_repeated_request_gets_its_first_answer_and_runs_once(exchange: Exchange, counting: Counting) -> None:
    first, again = post(exchange, "/count", body=b"abc"), post(exchange, "/count", body=b"abc")
    assert (first.status_code, first.json()) == (201, {"ran": 1, "bytes": 3})
    assert "idempotency-replayed" not in first.headers
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert {name: again.headers[name] for name in ("location", "content-type", "x-client")} == {
        name: first.headers[name] for name in ("location", "content-type", "x-client")
    }
    assert counting.ran == 1


def test_request_without_key_runs_each_time(exchange: Exchange, counting: Counting) -> None:
    post(exchange, "/count", key=None)
    post(exchange, "/count", key=None)
    assert counting.ran == 2
    with exchange.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(IdempotentAnswer)) == 0


def test_key_belongs_to_one_path(exchange: Exchange, counting: Counting) -> None:
    post(exchange, "/count")
    assert post(exchange, "/stream").content == b"abc"
    assert post(exchange, "/stream").content == b"abc"
    assert counting.ran == 2


def test_key_belongs_to_one_client(exchange: Exchange, counting: Counting) -> None:
    other = exchange.make_client(exchange.organization_id)
    token = exchange.token(other["id"], other["client_secret"])
    assert post(exchange, "/count").headers["x-client"] == exchange.operator_id
    assert post(exchange, "/count", headers=bearer(token)).headers["x-client"] == other["id"]
    assert counting.ran == 2


@pytest.mark.parametrize(
    "other", [{"body": b"[]"}, {"path": "/count?a=2"}, {"headers": {"Content-Type": "text/plain"}}, {"headers": {"ce-id": "2"}}]
)
def test_another_request_under_the_same_key_is_refused(exchange: Exchange, counting: Counting, other: dict[str, Any]) -> None:
    same: dict[str, Any] = {"path": "/count?a=1", "body": b"{}", "headers": {"Content-Type": "application/json", "ce-id": "1"}}
    assert post(exchange, **same).status_code == 201
    answer = post(exchange, **(same | other))
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert counting.ran == 1


def test_request_that_still_runs_is_a_conflict(exchange: Exchange, counting: Counting) -> None:
    exchange.operator  # noqa: B018 - gets the token before the thread asks for it
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, exchange, "/wait")
        assert counting.begun.wait(10)
        second = post(exchange, "/wait")
        counting.go_on.set()
        assert (second.status_code, second.json()["code"]) == (409, "request_in_progress")
        assert second.headers["retry-after"] == "1"
        assert first.result().status_code == 201
    assert post(exchange, "/wait").headers["idempotency-replayed"] == "true"
    assert counting.ran == 1


def test_refusal_is_an_answer_too(exchange: Exchange, counting: Counting) -> None:
    first, again = post(exchange, "/refuse"), post(exchange, "/refuse")
    assert (first.status_code, first.json()["code"]) == (409, "illegal_state")
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    assert counting.ran == 1


def test_failure_frees_the_key(exchange: Exchange, counting: Counting) -> None:
    assert [post(exchange, "/fail").status_code for _ in range(2)] == [503, 503]
    assert counting.ran == 2


def test_crash_frees_the_key(exchange: Exchange, counting: Counting) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError):
            post(exchange, "/crash")
    assert counting.ran == 2


def test_answer_whose_transaction_fails_is_not_kept(exchange: Exchange, counting: Counting) -> None:
    for _ in range(2):
        with pytest.raises(Exception, match=r"(?i)unique"):
            post(exchange, "/uncommitted")
    assert counting.ran == 2


def test_key_of_a_process_that_died_is_free_after_a_minute(exchange: Exchange, counting: Counting) -> None:
    post(exchange, "/count")
    with exchange.database.transaction() as session:  # as a process leaves it that dies while the request runs
        session.execute(update(IdempotentAnswer).values(sealed=None, expires_at=now() + timedelta(seconds=30)))
    assert post(exchange, "/count").json()["code"] == "request_in_progress"
    with exchange.database.transaction() as session:
        session.execute(update(IdempotentAnswer).values(expires_at=now() - timedelta(seconds=1)))
    assert post(exchange, "/count").json()["ran"] == 2


def test_running_request_holds_its_key_for_a_minute_and_its_answer_for_a_day(exchange: Exchange, counting: Counting) -> None:
    with ThreadPoolExecutor(1) as pool:
        exchange.operator  # noqa: B018 - gets the token before the thread asks for it
        first = pool.submit(post, exchange, "/wait")
        assert counting.begun.wait(10)
        lives = [_expires_at(exchange) - now()]
        counting.go_on.set()
        first.result()
    lives.append(_expires_at(exchange) - now())
    assert timedelta(seconds=50) < lives[0] <= timedelta(minutes=1)
    assert timedelta(hours=23, minutes=59) < lives[1] <= timedelta(hours=24)


def _expires_at(exchange: Exchange) -> Any:
    with exchange.database.reading() as session:
        return session.scalars(select(IdempotentAnswer.expires_at)).one()


def test_late_answer_does_not_overwrite_a_later_attempts(exchange: Exchange, counting: Counting) -> None:
    exchange.operator  # noqa: B018 - gets the token before the thread asks for it
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, exchange, "/wait")
        assert counting.begun.wait(10)
        with exchange.database.transaction() as session:  # a minute passes, and another attempt takes the key
            session.execute(update(IdempotentAnswer).values(attempt=b"another"))
        counting.go_on.set()
        assert slow.result().status_code == 201
    assert post(exchange, "/wait").json()["code"] == "request_in_progress"


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb"])
def test_key_that_is_none_is_refused(exchange: Exchange, counting: Counting, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1")), (b"Authorization", exchange.operator["Authorization"].encode())]
    answer = exchange.http.post("/count", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert counting.ran == 0


def test_two_keys_are_refused(exchange: Exchange, counting: Counting) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b"), *exchange.operator.items()]
    assert exchange.http.post("/count", content=b"{}", headers=headers).status_code == 400
    assert counting.ran == 0


def test_call_that_nobody_signed_is_not_kept(exchange: Exchange, counting: Counting) -> None:
    answers = [exchange.http.post("/open", headers={"Idempotency-Key": "k1"}).json() for _ in range(2)]
    assert [answer["ran"] for answer in answers] == [1, 2]


def test_replay_needs_a_token_that_is_still_good(exchange: Exchange, counting: Counting) -> None:
    other = exchange.make_client(exchange.organization_id)
    token = bearer(exchange.token(other["id"], other["client_secret"]))
    assert post(exchange, "/count", headers=token).status_code == 201
    exchange.http.post(f"/v1/clients/{other['id']}/revoke", headers=exchange.operator)
    answer = post(exchange, "/count", headers=token)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


def test_narrower_token_does_not_get_the_answer_of_a_wider_one(exchange: Exchange, counting: Counting) -> None:
    narrow = bearer(exchange.token(exchange.operator_id, exchange.operator_secret, scope="events:read"))
    assert post(exchange, "/count").status_code == 201
    answer = post(exchange, "/count", headers=narrow)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


def test_secret_of_a_new_client_is_given_again_and_is_nowhere_in_clear(exchange: Exchange) -> None:
    wanted = {
        "organization": exchange.organization_id,
        "name": "A",
        "scopes": ["events:read"],
        "token_endpoint_auth_method": "client_secret_basic",
    }
    headers = exchange.operator | {"Idempotency-Key": "k1"}
    first, again = (exchange.http.post("/v1/clients", json=wanted, headers=headers) for _ in range(2))
    assert first.status_code == 201
    assert again.json() == first.json()
    secret = first.json()["client_secret"]
    assert exchange.ask_token(first.json()["id"], secret).status_code == 200
    exchange.database.close()
    database = sqlite3.connect(exchange.settings.data_dir / "exchange.db")
    dump = "\n".join(database.iterdump()).lower()
    database.close()
    assert "k1" in dump
    assert secret.encode().hex() not in dump
    assert secret.lower() not in dump


def test_many_at_once_run_once(exchange: Exchange, counting: Counting) -> None:
    exchange.operator  # noqa: B018 - gets the token before the threads ask for it
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(exchange, "/count"), range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert counting.ran == 1
