"""Every call with every caller: what is let in follows from the table of roles, and from what is said here of each call.

A call that is not in this table fails the test: say who may make it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
from starlette.routing import Route

from gateway.identity.roles import ROLES
from gateway.identity.scopes import SCOPES
from tests.identity.everybody import Everybody, everybody


@dataclass(frozen=True)
class Door:
    """Who is let in: whoever has this scope, and one of these roles.

    `person`: persons alone. `anybody`: nobody in particular too. `asker`: that, and persons without such a role, who ask for
    something. `own`: no access token opens it, it has credentials of its own.
    """

    scope: str = ""
    roles: tuple[str, ...] = ()
    person: bool = False
    anybody: bool = False
    asker: bool = False
    own: bool = False


ADMIN = ("operator", "partner_admin")
OVERSEERS = ("privacy_officer", "auditor", "operator")
DOORS: dict[Door, str] = {
    Door(anybody=True): """
        GET /livez  GET /readyz  GET /oauth/jwks
        GET /.well-known/oauth-authorization-server  GET /.well-known/oauth-protected-resource
        POST /oauth/token  POST /oauth/introspect  POST /oauth/revoke
        GET /v1/purposes  GET /v1/datasets  GET /v1/datasets/{slug}  GET /v1/datasets/{slug}/schemas/{number}
        GET /v1/datasets/{slug}/offers  GET /v1/datasets/{slug}/asyncapi.json  GET /v1/datasets/{slug}/sample
        GET /v1/datasets/{slug}/events
        GET /v1/notices-of-consent  GET /v1/notices-of-consent/{notice_id}  GET /v1/notices-of-consent/{notice_id}/versions/{number}
        POST /v1/consents/withdraw  POST /v1/subjects/sessions  GET /audit/checkpoint  GET /audit/tile/{tile}
    """,
    Door(own=True): """
        POST /oauth/register  GET /oauth/register/{client_id}  PUT /oauth/register/{client_id}  DELETE /oauth/register/{client_id}
        GET /v1/subjects/self/consents  GET /v1/subjects/self/disclosures  GET /v1/subjects/self/export
        POST /v1/subjects/self/consents/{consent_id}/withdraw
    """,
    Door(): """
        GET /v1/me  GET /v1/organizations  GET /v1/organizations/{organization_id}
        GET /v1/decisions  POST /v1/decisions  GET /v1/decisions/{decision_id}
    """,
    Door(person=True): "POST /v1/me/sign-out",
    Door("organizations:write", ("operator",), asker=True): "POST /v1/organizations",
    Door("organizations:write", ("operator",)): """
        PATCH /v1/organizations/{organization_id}  POST /v1/organizations/{organization_id}/approve
        POST /v1/organizations/{organization_id}/suspend  POST /v1/organizations/{organization_id}/refuse
        GET /v1/organization-requests
        POST /v1/persons/{person_id}/roles  POST /v1/persons/{person_id}/suspend  POST /v1/persons/{person_id}/restore
    """,
    Door("clients:write"): "GET /v1/clients  GET /v1/clients/{client_id}",
    Door("clients:write", ("operator",)): """
        POST /v1/clients  PATCH /v1/clients/{client_id}  DELETE /v1/clients/{client_id}  POST /v1/clients/{client_id}/revoke
    """,
    Door("clients:write", ADMIN): """
        POST /v1/clients/{client_id}/rotate  POST /v1/clients/{client_id}/approve  POST /v1/clients/{client_id}/revoke-old
        POST /v1/organizations/{organization_id}/registration-tokens  GET /v1/organizations/{organization_id}/registration-tokens
        DELETE /v1/organizations/{organization_id}/registration-tokens/{token_id}
        GET /v1/persons  GET /v1/persons/{person_id}
    """,
    Door("catalog:write"): """
        POST /v1/datasets  PATCH /v1/datasets/{slug}  POST /v1/datasets/{slug}/schemas  POST /v1/datasets/{slug}/offers
    """,
    Door("contracts:read"): """
        GET /v1/contracts  GET /v1/contracts/{contract_id}  GET /v1/contracts/{contract_id}/text
        GET /v1/contracts/{contract_id}/schema  GET /v1/contracts/{contract_id}/asyncapi.json
        GET /v1/contracts/{contract_id}/usage  GET /v1/notices
    """,
    Door("contracts:write"): """
        POST /v1/contracts  POST /v1/contracts/{contract_id}/sign  POST /v1/contracts/{contract_id}/suspend
        POST /v1/contracts/{contract_id}/resume  POST /v1/contracts/{contract_id}/end  POST /v1/notices/{notice_id}/acknowledge
    """,
    Door("events:read"): "GET /v1/contracts/{contract}/events",
    Door("events:publish"): "POST /v1/datasets/{slug}/events",
    Door("consents:read"): """
        POST /v1/consents/search  GET /v1/consents/import/{name}  GET /v1/consents/{consent_id}  GET /v1/consents/{consent_id}/receipt
    """,
    Door("consents:write"): """
        POST /v1/notices-of-consent  POST /v1/notices-of-consent/{notice_id}/versions  POST /v1/consents  POST /v1/consents/import
        POST /v1/consents/{consent_id}/receipt  POST /v1/consents/{consent_id}/give  POST /v1/consents/{consent_id}/refuse
        POST /v1/consents/{consent_id}/withdraw  POST /v1/consents/{consent_id}/pause  POST /v1/consents/{consent_id}/resume
        POST /v1/consents/{consent_id}/revoke  POST /v1/consents/{consent_id}/invalidate
        POST /v1/subjects/erase  POST /v1/subjects/codes
    """,
    Door("policies:read", OVERSEERS): """
        GET /v1/policies/revisions  GET /v1/policies/revisions/{revision_id}  GET /v1/policies/revisions/{revision_id}/files/{path}
        GET /v1/policies/revisions/{revision_id}/previews/{number}  GET /v1/policies/revisions/{revision_id}/bundle
        GET /v1/policies/todos
    """,
    Door("policies:write", ("privacy_officer",)): """
        POST /v1/policies/revisions  PUT /v1/policies/revisions/{revision_id}/files/{path}
        DELETE /v1/policies/revisions/{revision_id}/files/{path}
        POST /v1/policies/revisions/{revision_id}/previews  POST /v1/policies/revisions/{revision_id}/retire
    """,
    Door("policies:write", ("privacy_officer",), person=True): "POST /v1/policies/revisions/{revision_id}/propose",
    Door("policies:approve", ("privacy_officer",), person=True): """
        POST /v1/policies/revisions/{revision_id}/approve  POST /v1/policies/revisions/{revision_id}/activate
    """,
    Door("audit:read"): """
        GET /v1/audit/entries  GET /v1/audit/entries/by-hash/{leaf_hash}  GET /v1/audit/entries/{index}/proof
        GET /v1/audit/consistency  GET /v1/replicas
    """,
}
TABLE = {call: door for door, calls in DOORS.items() for call in re.split(r"\s{2,}|\n", calls.strip())}
PAGES = {
    *("/.well-known/security.txt", "/docs", "/docs/assets/start.js", "/openapi.json", "/problems/{code}"),
    *("/login", "/login/callback", "/logout", "/session"),
    *("/", "/datasets/{slug}", "/sharing", "/log", "/language", "/static/{digest}/{name:path}"),
    *("/resident", "/resident/stop", "/resident/leave", "/resident/export.json", "/withdraw"),
    *("/partner", "/partner/decisions/{decision_id}", "/partner/contracts/{contract_id}", "/partner/contracts/{contract_id}/{verb}"),
    *("/partner/contracts/{contract_id}/state/{state}/{rounds}", "/officer", "/officer/drafts", "/officer/datasets/{slug}"),
    *("/officer/revisions/{revision_id}", "/officer/revisions/{revision_id}/files/{path:path}"),
    *(f"/officer/revisions/{{revision_id}}/{act}" for act in ("propose", "previews", "approve", "activate", "retire")),
    "/officer/revisions/{revision_id}/previews/{number}",
}
"""What is no call of the API. `/session`, `/logout`, `/partner` and `/officer` are for who has a browser's session, `/resident` for who
has a provider's code, the others for anybody."""
WHO_REFUSES = {"token_missing", "token_invalid", "scope_missing", "role_missing", "person_required", "insufficient_user_authentication"}


