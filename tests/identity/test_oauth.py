"""OAuth's endpoints: forms, scopes, details, introspection, metadata."""

from __future__ import annotations

import json
from typing import Any

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.identity.damping import Damping
from gateway.identity.scopes import SCOPES
from tests.identity.exchange import ISSUER, Exchange, bearer

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def detail(contract: str, **more: Any) -> dict[str, Any]:
    return {"type": "data_contract", "contract": contract} | more


def error_of(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()["error"]


# -- the form ----------------------------------------------------------------------------------------------------------


def test_parameter_that_is_there_twice_is_refused(exchange: Exchange) -> None:
    body = "grant_type=client_credentials&scope=events%3Aread&scope=events%3Aread"
    answer = exchange.http.post("/oauth/token", content=body, headers=FORM, auth=(exchange.operator_id, exchange.operator_secret))
    assert error_of(answer) == (400, "invalid_request")


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
def test_body_that_is_not_a_form_is_refused(exchange: Exchange, media_type: str) -> None:
    answer = exchange.http.post("/oauth/token", content="grant_type=client_credentials", headers={"Content-Type": media_type})
    assert error_of(answer) == (400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe", b"grant_type=%ff%fe", b"grant_type=client_credentials&scope=%80", b"a=" + b"x" * 70_000, b"&".join([b"a=1"] * 200)],
)
def test_bytes_that_are_not_utf_8_or_too_many_are_refused(exchange: Exchange, body: bytes) -> None:
    assert error_of(exchange.http.post("/oauth/token", content=body, headers=FORM)) == (400, "invalid_request")


def test_grant_must_be_named_and_offered(exchange: Exchange) -> None:
    auth = (exchange.operator_id, exchange.operator_secret)
    assert error_of(exchange.http.post("/oauth/token", content=b"grant_type=", headers=FORM, auth=auth)) == (400, "invalid_request")
    for grant in ("password", "authorization_code", 'é"\\'):
        assert error_of(exchange.ask_token(*auth, grant_type=grant)) == (400, "unsupported_grant_type")


def test_unknown_parameters_are_ignored(exchange: Exchange) -> None:
    assert exchange.ask_token(exchange.operator_id, exchange.operator_secret, frobnicate="yes").status_code == 200


def test_request_without_proof_is_refused(exchange: Exchange) -> None:
    answer = exchange.http.post("/oauth/token", data={"grant_type": "client_credentials"})
    assert error_of(answer) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic realm=")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), authorization=st.binary(max_size=80).filter(lambda value: b"\n" not in value and b"\r" not in value))
def test_no_bytes_make_the_token_endpoint_fail(exchange: Exchange, body: bytes, authorization: bytes) -> None:
    exchange.app.state.damping = Damping(10**9)  # else the later ones would only be told to come back
    for prefix in (b"", b"grant_type=client_credentials&client_assertion="):
        headers = [(b"Content-Type", FORM["Content-Type"].encode()), (b"Authorization", b"Basic " + authorization)]
        assert exchange.http.post("/oauth/token", content=prefix + body, headers=headers).status_code in {400, 401}


# -- scopes ------------------------------------------------------------------------------------------------------------


def test_token_has_all_scopes_of_the_client_if_none_is_asked_for(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization(), scopes=["events:read", "catalog:read"])
    assert exchange.ask_token(client["id"], client["client_secret"]).json()["scope"] == "catalog:read events:read"


@pytest.mark.parametrize("scope", ["events:publish", "events:read events:publish", "admin", "é", "  ", "events:read\x00"])
def test_scope_that_the_client_does_not_have_is_refused(exchange: Exchange, scope: str) -> None:
    client = exchange.make_client(exchange.make_organization(), scopes=["events:read"])
    answer = exchange.ask_token(client["id"], client["client_secret"], scope=scope)
    assert error_of(answer) == (400, "invalid_scope") if scope.strip() else answer.status_code == 200


def test_token_loses_a_scope_when_its_client_does(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization(), scopes=["events:read", "clients:write"])
    token = exchange.token(client["id"], client["client_secret"])
    assert exchange.http.get("/v1/clients", headers=bearer(token)).status_code == 200
    changed = exchange.http.patch(
        f"/v1/clients/{client['id']}", json={"scopes": ["events:read"]}, headers=exchange.operator | {"If-Match": '"1"'}
    )
    assert changed.status_code == 200, changed.text
    assert exchange.http.get("/v1/clients", headers=bearer(token)).json()["code"] == "scope_missing"


# -- authorization details ---------------------------------------------------------------------------------------------


def test_details_narrow_a_token_to_contracts_of_either_party(exchange: Exchange) -> None:
    organization = exchange.make_organization()
    client = exchange.make_client(organization)
    exchange.contracts |= {"con_1": (exchange.organization_id, organization), "con_2": (organization, exchange.organization_id)}
    asked = json.dumps([detail("con_1", actions=["read"]), detail("con_2"), detail("con_1")])
    answer = exchange.ask_token(client["id"], client["client_secret"], authorization_details=asked)
    granted = [detail("con_1", actions=["read"]), detail("con_2", actions=["read"])]
    assert answer.json()["authorization_details"] == granted
    me = exchange.http.get("/v1/me", headers=bearer(answer.json()["access_token"])).json()
    assert me["contracts"] == ["con_1", "con_2"]


@pytest.mark.parametrize(
    "asked",
    [
        [detail("con_of_others")],
        [detail("con_unknown")],
        [detail("con_mine"), detail("con_of_others")],
        [{"type": "payment", "contract": "con_mine"}],
        [{"contract": "con_mine"}],
        [detail("con_mine", locations=["x"])],
        [detail("con_mine", actions=["write"])],
        [detail("con_mine", actions="read")],
        [{"type": "data_contract"}],
        [{"type": "data_contract", "contract": {"x": 1}}],
        ["con_mine"],
        [],
        {},
        "x",
        None,
        [detail("con_mine")] * 101,
    ],
    ids=lambda asked: json.dumps(asked)[:60],
)
def test_details_that_are_not_ours_are_refused(exchange: Exchange, asked: Any) -> None:
    organization = exchange.make_organization()
    client = exchange.make_client(organization)
    exchange.contracts |= {"con_mine": (exchange.organization_id, organization), "con_of_others": ("org_x", exchange.organization_id)}
    answer = exchange.ask_token(client["id"], client["client_secret"], authorization_details=json.dumps(asked))
    assert error_of(answer) == (400, "invalid_authorization_details")


def test_contract_of_others_looks_like_one_that_does_not_exist(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    exchange.contracts["con_of_others"] = ("org_x", "org_y")
    answers = {
        exchange.ask_token(client["id"], client["client_secret"], authorization_details=json.dumps([detail(name)])).text
        for name in ("con_of_others", "con_unknown")
    }
    assert len(answers) == 1


@pytest.mark.parametrize("text", ["{", "[" * 20_000, "\x00", "1e999", '"' + "9" * 5000])
def test_details_that_are_not_json_are_refused(exchange: Exchange, text: str) -> None:
    answer = exchange.ask_token(exchange.operator_id, exchange.operator_secret, authorization_details=text)
    assert error_of(answer) == (400, "invalid_authorization_details")


# -- introspection -----------------------------------------------------------------------------------------------------


def introspect(exchange: Exchange, token: str, client: tuple[str, str] | None = None) -> Any:
    auth = client or (exchange.operator_id, exchange.operator_secret)
    return exchange.http.post("/oauth/introspect", data={"token": token}, auth=auth)


@pytest.mark.parametrize("rubbish", ["x", "a.b.c", "é", "\x00", "A" * 30_000])
def test_introspection_of_rubbish_is_inactive_and_says_no_more(exchange: Exchange, rubbish: str) -> None:
    answer = introspect(exchange, rubbish)
    assert (answer.status_code, answer.json()) == (200, {"active": False})


def test_introspection_tells_a_client_of_its_own_token(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    token = exchange.token(client["id"], client["client_secret"], scope="events:read")
    said = introspect(exchange, token, (client["id"], client["client_secret"])).json()
    assert said["active"] is True
    assert said == said | {"client_id": client["id"], "sub": client["id"], "scope": "events:read", "iss": ISSUER, "aud": ISSUER}
    assert said["exp"] - said["iat"] == 600


def test_introspection_tells_nobody_of_tokens_of_others_save_the_operating_organization(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    other = exchange.make_client(exchange.make_organization("Another"))
    token = exchange.token(client["id"], client["client_secret"])
    assert introspect(exchange, token, (other["id"], other["client_secret"])).json() == {"active": False}
    assert introspect(exchange, token).json()["active"] is True


def test_introspection_of_a_revoked_clients_token_is_inactive(exchange: Exchange) -> None:
    client = exchange.make_client(exchange.make_organization())
    token = exchange.token(client["id"], client["client_secret"])
    exchange.http.post(f"/v1/clients/{client['id']}/revoke", headers=exchange.operator)
    assert introspect(exchange, token).json() == {"active": False}


def test_introspection_needs_a_client_and_a_token(exchange: Exchange) -> None:
    assert error_of(exchange.http.post("/oauth/introspect", data={"token": "x"})) == (401, "invalid_client")
    answer = exchange.http.post("/oauth/introspect", data={"other": "x"}, auth=(exchange.operator_id, exchange.operator_secret))
    assert error_of(answer) == (400, "invalid_request")


# -- metadata ----------------------------------------------------------------------------------------------------------


def test_server_metadata_names_what_is_offered_and_nothing_else(exchange: Exchange) -> None:
    said = exchange.http.get("/.well-known/oauth-authorization-server").json()
    assert said["issuer"] == ISSUER
    for name, url in said.items():
        if name.endswith("_endpoint"):
            assert exchange.http.post(url.removeprefix(ISSUER), headers=FORM).status_code in {400, 401}, name
    assert exchange.http.get(said["jwks_uri"].removeprefix(ISSUER)).status_code == 200
    assert set(said["scopes_supported"]) == set(SCOPES)
    people = ["refresh_token", "urn:civic-exchange:oauth:grant-type:local-account"]
    assert said["grant_types_supported"] == ["client_credentials", *people]
    assert said["registration_endpoint"] == f"{ISSUER}/oauth/register"


def test_server_metadata_is_valid_by_authlibs_reading_of_rfc_8414(exchange: Exchange) -> None:
    said = exchange.http.get("/.well-known/oauth-authorization-server").json()
    # Authlib wants https everywhere, and one response type at least; a server without authorization endpoint has none.
    https = json.loads(json.dumps(said).replace("http://", "https://"))
    AuthorizationServerMetadata(https | {"response_types_supported": ["none"]}).validate()


def test_resource_metadata_leads_to_the_authorization_server(exchange: Exchange) -> None:
    said = exchange.http.get("/.well-known/oauth-protected-resource").json()
    assert (said["resource"], said["authorization_servers"]) == (ISSUER, [ISSUER])
    assert said["bearer_methods_supported"] == ["header"]


@pytest.mark.parametrize("path", ["/oauth/jwks", "/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource"])
def test_public_documents_may_be_read_from_any_page(exchange: Exchange, path: str) -> None:
    assert exchange.http.get(path).headers["access-control-allow-origin"] == "*"
