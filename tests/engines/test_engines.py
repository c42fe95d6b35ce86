"""The engines themselves: each starts from `deploy/`, answers, and goes on after `kill -9` with what it had acknowledged."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaTimeoutError
from sqlalchemy import create_engine, text

from tests.engines import EngineFailed, Engines, Kafka, Opa, Postgres, install
from tests.engines.process import Process, free_port

PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAElroyq4YEvXwPM2yPAnjjIkqGa0o3
hr1Xn+6DT5+AKXtqhd0lS5Kp+4KxzGodP50lpcFA392cIoVoyN7NfjPTZQ==
-----END PUBLIC KEY-----
"""


@pytest.fixture
def opa(opa_binary: Path) -> Iterator[Opa]:
    with Opa(opa_binary, admin_url=f"http://127.0.0.1:{free_port()}", token="the-token", public_key=PUBLIC_KEY) as server:
        yield server


def test_kafka_keeps_what_it_acknowledged_over_kill_and_restart(kafka: Kafka) -> None:
    topic = f"engines-{uuid.uuid4().hex}"
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.create_topics([NewTopic(topic, 1, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")
    producer.send(topic, b"acknowledged").get(timeout=10)
    kafka.kill()
    assert not kafka.running
    kafka.start()
    producer.send(topic, b"after the restart").get(timeout=30)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, consumer_timeout_ms=5000)
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    assert [next(consumer).value for _ in range(2)] == [b"acknowledged", b"after the restart"]
    consumer.close()


def test_kafka_makes_no_topic_by_itself(kafka: Kafka) -> None:
    topic = f"nobody-made-{uuid.uuid4().hex}"
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, max_block_ms=500)
    with pytest.raises(KafkaTimeoutError):
        producer.send(topic, b"x").get(timeout=5)
    producer.close()
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    assert topic not in admin.list_topics()
    admin.close()


def test_postgres_keeps_what_it_committed_over_kill_and_restart(postgres: Postgres) -> None:
    database = postgres.create_database()
    address = postgres.url(database).replace("+psycopg", "")
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    held = psycopg.connect(address)
    held.execute("INSERT INTO kept VALUES (2)")
    postgres.kill()
    postgres.start()
    with pytest.raises(psycopg.OperationalError):
        held.execute("SELECT 1")
    held.close()
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]
    postgres.drop_database(database)


def test_opa_answers_undefined_until_it_has_a_policy(opa: Opa) -> None:
    status, body = opa.ask({"any": "fact"})
    assert status == 200
    assert "result" not in body


@pytest.mark.parametrize(
    ("token", "path"),
    [
        ("another", "/v1/data/exchange/main/decision"),
        ("", "/v1/data/exchange/main/decision"),
        ("the-token", "/v1/data"),
        ("the-token", "/v1/data/tokens"),
        ("the-token", "/v1/data/system/authz/allow"),
        ("the-token", "/v1/query"),
    ],
)
def test_opa_answers_the_gateway_and_the_one_question_only(opa: Opa, token: str, path: str) -> None:
    assert opa.ask({}, token=token, path=path)[0] == 401


def test_opa_comes_back_on_its_port_after_kill(opa: Opa) -> None:
    opa.kill()
    with pytest.raises(OSError, match="refused"):
        opa.ask({})
    opa.start()
    assert opa.ask({})[0] == 200


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = Process("Broken", ["sh", "-c", "echo no such partition >&2; exit 3"], log=tmp_path / "log")
    with pytest.raises(EngineFailed, match=r"(?s)ended with status 3.*no such partition"):
        broken.start(lambda _log: False, timeout_s=5)


def test_an_engine_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    stuck = Process("Stuck", ["sleep", "60"], log=tmp_path / "log")
    with pytest.raises(EngineFailed, match="not ready after"):
        stuck.start(lambda _log: False, timeout_s=0.2)
    assert not stuck.running


def test_an_engine_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    engine = Process("Sleeper", ["sh", "-c", "echo ready; exec sleep 60"], log=tmp_path / "log")
    starter = threading.Thread(target=engine.start, args=(lambda log: "ready" in log,), kwargs={"timeout_s": 5})
    starter.start()
    starter.join()
    assert engine.running
    engine.kill()


def test_a_missing_engine_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXCHANGE_ENGINE_CACHE", str(tmp_path))
    with pytest.raises(install.NotInstalled, match="make test"):
        install.opa_binary()
    with pytest.raises(install.NotInstalled, match="make test"):
        install.kafka_jars()


def test_a_jar_of_another_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXCHANGE_ENGINE_CACHE", str(tmp_path))
    jars = tmp_path / f"kafka-{install.KAFKA}"
    jars.mkdir()
    (jars / f"kafka_2.13-{install.KAFKA}.jar").write_bytes(b"something else")
    with pytest.raises(install.NotInstalled, match=r"kafka_2\.13"):
        install.kafka_jars()


def test_each_call_gives_a_database_of_its_own_made_by_one_migration(engines: Engines) -> None:
    migrated: list[str] = []

    def migrate(url: str) -> None:
        migrated.append(url)
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE made_here (n int)"))
        engine.dispose()

    one, two = engines.database_url(migrate), engines.database_url(migrate)
    assert len({one, two, *migrated}) == 3
    assert len(migrated) == 1
    for url in (one, two):
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO made_here VALUES (1)"))
            assert connection.execute(text("SELECT count(*) FROM made_here")).scalar_one() == 1
        engine.dispose()


def test_the_asyncapi_parser_names_what_is_wrong(asyncapi_errors: Callable[[str], list[str]]) -> None:
    assert asyncapi_errors('{"asyncapi": "3.0.0", "info": {"title": "t", "version": "1"}}') == []
    assert any("version" in error for error in asyncapi_errors('{"asyncapi": "3.0.0", "info": {"title": "t"}}'))