@dataclass(frozen=True)
class Caller:
    """Somebody, and what the tables say that they have."""

    headers: dict[str, str]
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    person: bool = False


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everybody]:
    with everybody(tmp_path_factory.mktemp("everybody")) as made:
        yield made


@pytest.fixture(scope="module")
def callers(exchange: Everybody) -> dict[str, Caller]:
    """Nobody, a person in each role, a client with each scope and with none, and the operator's client, which has all."""
    persons = {
        name: Caller(exchange.as_person(name), role.scopes, frozenset({name, "resident"}), person=True) for name, role in ROLES.items()
    }
    clients = {f"a client with {scope or 'nothing'}": Caller(exchange.as_client(scope), frozenset({scope})) for scope in ("", *SCOPES)}
    operator = Caller(exchange.operator, frozenset(SCOPES), frozenset({"operator", "privacy_officer", "auditor"}))
    return {"nobody": Caller({})} | persons | clients | {"the operator's client": operator}


def expected(door: Door, caller: Caller) -> str:
    """`in`, or the code with which this caller is refused."""
    asks = door.asker and (not caller.headers or (caller.person and not caller.roles & set(door.roles)))
    if door.anybody or asks:
        return "in"
    if not caller.headers:
        return "token_missing"
    if door.own:
        return "token_invalid"
    if door.scope and door.scope not in caller.scopes:
        return "scope_missing"
    if door.roles and not caller.roles & set(door.roles):
        return "role_missing"
    return "person_required" if door.person and not caller.person else "in"


