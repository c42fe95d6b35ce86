"""From nothing to a first call with one approval and no e-mail: what a partner's developer and the operator type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connectors.client import Client, ProblemError, new_key, public_jwks
from connectors.registration import Registration, register
from gateway.cli.demo.process import Exchange
from tests.cli.test_against_an_exchange import Person, exchange, operator

__all__ = ["exchange", "operator"]

ASK = ("--name", "Acme", "--contact", "data@acme.example", "--intent", "A route planner", "--domain", "acme.example")


def test_a_developer_comes_in_with_one_approval(exchange: Exchange, operator: Person, tmp_path: Path) -> None:
    developer = Person(EXCHANGE_URL=exchange.url)
    claim, registration, key, own = (str(tmp_path / name) for name in ("claim", "registration", "key", "own"))
    asked = developer.type("organization", "ask", *ASK, "--claim-file", claim)
    assert asked["standing"] == "pending"
    token = ("organization", "token", "--claim-file", claim, "--registration", registration, "--approved", "--scope", "catalog:read")
    waits = developer.try_(*token)
    assert (waits.exit_code, waits.stderr.partition(":")[0]) == (1, "409 illegal_state")
    assert "--wait 600" in waits.stderr
    assert "to approve org_" in developer.try_(*token, "--wait", "1").stderr
    assert not Path(registration).exists()

    assert [row["name"] for row in operator.type("organization", "list", "--asked")] == ["Acme"]
    assert operator.type("organization", "approve", asked["id"])["standing"] == "approved"

    shown = developer.type(*token, "--wait", "5")
    assert "token" not in shown
    assert developer.try_("client", "key", key).exit_code == 0
    words = ("client", "register", "--name", "Planner", "--registration", registration, "--key", key, "--own-file", own)
    registered = developer.try_(*words, "--json")
    made = json.loads(registered.stdout)
    assert made["standing"] == "active"
    assert f"EXCHANGE_CLIENT_ID={made['client_id']} and EXCHANGE_CLIENT_KEY_FILE={key}" in registered.stderr
    assert {Path(file).stat().st_mode & 0o777 for file in (claim, registration, key, own)} == {0o600}
    client = Person(EXCHANGE_URL=exchange.url, EXCHANGE_CLIENT_ID=made["client_id"], EXCHANGE_CLIENT_KEY_FILE=key)
    assert client.type("me")["organization"]["name"] == "Acme"


def test_a_file_that_is_there_costs_no_claim(exchange: Exchange, operator: Person, tmp_path: Path) -> None:
    developer = Person(EXCHANGE_URL=exchange.url)
    claim, registration = tmp_path / "claim", tmp_path / "registration"
    asked = developer.type("organization", "ask", *ASK[2:], "--name", "Other", "--claim-file", str(claim))
    operator.type("organization", "approve", asked["id"])
    registration.write_text("mine")
    token = ("organization", "token", "--claim-file", str(claim), "--registration", str(registration), "--scope", "catalog:read")
    assert developer.try_(*token).exit_code == 1
    assert registration.read_text() == "mine"
    registration.unlink()
    assert developer.type(*token)["uses"] == 1


def test_a_client_is_approved_and_rotated_by_hand(exchange: Exchange, operator: Person, tmp_path: Path) -> None:
    made = operator.try_("call", "POST", "/v1/organizations", "--data", json.dumps({"name": "By hand", "kind": "partner"}))
    organization = json.loads(made.stdout)["id"]
    operator.type("organization", "approve", organization)
    registration, own, key = tmp_path / "registration", tmp_path / "own", tmp_path / "key"
    operator.type("organization", "token", "--organization", organization, "--registration", str(registration), "--scope", "catalog:read")
    operator.try_("client", "key", str(key))
    words = ("--registration", str(registration), "--own-file", str(own), "--key", str(key))
    client = Person(EXCHANGE_URL=exchange.url).type("client", "register", "--name", "Planner", *words)
    assert client["standing"] == "pending"
    assert operator.type("client", "approve", client["client_id"])["standing"] == "active"
    newer = tmp_path / "newer"
    operator.try_("client", "key", str(newer))
    rotated = operator.type("client", "rotate", client["client_id"], "--key", str(newer), "--overlap", "PT1H")
    assert "previous_valid_until" in rotated
    for file in (key, newer):
        person = Person(EXCHANGE_URL=exchange.url, EXCHANGE_CLIENT_ID=client["client_id"], EXCHANGE_CLIENT_KEY_FILE=str(file))
        assert person.type("me")["client"]["id"] == client["client_id"]
    assert "previous_valid_until" not in operator.type("client", "rotate", client["client_id"], "--end-overlap")


def test_a_program_registers_changes_and_removes_itself(exchange: Exchange, operator: Person, tmp_path: Path) -> None:
    made = operator.try_("call", "POST", "/v1/organizations", "--data", json.dumps({"name": "Programs", "kind": "partner"}))
    organization = json.loads(made.stdout)["id"]
    operator.type("organization", "approve", organization)
    file = tmp_path / "registration"
    wanted = ("--organization", organization, "--registration", str(file), "--scope", "catalog:read", "--approved")
    operator.type("organization", "token", *wanted)
    first, second = new_key(), new_key()
    registered = register(exchange.url, file.read_text(), name="Program", key=first, software_id="planner")
    own = Registration(exchange.url, registered)
    assert own.read().metadata["software_id"] == "planner"
    own.change(jwks=public_jwks(second), software_id=None)
    assert "software_id" not in own.registered.metadata
    with Client(exchange.url, registered.client_id, key=second) as client:
        assert client.get("/v1/me")["strong"] is True
    own.remove()
    with pytest.raises(ProblemError), Client(exchange.url, registered.client_id, key=second) as client:
        client.get("/v1/me")
    assert registered.access_token not in repr(registered)
