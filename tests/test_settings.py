"""What production refuses is refused by name, one thing at a time; what has all of it is accepted."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings import Settings

PRODUCTION = {
    "EXCHANGE_ISSUER": "https://exchange.example",
    "EXCHANGE_DATABASE_URL": "postgresql+psycopg://exchange@127.0.0.1/exchange",
    "EXCHANGE_LOG_URL": "kafka://127.0.0.1:9092",
    "EXCHANGE_POLICY_URL": "http://127.0.0.1:8181",
    "EXCHANGE_POLICY_TOKEN": "long and random",
    "EXCHANGE_KEK_COMMAND": "print-the-key",
}


@pytest.fixture(autouse=True)
def _production(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)


def test_production_starts_with_all_that_it_needs() -> None:
    assert not Settings().development


@pytest.mark.parametrize("name", PRODUCTION)
def test_production_refuses_to_lack_it_and_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_production_takes_the_key_encryption_key_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXCHANGE_KEK_COMMAND")
    monkeypatch.setenv("EXCHANGE_KEK", "A" * 43)
    assert "AAAA" not in repr(Settings())


@pytest.mark.parametrize("issuer", ["http://exchange.example", "https://exchange.example/", "https://exchange.example?city=1"])
def test_production_refuses_an_issuer_that_is_none(issuer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXCHANGE_ISSUER", issuer)
    with pytest.raises(ValidationError, match="EXCHANGE_ISSUER"):
        Settings()