def outcome(exchange: Everybody, call: str, caller: Caller, body: Any) -> str:
    """What came of it. Whoever is let in meets nothing, for there is nothing of that name, or no document that would do something."""
    method, path = call.split()
    more = {"json": body} if method in {"POST", "PUT", "PATCH"} else {}
    answer = exchange.http.request(method, re.sub(r"\{\w+\}", "x", path), headers=caller.headers, **more)
    assert answer.status_code < 500, f"{call}: {answer.text}"
    told = answer.json() if answer.content and answer.headers["content-type"].partition(";")[0].endswith("json") else {}
    if path.startswith("/oauth/register") and told["error"] == "invalid_token":
        return "token_invalid" if caller.headers else "token_missing"
    code = told.get("code") if isinstance(told, dict) else None
    return str(code) if code in WHO_REFUSES else "in"


def operations(exchange: Everybody) -> set[str]:
    paths = exchange.http.get("/openapi.json").json()["paths"]
    return set(chain.from_iterable((f"{method.upper()} {path}" for method in calls) for path, calls in paths.items()))


def test_every_call_says_who_may_make_it(exchange: Everybody) -> None:
    assert operations(exchange) == set(TABLE)


def hidden(routes: Iterable[Any]) -> set[str]:
    """The paths that the OpenAPI document has not, of all routers."""
    own = {route.path for route in routes if isinstance(route, Route) and not route.include_in_schema}
    return own.union(*(hidden(included.routes) for route in routes if (included := getattr(route, "original_router", None))))


def test_every_page_is_known(exchange: Everybody) -> None:
    assert hidden(exchange.app.routes) == PAGES


@pytest.mark.parametrize("call", sorted(TABLE))
def test_call_lets_in_whom_the_tables_say_and_nobody_else(exchange: Everybody, callers: dict[str, Caller], call: str) -> None:
    body = {"scopes": ["catalog:read"]} if call.endswith("/registration-tokens") else {}
    found = {name: outcome(exchange, call, caller, body) for name, caller in callers.items()}
    assert found == {name: expected(TABLE[call], caller) for name, caller in callers.items()}


def test_every_role_is_let_in_somewhere_that_others_are_not() -> None:
    """Else the walk would not see a role that lost what it is for."""
    opened = {
        name: {door for door in DOORS if door.scope in role.scopes and (not door.roles or name in door.roles)}
        for name, role in ROLES.items()
    }
    assert not opened.pop("resident")
    assert all(opened.values())
    assert opened["operator"] - opened["partner_admin"]
    assert opened["partner_admin"] - opened["data_steward"]
