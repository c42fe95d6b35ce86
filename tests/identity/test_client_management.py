"""A client that registered manages itself (RFC 7592) with a token that is replaced at each use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc.jwk import ECKey
from sqlalchemy import select

from gateway.audit.models import AuditEntry
from tests.identity.exchange import Exchange, bearer
from tests.identity.registering import by_key, jwks_of, make_token, register, registered, replica_of, status_of_token
from tests.identity.test_clients import fits

ASSIGNED = ("registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at")


def call(exchange: Exchange, method: str, client: dict[str, Any], token: str | None = None, **metadata: Any) -> Any:
    headers = bearer(token or client["registration_access_token"])
    path = f"/oauth/register/{client['client_id']}"
    return exchange.http.request(method, path, headers=headers, json=metadata or None)


def metadata_of(client: dict[str, Any], **members: Any) -> dict[str, Any]:
    """What a client sends to change itself: what it was told, without what is the exchange's to say."""
    return {name: value for name, value in client.items() if name not in ASSIGNED} | members


def test_client_reads_itself_and_gets_the_next_token(exchange: Exchange) -> None:
    client, _ = registered(exchange)
    answer = call(exchange, "GET", client)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    fits("client-registration.json", answer.json())
    assert answer.json() == client | {"registration_access_token": answer.json()["registration_access_token"]}
    assert answer.json()["registration_access_token"] != client["registration_access_token"]


def test_token_is_good_until_its_successor_was_used(exchange: Exchange) -> None:
    client, _ = registered(exchange)
    first = client["registration_access_token"]
    lost = call(exchange, "GET", client, first).json()["registration_access_token"]
    second = call(exchange, "GET", client, first).json()["registration_access_token"]
    assert call(exchange, "GET", client, lost).status_code == 401, "an answer was given for the same token since"
    third = call(exchange, "GET", client, second).json()["registration_access_token"]
    assert call(exchange, "GET", client, first).status_code == 401
    assert call(exchange, "GET", client, third).status_code == 200


def test_token_that_was_replaced_on_one_replica_is_on_the_other(exchange: Exchange) -> None:
    client, _ = registered(exchange)
    database, replica = replica_of(exchange)
    first = client["registration_access_token"]
    second = replica.read(client["client_id"], first).token
    third = call(exchange, "GET", client, second).json()["registration_access_token"]
    assert replica.read(client["client_id"], third).token
    assert call(exchange, "GET", client, first).status_code == 401
    database.close()


def test_new_keys_are_in_force_at_once_and_the_old_are_not(exchange: Exchange) -> None:
    client, old = registered(exchange)
    new = ECKey.generate_key("P-256")
    answer = call(exchange, "PUT", client, **metadata_of(client, jwks=jwks_of(new)))
    assert answer.status_code == 200, answer.text
    assert (status_of_token(exchange, client["client_id"], old), status_of_token(exchange, client["client_id"], new)) == (401, 200)
    with exchange.database.reading() as session:
        entries = [json.loads(row.entry) for row in session.scalars(select(AuditEntry).where(AuditEntry.kind == "key"))]
    assert [(entry["actor"], entry["action"]) for entry in entries] == [(client["client_id"], "change")]


def test_two_sets_of_keys_overlap_in_one(exchange: Exchange) -> None:
    client, old = registered(exchange)
    new = ECKey.generate_key("P-256")
    both = {"keys": [*jwks_of(old)["keys"], *jwks_of(new)["keys"]]}
    assert call(exchange, "PUT", client, **metadata_of(client, jwks=both)).status_code == 200
    assert {status_of_token(exchange, client["client_id"], key) for key in (old, new)} == {200}


def test_what_is_left_out_is_gone(exchange: Exchange) -> None:
    client, _ = registered(exchange, software_id="planner", scope="events:read catalog:read", dpop_bound_access_tokens=True)
    less = metadata_of(client, scope="events:read")
    for name in ("software_id", "dpop_bound_access_tokens"):
        del less[name]
    changed = call(exchange, "PUT", client, **less).json()
    assert (changed["scope"], changed["dpop_bound_access_tokens"], changed.get("software_id")) == ("events:read", False, None)


def test_scopes_only_ever_shrink(exchange: Exchange) -> None:
    client, _ = registered(exchange, scope="events:read catalog:read")
    read = exchange.http.get(f"/v1/clients/{client['client_id']}", headers=exchange.operator)
    patch = exchange.operator | {"If-Match": read.headers["etag"]}
    assert exchange.http.patch(read.url.path, json={"scopes": ["events:read"]}, headers=patch).status_code == 200
    answer = call(exchange, "PUT", client, **metadata_of(client))
    assert (answer.status_code, answer.json()["error_description"].partition(":")[0]) == (400, "scope")


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"client_id": "cli_" + "0" * 26}, "client_id"),
        ({"client_id": None}, "client_id"),
        *(({name: "x"}, name) for name in ASSIGNED),
        ({"client_secret": "mine"}, "client_secret"),
        ({"client_secret": None}, "client_secret"),
        ({"jwks_uri": "https://10.0.0.1/"}, "jwks_uri"),
        ({"token_endpoint_auth_method": "client_secret_basic"}, "jwks"),
    ],
)
def test_change_that_does_not_fit_changes_nothing(exchange: Exchange, members: dict[str, Any], member: str) -> None:
    client, key = registered(exchange)
    answer = call(exchange, "PUT", client, **metadata_of(client, **members))
    assert (answer.status_code, answer.json()["error_description"].partition(":")[0]) == (400, member)
    assert status_of_token(exchange, client["client_id"], key) == 200
    assert call(exchange, "GET", client).status_code == 200, "its token was not used up"


def test_method_stays(exchange: Exchange) -> None:
    client = register(exchange, make_token(exchange, approved=True)).json()
    answer = call(exchange, "PUT", client, **by_key(ECKey.generate_key("P-256")), client_id=client["client_id"])
    assert answer.json()["error_description"].startswith("token_endpoint_auth_method")
    own = call(exchange, "PUT", client, **metadata_of(client, client_name="Renamed"))
    assert own.json()["client_name"] == "Renamed"


def test_client_removes_itself(exchange: Exchange) -> None:
    client, key = registered(exchange)
    assert call(exchange, "DELETE", client).status_code == 204
    assert status_of_token(exchange, client["client_id"], key) == 401
    assert call(exchange, "GET", client).status_code == 401
    assert exchange.http.get(f"/v1/clients/{client['client_id']}", headers=exchange.operator).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_unknown_revoked_and_foreign_look_the_same(exchange: Exchange, method: str) -> None:
    organization = exchange.make_organization()
    token = make_token(exchange, organization, uses=3)
    mine, other, revoked = (register(exchange, token, client_name="x").json() for _ in range(3))
    assert exchange.http.post(f"/v1/clients/{revoked['client_id']}/revoke", headers=exchange.operator).status_code == 200
    answers = [
        call(exchange, method, mine, other["registration_access_token"], **metadata_of(mine)),
        call(exchange, method, mine, "era_wrong", **metadata_of(mine)),
        call(exchange, method, mine | {"client_id": "cli_" + "0" * 26}, **metadata_of(mine)),
        call(exchange, method, mine | {"client_id": "nonsense%00"}, **metadata_of(mine)),
        call(exchange, method, mine | {"client_id": exchange.operator_id}, **metadata_of(mine)),
        call(exchange, method, revoked, **metadata_of(revoked)),
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
