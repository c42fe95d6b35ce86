"""Four eyes are two persons: whoever cannot be told from the first is not the second."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.database import now
from gateway.errors import ExchangeError
from gateway.identity import people
from gateway.identity.four_eyes import four_eyes
from gateway.identity.people_models import Person
from gateway.identity.provider import Identity
from gateway.settings import Settings
from tests.identity.exchange import Exchange, an_exchange

CITY, OTHER = "https://login.city.example", "https://login.partner.example"
DAY = timedelta(hours=24)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    roles = {"privacy-office": "privacy_officer", "audit": "auditor"}
    with an_exchange(tmp_path, oidc_issuer=CITY, oidc_client_id="cli", oidc_employee_claim="employee", oidc_roles=roles) as made:
        yield made


def sign_in(exchange: Exchange, subject: str, issuer: str = CITY, *, employee: str | None = None, group: str = "privacy-office") -> str:
    """Somebody who was here for the first time two days ago, and whose roles are as old."""
    claims = {"groups": [group]} | ({"employee": employee} if employee else {})
    identity = Identity(issuer=issuer, subject=subject, auth_time=0, acr=None, expires_at=0, digest=b"", claims=claims)
    with exchange.database.transaction() as session:
        person = people.sign_in(session, exchange.keys, exchange.settings, identity)
        person.created_at = person.roles_changed_at = now() - 2 * DAY
        return person.id


def refused(exchange: Exchange, first: str, second: str, wait: timedelta = DAY) -> str:
    """Why not; empty if they may."""
    with exchange.database.reading() as session:
        try:
            four_eyes(session, first, second, wait=wait)
        except ExchangeError as error:
            return error.detail if error.code == "second_person_needed" else error.code
    return ""


def test_two_persons_of_one_provider_are_two(exchange: Exchange) -> None:
    petra, paul = sign_in(exchange, "petra"), sign_in(exchange, "paul")
    assert (refused(exchange, petra, paul), refused(exchange, paul, petra)) == ("", "")


def test_nobody_approves_their_own(exchange: Exchange) -> None:
    petra = sign_in(exchange, "petra")
    assert sign_in(exchange, "petra") == petra, "the same issuer and subject"
    assert "one person's" in refused(exchange, petra, petra)


def test_one_employee_with_two_accounts_is_one_person(exchange: Exchange) -> None:
    petra, admin = sign_in(exchange, "petra", employee="e-2"), sign_in(exchange, "petra-admin", employee="e-2")
    paul = sign_in(exchange, "paul", employee="e-3")
    assert "one person's" in refused(exchange, petra, admin)
    assert refused(exchange, petra, paul) == ""


def test_whoever_has_no_employees_number_is_not_told_from_one_who_has(exchange: Exchange) -> None:
    petra, nameless = sign_in(exchange, "petra", employee="e-2"), sign_in(exchange, "nameless")
    assert "may be" in refused(exchange, petra, nameless)
    assert "may be" in refused(exchange, nameless, petra)


def test_number_that_the_provider_stops_to_say_is_not_forgotten(exchange: Exchange) -> None:
    petra, admin = sign_in(exchange, "petra", employee="e-2"), sign_in(exchange, "petra-admin", employee="e-2")
    sign_in(exchange, "petra-admin")
    assert "one person's" in refused(exchange, petra, admin)


def test_accounts_of_two_providers_may_be_one_persons(exchange: Exchange) -> None:
    petra, elsewhere = sign_in(exchange, "petra"), sign_in(exchange, "somebody", OTHER, employee="e-9")
    assert "may be" in refused(exchange, petra, elsewhere)
    assert "may be" in refused(exchange, elsewhere, petra)


def test_number_counts_of_the_citys_provider_alone(exchange: Exchange) -> None:
    petra = sign_in(exchange, "petra", employee="e-2")
    assert "may be" in refused(exchange, petra, sign_in(exchange, "petra", OTHER, employee="e-7"))


def test_program_is_nobodys_second_pair_of_eyes(exchange: Exchange) -> None:
    petra = sign_in(exchange, "petra")
    for program in (exchange.operator_id, "cli_unknown", ""):
        assert "program" in refused(exchange, petra, program)
        assert "program" in refused(exchange, program, petra)


def test_account_that_is_new_waits_a_day(exchange: Exchange) -> None:
    petra, paul = sign_in(exchange, "petra"), sign_in(exchange, "paul")
    age(exchange, paul, created=timedelta(hours=23, minutes=59))
    assert "waits 24 hours" in refused(exchange, petra, paul)
    assert refused(exchange, paul, petra) == "", "the first may be new"
    age(exchange, paul, created=timedelta(hours=24, minutes=1))
    assert refused(exchange, petra, paul) == ""


def test_account_whose_roles_changed_waits_a_day(exchange: Exchange) -> None:
    petra, paul = sign_in(exchange, "petra"), sign_in(exchange, "paul", group="audit")
    identity = Identity(CITY, "paul", 0, None, 0, b"", {"groups": ["privacy-office"]})
    with exchange.database.transaction() as session:
        people.sign_in(session, exchange.keys, exchange.settings, identity)
    assert "waits 24 hours" in refused(exchange, petra, paul)
    assert refused(exchange, petra, paul, wait=timedelta(0)) == "", "in development"


def test_role_that_was_given_here_waits_a_day(exchange: Exchange) -> None:
    petra, paul = sign_in(exchange, "petra"), sign_in(exchange, "paul")
    body = {"organization": exchange.organization_id, "roles": ["auditor"]}
    assert exchange.http.post(f"/v1/persons/{paul}/roles", json=body, headers=exchange.operator).status_code == 200
    assert "waits 24 hours" in refused(exchange, petra, paul)


def test_who_is_suspended_approves_nothing(exchange: Exchange) -> None:
    petra, paul = sign_in(exchange, "petra"), sign_in(exchange, "paul")
    assert exchange.http.post(f"/v1/persons/{paul}/suspend", headers=exchange.operator).status_code == 200
    assert "good standing" in refused(exchange, petra, paul)


@pytest.mark.parametrize("hours", [0, 1, 23])
def test_production_refuses_to_wait_for_less_than_a_day(hours: int) -> None:
    told = {"issuer": "https://exchange.city.example", "database_url": "postgresql+psycopg://x", "log_url": "kafka://x:1"}
    told |= {"policy_url": "http://127.0.0.1:8181", "policy_token": "a token of the policy engine", "kek_command": "print-the-key"}
    assert Settings.model_validate(told | {"approval_wait_h": 48}).approval_wait_h == 48
    with pytest.raises(ValueError, match="EXCHANGE_APPROVAL_WAIT_H"):
        Settings.model_validate(told | {"approval_wait_h": hours})
    assert Settings.model_validate({"environment": "development", "approval_wait_h": hours}).approval_wait_h == hours


def age(exchange: Exchange, person_id: str, *, created: timedelta) -> None:
    with exchange.database.transaction() as session:
        session.get_one(Person, person_id).created_at = now() - created
