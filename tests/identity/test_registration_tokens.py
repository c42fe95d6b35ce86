"""Registration tokens: bound to organization, scopes, uses and time; counted across replicas; revoked at once."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from gateway.changes import ChangeRow
from gateway.database import Database, now, rfc3339
from gateway.identity import organizations, registration_tokens
from gateway.identity.models import RegistrationToken
from gateway.keys import SecretKey
from tests.databases import database as database  # noqa: PLC0414 - a fixture
from tests.identity.exchange import Exchange, bearer
from tests.identity.registering import SCOPES, ask_token, make_token, register


def test_value_is_shown_once_and_kept_as_a_keyed_hash(exchange: Exchange) -> None:
    organization = exchange.make_organization()
    made = ask_token(exchange, organization, exchange.operator, uses=3).json()
    value = made.pop("token")
    listed = exchange.http.get(f"/v1/organizations/{organization}/registration-tokens", headers=exchange.operator).json()
    assert listed == {"items": [made], "next": None}
    with exchange.database.reading() as session:
        assert value.encode() not in session.scalars(select(RegistrationToken.hash)).one()


def test_token_registers_as_often_as_it_says(exchange: Exchange) -> None:
    token = make_token(exchange, uses=2)
    assert [register(exchange, token).status_code for _ in range(3)] == [201, 201, 401]


def test_refused_metadata_uses_nothing_up(exchange: Exchange) -> None:
    token = make_token(exchange)
    assert register(exchange, token, scope="policies:approve").status_code == 400
    assert register(exchange, token).status_code == 201


def test_revoked_token_registers_nobody_and_says_so_in_changes(exchange: Exchange) -> None:
    organization = exchange.make_organization()
    made = ask_token(exchange, organization, exchange.operator, uses=5).json()
    assert register(exchange, made["token"]).status_code == 201
    path = f"/v1/organizations/{organization}/registration-tokens/{made['id']}"
    assert exchange.http.delete(path, headers=exchange.operator).status_code == 204
    assert exchange.http.delete(path, headers=exchange.operator).status_code == 204
    assert register(exchange, made["token"]).status_code == 401
    with exchange.database.reading() as session:
        told = session.scalars(select(ChangeRow).where(ChangeRow.kind == "registration_token_revoked")).one()
        assert (told.object, told.forbids) == (made["id"], True)


def test_expired_token_registers_nobody_and_is_forgotten_later(exchange: Exchange) -> None:
    token = make_token(exchange)
    with exchange.database.transaction() as session:
        session.execute(update(RegistrationToken).values(expires_at=now() - timedelta(seconds=1)))
    assert register(exchange, token).status_code == 401
    with exchange.database.transaction() as session:
        registration_tokens.forget_old(session, now())
        assert session.scalars(select(RegistrationToken)).all() == []


def test_token_of_an_organization_that_is_not_approved_registers_nobody(exchange: Exchange) -> None:
    organization = exchange.make_organization()
    token = make_token(exchange, organization)
    exchange.http.post(f"/v1/organizations/{organization}/suspend", headers=exchange.operator)
    assert register(exchange, token).status_code == 401


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["nonsense"]}, "/scopes"),
        ({"uses": 0}, "/uses"),
        ({"uses": 101}, "/uses"),
        ({"uses": True}, "/uses"),
        ({"expires_in": "P1Y"}, "/expires_in"),
        ({"expires_in": "P91D"}, "/expires_in"),
        ({"valid_until": "2020-01-01T00:00:00Z"}, "/valid_until"),
        ({"valid_until": "9999-12-31T23:59:59Z"}, "/valid_until"),
        ({"expires_in": "P1D", "valid_until": "2027-01-01T00:00:00Z"}, "/valid_until"),
        ({"approved": "yes"}, "/approved"),
        ({"claim": "exo_x"}, "/claim"),
        ({"more": 1}, "/more"),
    ],
)
def test_token_that_does_not_fit_is_refused_by_pointer(exchange: Exchange, members: dict[str, Any], pointer: str) -> None:
    answer = ask_token(exchange, exchange.organization_id, exchange.operator, **members)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_time_may_be_given_as_a_moment(exchange: Exchange) -> None:
    until = rfc3339(now() + timedelta(days=3))
    assert ask_token(exchange, exchange.make_organization(), exchange.operator, valid_until=until).json()["valid_until"] == until


def test_who_administers_nothing_makes_none_and_learns_nothing(exchange: Exchange) -> None:
    organization = exchange.make_organization()
    partner = exchange.make_client(organization)
    headers = bearer(exchange.token(partner["id"], partner["client_secret"]))
    assert ask_token(exchange, organization, headers).json()["code"] == "role_missing"
    reader = exchange.make_client(organization, scopes=["catalog:read"])
    narrow = bearer(exchange.token(reader["id"], reader["client_secret"]))
    assert ask_token(exchange, organization, narrow).json()["code"] == "scope_missing"
    assert ask_token(exchange, organization).json()["code"] == "token_missing"
    path = f"/v1/organizations/{organization}/registration-tokens"
    assert exchange.http.get(path, headers=headers).status_code == 403
    assert exchange.http.delete(f"{path}/rgt_x", headers=exchange.operator).status_code == 404
    assert ask_token(exchange, "org_" + "0" * 26, exchange.operator).status_code == 404


@pytest.mark.parametrize("uses", [1, 3])
def test_replicas_that_count_at_once_count_right(database: Database, uses: int) -> None:
    key = SecretKey("client_secret-1", "client_secret", b"k" * 32)
    with database.transaction() as session:
        organization = organizations.make(session, None, name="Partner", kind="partner", contact=None)
        organization.standing = "approved"
        until = now() + timedelta(hours=1)
        _, value = registration_tokens.make(session, key, None, organization, scopes=SCOPES, uses=uses, until=until, approved=True)
    replicas = [Database(database.engine.url.render_as_string(hide_password=False)) for _ in range(2)]
    granted: list[bool] = []
    together = threading.Barrier(8)

    def count(replica: Database) -> None:
        together.wait()
        with replica.transaction() as session:
            granted.append(registration_tokens.use(session, key, value) is not None)

    threads = [threading.Thread(target=count, args=(replicas[number % 2],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for replica in replicas:
        replica.close()
    assert sorted(granted) == [False] * (8 - uses) + [True] * uses
    with database.reading() as session:
        assert session.scalars(select(RegistrationToken.used)).one() == uses
