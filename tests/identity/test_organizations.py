"""Organizations: made, changed, approved and suspended by an operator."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import ExchangeError
from gateway.identity.setup import found
from gateway.key_encryption import KeyEncryptionKeys
from tests.identity.exchange import Exchange, bearer
from tests.identity.test_clients import entries, fits, pointers


def test_organization_waits_for_approval(exchange: Exchange) -> None:
    made = exchange.http.post(
        "/v1/organizations", json={"name": "Épicerie", "kind": "partner", "contact": "a@b.example"}, headers=exchange.operator
    )
    assert made.status_code == 201
    assert made.headers["location"] == f"/v1/organizations/{made.json()['id']}"
    assert made.json()["standing"] == "pending"
    fits("organization.json", made.json())
    client = exchange.make_client(made.json()["id"])
    refused = exchange.ask_token(client["id"], client["client_secret"])
    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")
    approved = exchange.http.post(f"/v1/organizations/{made.json()['id']}/approve", headers=exchange.operator)
    assert approved.json()["standing"] == "approved"
    assert exchange.ask_token(client["id"], client["client_secret"]).status_code == 200


def test_tokens_of_a_suspended_organization_are_refused_until_it_is_approved_again(exchange: Exchange) -> None:
    organization = exchange.make_organization()
    client = exchange.make_client(organization)
    token = bearer(exchange.token(client["id"], client["client_secret"]))
    assert exchange.http.post(f"/v1/organizations/{organization}/suspend", headers=exchange.operator).status_code == 200
    refused = exchange.http.get("/v1/me", headers=token)
    assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")
    assert "operator" in refused.json()["hint"]
    assert exchange.ask_token(client["id"], client["client_secret"]).json()["error"] == "unauthorized_client"
    exchange.http.post(f"/v1/organizations/{organization}/approve", headers=exchange.operator)
    assert exchange.http.get("/v1/me", headers=token).status_code == 200


def test_illegal_moves_name_the_legal_ones(exchange: Exchange) -> None:
    path = f"/v1/organizations/{exchange.make_organization()}"
    again = exchange.http.post(f"{path}/approve", headers=exchange.operator)
    assert (again.status_code, again.json()["code"], again.json()["legal"]) == (409, "illegal_state", ["suspend"])


def test_operating_organization_is_never_suspended(exchange: Exchange) -> None:
    answer = exchange.http.post(f"/v1/organizations/{exchange.organization_id}/suspend", headers=exchange.operator)
    assert (answer.status_code, answer.json()["legal"]) == (409, [])


def test_name_belongs_to_one_organization(exchange: Exchange) -> None:
    first = exchange.make_organization("One")
    again = exchange.http.post("/v1/organizations", json={"name": "One", "kind": "partner"}, headers=exchange.operator)
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")
    patch = exchange.http.patch(
        f"/v1/organizations/{first}", json={"name": "City of Mississauga"}, headers=exchange.operator | {"If-Match": "*"}
    )
    assert (patch.status_code, patch.json()["code"]) == (409, "already_exists")
    assert exchange.http.get(f"/v1/organizations/{first}", headers=exchange.operator).json()["name"] == "One"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"kind": "partner"}, "/name"),
        ({"name": "X"}, "/kind"),
        ({"name": "X", "kind": "king"}, "/kind"),
        ({"name": " X", "kind": "partner"}, "/name"),
        ({"name": "a\nb", "kind": "partner"}, "/name"),
        ({"name": "X", "kind": "partner", "operates": True}, "/operates"),
        ({"name": "X", "kind": "partner", "contact": 3}, "/contact"),
    ],
)
def test_organization_that_does_not_fit_is_refused_by_pointer(exchange: Exchange, body: dict[str, Any], pointer: str) -> None:
    assert pointers(exchange.http.post("/v1/organizations", json=body, headers=exchange.operator)) == [pointer]


def test_change_applies_a_merge_patch_with_the_version_that_was_read(exchange: Exchange) -> None:
    path = f"/v1/organizations/{exchange.make_organization()}"
    tag = exchange.http.get(path, headers=exchange.operator).headers["etag"]
    assert exchange.http.patch(path, json={"contact": "x"}, headers=exchange.operator).status_code == 428
    changed = exchange.http.patch(path, json={"contact": "x"}, headers=exchange.operator | {"If-Match": tag})
    assert (changed.json()["contact"], changed.json()["name"]) == ("x", "Port Credit Mobility Inc.")
    assert exchange.http.patch(path, json={"contact": None}, headers=exchange.operator | {"If-Match": tag}).status_code == 412
    removed = exchange.http.patch(path, json={"contact": None}, headers=exchange.operator | {"If-Match": changed.headers["etag"]})
    assert removed.json()["contact"] is None


def test_partner_sees_approved_organizations_and_its_own(exchange: Exchange) -> None:
    mine, approved = exchange.make_organization(), exchange.make_organization("Approved")
    pending = exchange.make_organization("Pending", approve=False)
    client = exchange.make_client(mine)
    token = bearer(exchange.token(client["id"], client["client_secret"]))
    seen = {item["id"] for item in exchange.http.get("/v1/organizations", headers=token).json()["items"]}
    assert seen == {exchange.organization_id, mine, approved}
    assert exchange.http.get(f"/v1/organizations/{approved}", headers=token).status_code == 200
    assert exchange.http.get(f"/v1/organizations/{pending}", headers=token).json()["code"] == "not_found"
    everything = exchange.http.get("/v1/organizations", headers=exchange.operator).json()["items"]
    assert {item["id"] for item in everything} == seen | {pending}


def test_each_act_is_a_change_and_an_audit_entry(exchange: Exchange) -> None:
    before = exchange.changes.applied
    organization = exchange.make_organization()
    exchange.http.post(f"/v1/organizations/{organization}/suspend", headers=exchange.operator)
    assert exchange.changes_since(before) == ["organization_created", "organization_changed", "organization_changed"]
    told = [entry for entry in entries(exchange, "organization") if entry["detail"]["organization"] == organization]
    assert [entry["action"] for entry in told] == ["make", "approve", "suspend"]
    assert [entry["change"] for entry in told] == [before + 1, before + 2, before + 3]


def test_exchange_is_founded_once(exchange: Exchange) -> None:
    with pytest.raises(ExchangeError, match="already_exists"), exchange.database.transaction() as session:
        found(session, exchange.keys, "Another City")


def test_directory_loads_what_is_stored(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    fresh = type(exchange.directory)(exchange.settings.issuer, exchange.keys, KeyEncryptionKeys.of(exchange.settings))
    with exchange.database.reading() as session:
        fresh.load(session)
    assert fresh.client(client["id"]) == exchange.directory.client(client["id"])
    assert fresh.organization(exchange.organization_id) == exchange.directory.organization(exchange.organization_id)
