"""Tokens that are given up (RFC 7009), and what introspection (RFC 7662) says of bound and of revoked ones."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any

import pytest

from gateway.audit.models import AuditEntry
from gateway.identity.directory import Directory
from gateway.identity.models import RevokedToken
from gateway.key_encryption import KeyEncryptionKeys
from tests.identity.exchange import ISSUER, Exchange, bearer
from tests.identity.test_dpop import Bound
from tests.identity.test_tokens import forged


@pytest.fixture
def client(exchange: Exchange) -> tuple[str, str]:
    made = exchange.make_client(exchange.make_organization())
    return made["id"], made["client_secret"]


def revoke(exchange: Exchange, token: str, auth: tuple[str, str], **form: str) -> Any:
    return exchange.http.post("/oauth/revoke", data={"token": token} | form, auth=auth)


def status(exchange: Exchange, token: str) -> int:
    answer = exchange.http.get("/v1/me", headers=bearer(token))
    assert answer.status_code == 200 or answer.json()["code"] == "token_invalid"
    return int(answer.status_code)


def test_revoked_token_is_refused_and_another_of_the_client_is_not(exchange: Exchange, client: tuple[str, str]) -> None:
    one, other = exchange.token(*client), exchange.token(*client)
    assert (status(exchange, one), status(exchange, other)) == (200, 200)
    answer = revoke(exchange, one, client, token_type_hint="refresh_token")
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["cache-control"] == "no-store"
    assert (status(exchange, one), status(exchange, other)) == (401, 200)


def test_revoking_is_a_forbidding_change_with_an_audit_entry_and_the_token_is_in_neither(
    exchange: Exchange, client: tuple[str, str]
) -> None:
    token, before = exchange.token(*client), exchange.changes.applied
    revoke(exchange, token, client)
    assert exchange.changes_since(before) == ["token_revoked"]
    with exchange.database.reading() as session:
        entry = json.loads(session.query(AuditEntry.entry).order_by(AuditEntry.number.desc()).limit(1).scalar() or b"")
        (row,) = session.query(RevokedToken)
    assert (entry["action"], entry["actor"], entry["change"]) == ("revoke_token", client[0], before + 1)
    assert (row.id, row.change) == (entry["detail"]["token"], before + 1)
    exchange.database.close()
    database = sqlite3.connect(exchange.settings.data_dir / "exchange.db")
    assert token not in "\n".join(database.iterdump())
    database.close()


def test_revoking_twice_waits_for_the_first_change_and_makes_no_other(exchange: Exchange, client: tuple[str, str]) -> None:
    token = exchange.token(*client)
    waited: list[int] = []
    exchange.database.after_commit.append(waited.append)
    before = exchange.changes.applied
    assert [revoke(exchange, token, client).status_code for _ in range(2)] == [200, 200]
    assert exchange.changes_since(before) == ["token_revoked"]
    assert waited == [before + 1, before + 1]


def test_token_of_another_client_is_not_revoked_save_by_an_operator(exchange: Exchange, client: tuple[str, str]) -> None:
    other = exchange.make_client(exchange.make_organization("Another"))
    token = exchange.token(*client)
    answer = revoke(exchange, token, (other["id"], other["client_secret"]))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert status(exchange, token) == 200
    assert revoke(exchange, token, (exchange.operator_id, exchange.operator_secret)).status_code == 200
    assert status(exchange, token) == 401


@pytest.mark.parametrize("rubbish", ["x", "a.b.c", "é", "\x00", "A" * 30_000])
def test_revoking_rubbish_is_done_at_once(exchange: Exchange, client: tuple[str, str], rubbish: str) -> None:
    before = exchange.changes.applied
    answer = revoke(exchange, rubbish, client)
    assert (answer.status_code, answer.json()) == (200, {})
    assert exchange.changes.applied == before


def test_revoking_an_expired_token_changes_nothing(exchange: Exchange, client: tuple[str, str]) -> None:
    before = exchange.changes.applied
    expired = forged(exchange, sub=client[0], client_id=client[0], exp=int(time.time()) - 1)
    assert revoke(exchange, expired, client).status_code == 200
    assert exchange.changes.applied == before


def test_revoking_needs_a_client_and_a_token(exchange: Exchange, client: tuple[str, str]) -> None:
    assert exchange.http.post("/oauth/revoke", data={"token": "x"}).json()["error"] == "invalid_client"
    assert exchange.http.post("/oauth/revoke", data={"other": "x"}, auth=client).json()["error"] == "invalid_request"


def test_revoked_token_stays_refused_after_a_start_and_its_row_goes_when_it_would_have_expired(
    exchange: Exchange, client: tuple[str, str]
) -> None:
    short = forged(exchange, sub=client[0], client_id=client[0], exp=int(time.time()) + 2, client_auth_method="client_secret_basic")
    revoke(exchange, short, client)
    anew = Directory(ISSUER, exchange.keys, KeyEncryptionKeys.of(exchange.settings))
    with exchange.database.reading() as session:
        anew.load(session)
        assert session.query(RevokedToken).count() == 1
    with pytest.raises(Exception, match="token_invalid"):
        anew.authenticate(short)
    time.sleep(2.1)
    revoke(exchange, exchange.token(*client), client)
    with exchange.database.reading() as session:
        assert session.query(RevokedToken).count() == 1


# -- introspection -----------------------------------------------------------------------------------------------------


def introspect(exchange: Exchange, token: str) -> Any:
    return exchange.http.post("/oauth/introspect", data={"token": token}, auth=(exchange.operator_id, exchange.operator_secret)).json()


def test_introspection_of_a_bound_token_names_its_key(exchange: Exchange) -> None:
    bound = Bound(exchange)
    said = introspect(exchange, bound.token())
    assert (said["token_type"], said["cnf"]) == ("DPoP", {"jkt": bound.prover.thumbprint})


def test_introspection_of_a_bearer_token_names_no_key(exchange: Exchange, client: tuple[str, str]) -> None:
    said = introspect(exchange, exchange.token(*client))
    assert said["token_type"] == "Bearer"
    assert "cnf" not in said


def test_introspection_tells_the_contracts_of_a_token(exchange: Exchange, client: tuple[str, str]) -> None:
    organization = exchange.http.get("/v1/me", headers=bearer(exchange.token(*client))).json()["organization"]["id"]
    exchange.contracts["con_mine"] = (exchange.organization_id, organization)
    details = [{"type": "data_contract", "contract": "con_mine", "actions": ["read"]}]
    assert introspect(exchange, exchange.token(*client, authorization_details=json.dumps(details)))["authorization_details"] == details


def test_introspection_of_a_revoked_token_is_inactive(exchange: Exchange, client: tuple[str, str]) -> None:
    token = exchange.token(*client)
    revoke(exchange, token, client)
    assert introspect(exchange, token) == {"active": False}


# -- resource indicators (RFC 8707) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("resources", [[ISSUER], [ISSUER, ISSUER]], ids=["once", "twice"])
def test_resource_that_is_the_exchange_is_taken(exchange: Exchange, client: tuple[str, str], resources: list[str]) -> None:
    form = {"grant_type": "client_credentials", "resource": resources}
    assert exchange.http.post("/oauth/token", data=form, auth=client).status_code == 200


@pytest.mark.parametrize(
    "resources",
    [["https://elsewhere.example"], [ISSUER, "https://elsewhere.example"], [f"{ISSUER}#x"], ["no address"], ["\x00"]],
    ids=["another", "another beside it", "with a fragment", "no address", "NUL"],
)
def test_resource_that_is_not_the_exchange_is_an_invalid_target(exchange: Exchange, client: tuple[str, str], resources: list[str]) -> None:
    form = {"grant_type": "client_credentials", "resource": resources}
    answer = exchange.http.post("/oauth/token", data=form, auth=client)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")
