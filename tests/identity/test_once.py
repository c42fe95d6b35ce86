"""What may come once comes once, on both databases, whoever asks at the same moment at whatever replica."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from gateway.database import Database, now
from gateway.errors import ExchangeError
from gateway.identity.models import UsedProof
from gateway.identity.once import Once
from gateway.migrations import upgrade
from tests.engines import Engines

THREADS, DIGESTS = 16, 50


@pytest.fixture
def database(engines: Engines) -> Iterator[Database]:
    opened = Database(engines.database_url(upgrade))
    yield opened
    opened.close()


def test_digest_is_good_once_however_many_ask_at_once_at_two_replicas(database: Database) -> None:
    replicas, until = (Once(database), Once(database)), now() + timedelta(seconds=60)
    digests = [number.to_bytes(32, "big") for number in range(DIGESTS)]

    def use_all(thread: int) -> list[bytes]:
        return [digest for digest in digests[thread:] + digests[:thread] if replicas[thread % 2].use(digest, until)]

    with ThreadPoolExecutor(THREADS) as threads:
        used = [digest for done in threads.map(use_all, range(THREADS)) for digest in done]
    assert sorted(used) == digests


def test_what_has_expired_is_forgotten(database: Database) -> None:
    assert Once(database).use(b"old", now() - timedelta(seconds=1))
    assert Once(database).use(b"new", now() + timedelta(seconds=60))
    with database.reading() as session:
        assert session.scalar(select(func.count(UsedProof.digest))) == 1


def test_database_that_is_away_lets_nothing_pass() -> None:
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(Once(away).use, bytes([number]), now()) for number in range(4)]
    assert {getattr(one.exception(), "code", None) for one in asked} == {"database_unavailable"}
    assert isinstance(asked[0].exception(), ExchangeError)
    away.close()
