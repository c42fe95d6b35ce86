"""Acts that ask a person to have signed in within the last minutes (RFC 9470), and what they say to who has not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.samples import dataset
from gateway.identity.principal import FRESH_S
from tests.identity.everybody import Everybody, everybody

ACTS: dict[str, tuple[str, str, str, Any]] = {
    "approving an organization": ("operator", "POST", "/v1/organizations/org_01k9x3v6t2h8m4c7d5e9f0g1a2/approve", None),
    "approving a client": ("partner_admin", "POST", "/v1/clients/cli_01k9x3v6t2h8m4c7d5e9f0g1a2/approve", None),
    "giving roles": ("operator", "POST", "/v1/persons/per_01k9x3v6t2h8m4c7d5e9f0g1a2/roles", {"roles": []}),
    "letting a suspended person in": ("operator", "POST", "/v1/persons/per_01k9x3v6t2h8m4c7d5e9f0g1a2/restore", None),
    "erasing": ("privacy_officer", "POST", "/v1/subjects/erase", {"dataset": "port-credit-footfall", "subject": "visitor-1"}),
    "lowering a classification": ("privacy_officer", "PATCH", "/v1/datasets/port-credit-footfall", {"classification": "internal"}),
    "taking a field from what is personal": ("privacy_officer", "PATCH", "/v1/datasets/port-credit-footfall", {"personal_pointers": []}),
}
CHALLENGED = re.compile(r'(\w+)="([^"]*)"')


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everybody]:
    with everybody(tmp_path_factory.mktemp("everybody")) as made:
        register(made)
        yield made


def register(exchange: Everybody) -> None:
    steward = exchange.as_person("data_steward", ago_s=3000)
    answer = exchange.http.post("/v1/datasets", json=dataset("port-credit-footfall"), headers=steward)
    assert answer.status_code == 201, answer.text


def act(exchange: Everybody, name: str, headers: dict[str, str]) -> Any:
    _, method, path, body = ACTS[name]
    told = {"Content-Type": "application/merge-patch+json", "If-Match": "*"} if method == "PATCH" else {}
    more = {"json": body} if body is not None else {}
    return exchange.http.request(method, path, headers=headers | told, **more)


def challenge(answer: Any) -> dict[str, str]:
    assert (answer.status_code, answer.json()["code"]) == (401, "insufficient_user_authentication"), answer.text
    return dict(CHALLENGED.findall(answer.headers["www-authenticate"]))


@pytest.mark.parametrize("name", ACTS)
def test_act_asks_who_signed_in_long_ago_to_do_so_anew(exchange: Everybody, name: str) -> None:
    role = ACTS[name][0]
    told = challenge(act(exchange, name, exchange.as_person(role, ago_s=FRESH_S + 1)))
    assert (told["error"], told["max_age"], "acr_values" in told) == ("insufficient_user_authentication", "300", False)


def test_what_protects_more_asks_for_nothing(exchange: Everybody) -> None:
    patch = {"Content-Type": "application/merge-patch+json", "If-Match": "*"}
    headers = exchange.as_person("data_steward", ago_s=3000) | patch
    raised = exchange.http.patch("/v1/datasets/port-credit-footfall", json={"classification": "sensitive"}, headers=headers)
    assert raised.status_code == 200


@pytest.mark.parametrize("name", ACTS)
def test_act_is_done_by_who_has_just_signed_in_in_the_manner_that_counts(tmp_path: Any, name: str) -> None:
    with everybody(tmp_path, oidc_acr="urn:city:mfa") as strict:
        register(strict)
        role = ACTS[name][0]
        for weak in (None, "urn:city:password"):
            told = challenge(act(strict, name, strict.as_person(role, acr=weak)))
            assert (told["acr_values"], told["max_age"]) == ("urn:city:mfa", "300")
        assert challenge(act(strict, name, strict.as_person(role, ago_s=FRESH_S + 1, acr="urn:city:mfa")))["acr_values"] == "urn:city:mfa"
        done = act(strict, name, strict.as_person(role, acr="urn:city:mfa"))
        there = {"erasing", "lowering a classification", "taking a field from what is personal"}
        assert done.status_code == (200 if name in there else 404), done.text


def test_program_is_not_asked_to_sign_in(exchange: Everybody) -> None:
    for name in ("approving an organization", "approving a client", "giving roles"):
        assert act(exchange, name, exchange.operator).status_code == 404
