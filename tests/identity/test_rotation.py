"""Rotation with overlap: two live secrets or sets of keys for a chosen time, and which one was used is told by its id."""

from __future__ import annotations

import time
from typing import Any

import pytest
from joserfc.jwk import ECKey
from prometheus_client import REGISTRY
from sqlalchemy import update

from gateway.database import now
from gateway.identity.models import Client
from tests.identity.exchange import Exchange
from tests.identity.registering import jwks_of, registered, status_of_token
from tests.identity.test_client_management import call, metadata_of
from tests.identity.test_clients import entries, fits


def rotate(exchange: Exchange, client: str, **wanted: Any) -> Any:
    return exchange.http.post(f"/v1/clients/{client}/rotate", json=wanted, headers=exchange.operator)


def works(exchange: Exchange, client: str, secret: str) -> bool:
    return bool(exchange.ask_token(client, secret).status_code == 200)


def used(method: str, which: str) -> float:
    return REGISTRY.get_sample_value("exchange_client_authentications_total", {"method": method, "credential": which}) or 0.0


def test_without_overlap_the_old_secret_is_of_no_use(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    new = rotate(exchange, client["id"]).json()
    assert "previous_valid_until" not in new
    assert [works(exchange, client["id"], one["client_secret"]) for one in (client, new)] == [False, True]


def test_two_secrets_live_for_the_overlap(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    new = rotate(exchange, client["id"], overlap="PT24H").json()
    fits("client.json", new)
    assert [works(exchange, client["id"], one["client_secret"]) for one in (client, new)] == [True, True]
    newest = rotate(exchange, client["id"], overlap="PT24H").json()
    assert [works(exchange, client["id"], one["client_secret"]) for one in (client, new, newest)] == [False, True, True]


def test_overlap_ends_by_itself(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    new = rotate(exchange, client["id"], overlap="PT1S").json()
    assert works(exchange, client["id"], client["client_secret"])
    time.sleep(1.1)
    assert [works(exchange, client["id"], one["client_secret"]) for one in (client, new)] == [False, True]
    assert "previous_valid_until" not in exchange.http.get(f"/v1/clients/{client['id']}", headers=exchange.operator).json()


def test_overlap_is_ended_at_once(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    new = rotate(exchange, client["id"], overlap="PT24H").json()
    path = f"/v1/clients/{client['id']}/revoke-old"
    assert exchange.http.post(path, headers=exchange.operator).status_code == 200
    assert [works(exchange, client["id"], one["client_secret"]) for one in (client, new)] == [False, True]
    assert exchange.http.post(path, headers=exchange.operator).json()["code"] == "illegal_state"


def test_two_sets_of_keys_live_for_the_overlap(exchange: Exchange) -> None:
    client, old = registered(exchange)
    new = ECKey.generate_key("P-256")
    assert rotate(exchange, client["client_id"], jwks=jwks_of(new), overlap="PT1H").status_code == 200
    before = used("private_key_jwt", "previous")
    assert [status_of_token(exchange, client["client_id"], key) for key in (old, new)] == [200, 200]
    assert used("private_key_jwt", "previous") == before + 1
    with exchange.database.transaction() as session:
        session.execute(update(Client).values(previous_until=now()))
    exchange.http.post(f"/v1/clients/{client['client_id']}/revoke", headers=exchange.operator)
    assert [status_of_token(exchange, client["client_id"], key) for key in (old, new)] == [401, 401]


def test_which_credential_was_used_is_told_by_its_id(exchange: Exchange, capsys: pytest.CaptureFixture[str]) -> None:
    client = exchange.make_client(exchange.make_organization())
    new = rotate(exchange, client["id"], overlap="PT24H").json()
    before = used("client_secret_basic", "previous"), used("client_secret_basic", "current")
    capsys.readouterr()
    for one in (client, new):
        assert works(exchange, client["id"], one["client_secret"])
    assert (used("client_secret_basic", "previous"), used("client_secret_basic", "current")) == (before[0] + 1, before[1] + 1)
    told = capsys.readouterr().out
    lines = [line for line in told.splitlines() if "client_authenticated" in line]
    assert ["which=previous" in lines[0], "which=current" in lines[1]] == [True, True]
    assert all("credential=sec_" in line for line in lines)
    assert not any(one["client_secret"] in told for one in (client, new))


@pytest.mark.parametrize("by", ["the client itself", "an operator"])
def test_keys_that_are_replaced_take_those_of_an_overlap_with_them(exchange: Exchange, by: str) -> None:
    """Whoever replaces keys because one leaked would not know that the one before is still good."""
    client, first = registered(exchange)
    second, third = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    assert rotate(exchange, client["client_id"], jwks=jwks_of(second), overlap="PT24H").status_code == 200
    assert status_of_token(exchange, client["client_id"], first) == 200
    if by == "an operator":
        path = f"/v1/clients/{client['client_id']}"
        headers = exchange.operator | {"If-Match": exchange.http.get(path, headers=exchange.operator).headers["etag"]}
        changed = exchange.http.patch(path, json={"jwks": jwks_of(third)}, headers=headers)
    else:
        changed = call(exchange, "PUT", client, **metadata_of(client, jwks=jwks_of(third)))
    assert changed.status_code == 200, changed.text
    assert [status_of_token(exchange, client["client_id"], key) for key in (first, second, third)] == [401, 401, 200]


@pytest.mark.parametrize("overlap", ["P31D", "P1Y", "PT0S", "-PT1H", "tomorrow", 3])
def test_overlap_that_does_not_fit_is_refused(exchange: Exchange, overlap: object) -> None:
    client = exchange.make_client(exchange.make_organization())
    answer = rotate(exchange, client["id"], overlap=overlap)
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/overlap"]
    assert works(exchange, client["id"], client["client_secret"])


def test_rotation_says_in_the_audit_log_how_long_the_old_one_lives(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    rotate(exchange, client["id"], overlap="PT1H")
    exchange.http.post(f"/v1/clients/{client['id']}/revoke-old", headers=exchange.operator)
    assert [(entry["action"], entry["detail"].get("overlap_s")) for entry in entries(exchange, "key")] == [
        ("rotate", "3600"),
        ("revoke_old", None),
    ]


def test_client_that_publishes_its_keys_rotates_them_there(exchange: Exchange) -> None:
    client, _ = registered(exchange)
    with exchange.database.transaction() as session:
        row = session.get_one(Client, client["client_id"])
        row.jwks, row.jwks_uri = None, "https://keys.partner.example/"
    assert rotate(exchange, client["client_id"]).status_code == 422
