"""API clients: made, changed, rotated, revoked and removed by an operator."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from sqlalchemy import select

from gateway.audit.models import AuditEntry
from gateway.identity.scopes import SCOPES
from gateway.resources import SCHEMAS
from tests.identity.exchange import Exchange, assertion, bearer


def entries(exchange: Exchange, kind: str) -> list[dict[str, Any]]:
    with exchange.database.reading() as session:
        rows = session.scalars(select(AuditEntry).where(AuditEntry.kind == kind).order_by(AuditEntry.number))
        return [json.loads(row.entry) for row in rows]


def pointers(answer: Any) -> list[str]:
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body"), answer.text
    return [error["pointer"] for error in answer.json()["errors"]]


def fits(name: str, document: Any) -> None:
    schema = json.loads((SCHEMAS / name).read_text("utf-8"))
    jsonschema_rs.validator_for(schema, offline=True).validate(document)


def test_secret_is_shown_once(exchange: Exchange) -> None:
    organization = exchange.make_organization()
    made = exchange.ask_client(organization)
    client = made.json()
    assert made.headers["cache-control"] == "no-store"
    assert made.headers["location"] == f"/v1/clients/{client['id']}"
    read = exchange.http.get(f"/v1/clients/{client['id']}", headers=exchange.operator)
    assert client.pop("client_secret").startswith("exs_")
    assert read.json() == client
    assert read.headers["etag"] == made.headers["etag"]
    fits("client.json", client)


def test_client_by_key_has_no_secret(exchange: Exchange) -> None:
    jwks = {"keys": [ECKey.generate_key("P-256").as_dict(private=False)]}
    client = exchange.make_client(exchange.make_organization(), token_endpoint_auth_method="private_key_jwt", jwks=jwks)
    assert "client_secret" not in client
    assert client["jwks"]["keys"][0]["kid"]
    fits("client.json", client)


def test_roles_are_for_clients_of_the_operating_organization_only(exchange: Exchange) -> None:
    assert pointers(exchange.ask_client(exchange.make_organization(), roles=["auditor"])) == ["/roles"]
    assert exchange.make_client(exchange.organization_id, roles=["auditor"])["roles"] == ["auditor"]


BAD_CLIENTS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown scope": ({"scopes": ["admin"]}, "/scopes"),
    "a scope twice": ({"scopes": ["events:read", "events:read"]}, "/scopes"),
    "no scope": ({"scopes": []}, "/scopes"),
    "scopes in one string": ({"scopes": "events:read"}, "/scopes"),
    "an unknown role": ({"roles": ["king"]}, "/roles"),
    "another method": ({"token_endpoint_auth_method": "none"}, "/token_endpoint_auth_method"),
    "a secret with jwks": ({"jwks": {"keys": []}}, "/jwks"),
    "a key without jwks": ({"token_endpoint_auth_method": "private_key_jwt"}, "/jwks"),
    "an unknown member": ({"frobnicate": 1}, "/frobnicate"),
    "an empty name": ({"name": ""}, "/name"),
    "a number as name": ({"name": 3}, "/name"),
    "a NUL in the name": ({"name": "a\x00b"}, "/name"),
    "a surrogate in the name": ({"name": "\ud800"}, "/name"),
    "a long name": ({"name": "x" * 201}, "/name"),
    "no such organization": ({"organization": "org_00000000000000000000000000"}, "/organization"),
    "a NUL in the organization": ({"organization": "\x00"}, "/organization"),
}


@pytest.mark.parametrize(("members", "pointer"), BAD_CLIENTS.values(), ids=BAD_CLIENTS.keys())
def test_client_that_does_not_fit_is_refused_by_pointer(exchange: Exchange, members: dict[str, Any], pointer: str) -> None:
    assert pointer in pointers(exchange.ask_client(exchange.make_organization(), **members))


EC = ECKey.generate_key("P-256").as_dict(private=False)
RSA_BITS_1024 = {"kty": "RSA", "n": "w" * 171 + "Q", "e": "AQAB"}
BAD_KEYS: dict[str, tuple[list[Any], str]] = {
    "a private key": ([ECKey.generate_key("P-256").as_dict(private=True)], "/jwks/keys/0/d"),
    "a private RSA key": ([EC, RSAKey.generate_key(2048).as_dict(private=True)], "/jwks/keys/1/d"),
    "a shared secret": ([{"kty": "oct", "k": "AAAA"}], "/jwks/keys/0/k"),
    "a short RSA key": ([RSA_BITS_1024], "/jwks/keys/0/n"),
    "another curve": ([ECKey.generate_key("P-384").as_dict(private=False)], "/jwks/keys/0/crv"),
    "a key to encrypt": ([OKPKey.generate_key("X25519").as_dict(private=False)], "/jwks/keys/0/crv"),
    "a use to encrypt": ([EC | {"use": "enc"}], "/jwks/keys/0/use"),
    "an operation that is private": ([EC | {"key_ops": ["sign"]}], "/jwks/keys/0/key_ops"),
    "another algorithm": ([EC | {"alg": "RS256"}], "/jwks/keys/0/alg"),
    "an algorithm that is a list": ([EC | {"alg": ["ES256"]}], "/jwks/keys/0/alg"),
    "an unknown type": ([{"kty": "AKP"}], "/jwks/keys/0/kty"),
    "no type": ([{}], "/jwks/keys/0/kty"),
    "a type that is a list": ([{"kty": ["EC"]}], "/jwks/keys/0/kty"),
    "a number": ([3], "/jwks/keys/0"),
    "a point off the curve": ([{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}], "/jwks/keys/0"),
    "letters that are no base64": ([EC | {"x": "é"}], "/jwks/keys/0"),
    "a missing coordinate": ([{"kty": "EC", "crv": "P-256", "x": EC["x"]}], "/jwks/keys/0/y"),
    "a coordinate of a number": ([EC | {"x": 3}], "/jwks/keys/0/x"),
    "an address to fetch": ([EC | {"x5u": "http://169.254.169.254/"}], "/jwks/keys/0/x5u"),
    "two keys of one name": ([EC | {"kid": "a"}, ECKey.generate_key("P-256").as_dict(private=False) | {"kid": "a"}], "/jwks/keys"),
    "one key twice": ([EC, EC], "/jwks/keys"),
    "a kid of a number": ([EC | {"kid": 3}], "/jwks/keys/0/kid"),
    "no key": ([], "/jwks/keys"),
    "too many keys": ([EC] * 11, "/jwks/keys"),
}


@pytest.mark.parametrize(("keys", "pointer"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_keys_that_do_not_fit_are_refused_by_pointer(exchange: Exchange, keys: list[Any], pointer: str) -> None:
    answer = exchange.ask_client(exchange.organization_id, token_endpoint_auth_method="private_key_jwt", jwks={"keys": keys})
    assert pointer in pointers(answer)
    for key in keys:
        if isinstance(key, dict) and "d" in key:
            assert key["d"] not in answer.text


def test_clients_of_others_do_not_exist(exchange: Exchange) -> None:
    mine = exchange.make_client(exchange.make_organization())
    other = exchange.make_client(exchange.make_organization("Another"))
    token = bearer(exchange.token(mine["id"], mine["client_secret"]))
    assert exchange.http.get(f"/v1/clients/{mine['id']}", headers=token).status_code == 200
    assert [item["id"] for item in exchange.http.get("/v1/clients", headers=token).json()["items"]] == [mine["id"]]
    for identifier in (other["id"], exchange.operator_id, "cli_00000000000000000000000000", "x", "%00", "%ff"):
        answer = exchange.http.get(f"/v1/clients/{identifier}", headers=token)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_only_an_operator_makes_or_changes_clients(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    token = bearer(exchange.token(client["id"], client["client_secret"])) | {"If-Match": "*"}
    for method, path in (("PATCH", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/revoke")):
        answer = exchange.http.request(method, f"/v1/clients/{client['id']}{path}", json={} if method != "DELETE" else None, headers=token)
        assert (answer.status_code, answer.json()["code"]) == (403, "role_missing")


def test_change_needs_the_version_that_was_read(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    path = f"/v1/clients/{client['id']}"
    tag = exchange.http.get(path, headers=exchange.operator).headers["etag"]
    assert exchange.http.patch(path, json={"name": "A"}, headers=exchange.operator).json()["code"] == "precondition_required"
    changed = exchange.http.patch(path, json={"name": "A"}, headers=exchange.operator | {"If-Match": tag})
    assert (changed.status_code, changed.json()["name"]) == (200, "A")
    assert changed.headers["etag"] != tag
    stale = exchange.http.patch(path, json={"name": "B"}, headers=exchange.operator | {"If-Match": tag})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")


@pytest.mark.parametrize(
    "patch", [{"name": None}, {"scopes": None}, {"scopes": ["x"]}, {"standing": "active"}, {"jwks": {}}, {"client_secret": "x"}]
)
def test_change_that_does_not_fit_is_refused(exchange: Exchange, patch: dict[str, Any]) -> None:
    client = exchange.make_client(exchange.make_organization())
    answer = exchange.http.patch(f"/v1/clients/{client['id']}", json=patch, headers=exchange.operator | {"If-Match": "*"})
    assert pointers(answer) == [f"/{next(iter(patch))}"]


def test_merge_patch_is_taken_under_its_own_media_type(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    headers = exchange.operator | {"If-Match": "*", "Content-Type": "application/merge-patch+json"}
    assert exchange.http.patch(f"/v1/clients/{client['id']}", content='{"name": "A"}', headers=headers).json()["name"] == "A"


def test_rotated_secret_replaces_the_old_one(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    rotated = exchange.http.post(f"/v1/clients/{client['id']}/rotate", headers=exchange.operator)
    assert rotated.status_code == 200
    assert rotated.headers["cache-control"] == "no-store"
    assert exchange.ask_token(client["id"], client["client_secret"]).status_code == 401
    assert exchange.ask_token(client["id"], rotated.json()["client_secret"]).status_code == 200


def test_rotated_keys_replace_the_old_ones(exchange: Exchange) -> None:
    old, new = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    client = exchange.make_strong_client(exchange.organization_id, old)
    path = f"/v1/clients/{client}/rotate"
    assert pointers(exchange.http.post(path, headers=exchange.operator)) == ["/jwks"]
    assert exchange.http.post(path, json={"jwks": {"keys": [new.as_dict(private=False)]}}, headers=exchange.operator).status_code == 200
    assert exchange.ask_token_by_key(assertion(client, old)).status_code == 401
    assert exchange.ask_token_by_key(assertion(client, new)).status_code == 200


@pytest.mark.parametrize("end", ["revoke", "remove"])
def test_tokens_of_a_revoked_client_are_refused_when_the_call_returns(exchange: Exchange, end: str) -> None:
    client = exchange.make_client(exchange.make_organization())
    token = bearer(exchange.token(client["id"], client["client_secret"]))
    assert exchange.http.get("/v1/me", headers=token).status_code == 200
    path = f"/v1/clients/{client['id']}"
    ended = (
        exchange.http.post(f"{path}/revoke", headers=exchange.operator)
        if end == "revoke"
        else exchange.http.delete(path, headers=exchange.operator)
    )
    assert ended.status_code == (200 if end == "revoke" else 204)
    refused = exchange.http.get("/v1/me", headers=token)
    assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")
    assert exchange.ask_token(client["id"], client["client_secret"]).status_code == 401


def test_revoked_client_stays_revoked(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    path = f"/v1/clients/{client['id']}"
    assert exchange.http.post(f"{path}/revoke", headers=exchange.operator).status_code == 200
    for verb in ("revoke", "rotate"):
        answer = exchange.http.post(f"{path}/{verb}", headers=exchange.operator)
        assert (answer.status_code, answer.json()["code"], answer.json()["legal"]) == (409, "illegal_state", [])


def test_last_operator_stays(exchange: Exchange) -> None:
    path = f"/v1/clients/{exchange.operator_id}"
    tries = [
        exchange.http.post(f"{path}/revoke", headers=exchange.operator),
        exchange.http.delete(path, headers=exchange.operator),
        exchange.http.patch(path, json={"roles": ["auditor"]}, headers=exchange.operator | {"If-Match": "*"}),
    ]
    assert [answer.status_code for answer in tries] == [409, 409, 409]
    exchange.make_client(exchange.organization_id, roles=["operator"])
    assert exchange.http.post(f"{path}/revoke", headers=exchange.operator).status_code == 200


def test_list_is_paged_by_identifier(exchange: Exchange) -> None:
    made = [exchange.operator_id, *(exchange.make_client(exchange.organization_id)["id"] for _ in range(4))]
    seen: list[str] = []
    path: str | None = "/v1/clients?limit=2"
    while path:
        answer = exchange.http.get(path, headers=exchange.operator)
        seen += [item["id"] for item in answer.json()["items"]]
        path = f"/v1/clients?limit=2&after={answer.json()['next']}" if answer.json()["next"] else None
        assert ("link" in answer.headers) == (path is not None)
    assert seen == sorted(made)


def test_unknown_query_parameter_is_refused(exchange: Exchange) -> None:
    assert pointers(exchange.http.get("/v1/clients?page=2", headers=exchange.operator)) == ["?page"]


def test_each_act_is_a_change_and_an_audit_entry(exchange: Exchange) -> None:
    before = exchange.changes.applied
    client = exchange.make_client(exchange.organization_id)
    path = f"/v1/clients/{client['id']}"
    exchange.http.patch(path, json={"name": "A"}, headers=exchange.operator | {"If-Match": "*"})
    exchange.http.patch(path, json={"name": "A"}, headers=exchange.operator | {"If-Match": "*"})
    exchange.http.post(f"{path}/rotate", headers=exchange.operator)
    exchange.http.post(f"{path}/revoke", headers=exchange.operator)
    exchange.http.delete(path, headers=exchange.operator)
    assert exchange.changes_since(before) == ["client_created", "client_changed", "client_changed", "client_revoked", "client_revoked"]
    told = [entry for entry in entries(exchange, "client") + entries(exchange, "key") if entry["detail"]["client"] == client["id"]]
    assert [entry["action"] for entry in told] == ["make", "change", "revoke", "remove", "rotate"]
    assert {(entry["actor"], entry["organization"]) for entry in told} == {(exchange.operator_id, exchange.organization_id)}


def test_audit_entries_hold_no_secret_and_no_name(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.organization_id, name="Jeanne d'Arc")
    told = json.dumps(entries(exchange, "client"))
    assert client["id"] in told
    assert client["client_secret"] not in told
    assert "Jeanne" not in told


def test_me_says_who_and_with_what(exchange: Exchange) -> None:
    me = exchange.http.get("/v1/me", headers=exchange.operator).json()
    fits("me.json", me)
    assert me["client"]["id"] == exchange.operator_id
    assert me["organization"]["name"] == "City of Mississauga"
    assert me["roles"] == ["auditor", "operator", "privacy_officer"]
    assert me["scopes"] == sorted(SCOPES)
    assert me["contracts"] == []


@pytest.mark.parametrize("name", ["client.json", "client-registration.json", "organization.json", "me.json", "registration-token.json"])
def test_schema_is_valid_and_its_example_fits(name: str) -> None:
    schema = json.loads((SCHEMAS / name).read_text("utf-8"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)
    for example in schema["examples"]:
        fits(name, example)
