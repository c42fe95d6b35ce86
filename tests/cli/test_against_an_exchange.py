"""The command line against an exchange that runs: what a partner, a start-up and an auditor type, from a key to the last reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from connectors.samples import dataset, notice
from connectors.sources import footfall, miway_stops
from gateway.cli import commands
from gateway.cli.demo.process import Exchange, empty_folder


class Person:
    """Somebody at a terminal: environment variables, and the commands that they type."""

    def __init__(self, **environment: str) -> None:
        self.environment = environment

    def try_(self, *words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(commands(), list(words), input=stdin, env=self.environment)

    def type(self, *words: str, stdin: str = "") -> Any:
        done = self.try_(*words, "--json", stdin=stdin)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    folder = tmp_path_factory.mktemp("exchange") / "demo"
    empty_folder(folder)
    with Exchange(folder) as running:
        yield running


@pytest.fixture(scope="module")
def operator(exchange: Exchange) -> Person:
    made = exchange.operator
    return Person(EXCHANGE_URL=exchange.url, EXCHANGE_CLIENT_ID=made.client_id, EXCHANGE_CLIENT_SECRET=made.client_secret)


def joined(operator: Person, folder: Path, name: str, kind: str, *scopes: str) -> tuple[Person, str]:
    """An organization with a client whose key was made here."""
    made = operator.try_("call", "POST", "/v1/organizations", "--data", json.dumps({"name": name, "kind": kind}))
    organization = json.loads(made.stdout)["id"]
    operator.try_("call", "POST", f"/v1/organizations/{organization}/approve")
    key = folder / f"{name}.jwk"
    assert operator.try_("client", "key", str(key)).exit_code == 0
    words = ["client", "create", "--organization", organization, "--name", name, "--key", str(key)]
    client = operator.type(*words, *(word for scope in scopes for word in ("--scope", scope)))
    url = operator.environment["EXCHANGE_URL"]
    return Person(EXCHANGE_URL=url, EXCHANGE_CLIENT_ID=client["id"], EXCHANGE_CLIENT_KEY_FILE=str(key)), organization


@pytest.fixture(scope="module")
def provider(operator: Person, tmp_path_factory: pytest.TempPathFactory) -> Person:
    scopes = ("catalog:write", "catalog:read", "events:publish", "contracts:read", "contracts:write", "consents:write", "consents:read")
    return joined(operator, tmp_path_factory.mktemp("keys"), "Open data desk", "department", *scopes)[0]


@pytest.fixture(scope="module")
def consumer(operator: Person, tmp_path_factory: pytest.TempPathFactory) -> tuple[Person, str]:
    scopes = ("catalog:read", "contracts:read", "contracts:write", "events:read", "audit:read")
    return joined(operator, tmp_path_factory.mktemp("keys"), "Start-up", "partner", *scopes)


def lines(events: Any) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


def test_a_department_publishes_and_anybody_reads(provider: Person) -> None:
    assert provider.type("me")["client"]["name"] == "Open data desk"
    provider.type("dataset", "create", json.dumps(dataset("miway-stops")))
    stops = list(islice(miway_stops.events(), 20))
    published = provider.try_("dataset", "publish", "miway-stops", "-", stdin=lines(stops))
    assert published.stdout.startswith("20 events in 1 batches\nsha-256=:")
    anybody = Person(EXCHANGE_URL=provider.environment["EXCHANGE_URL"])
    assert [entry["slug"] for entry in anybody.type("dataset", "list")] == ["miway-stops"]
    assert anybody.type("dataset", "show", "miway-stops")["classification"] == "open"
    read = [json.loads(line) for line in anybody.try_("dataset", "read", "miway-stops").stdout.splitlines()]
    assert sorted(event["id"] for event in read) == sorted(stop["id"] for stop in stops)


def test_a_contract_is_proposed_signed_read_and_suspended(provider: Person, consumer: tuple[Person, str], operator: Person) -> None:
    startup, organization = consumer
    provider.type("dataset", "create", json.dumps(dataset("port-credit-footfall")))
    words = ("contract", "propose", "--dataset", "port-credit-footfall")
    refused = startup.try_(*words, "--purpose", "advertising")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("403 policy_denied: ")
    contract = startup.type(*words, "--purpose", "transit-planning")["id"]
    assert [row["id"] for row in provider.type("contract", "list")] == [contract]
    assert startup.try_("contract", "text", contract).stdout.startswith("# Data contract")
    assert provider.type("contract", "sign", contract)["state"] == "proposed"
    signed = startup.type("contract", "sign", contract)
    assert signed["state"] == "active"
    entries = [row["entry"] for row in startup.type("audit", "list", "--kind", "contract") if "key_id" in row["entry"]["detail"]]
    told = {(entry["actor"], entry["detail"]["key_id"], entry["detail"]["text_digest"]) for entry in entries}
    assert told == {(signature["by"], signature["key_id"], signed["text_digest"]) for signature in signed["signatures"]}

    shown = provider.type("consent", "notice", "create", json.dumps(notice("port-credit-footfall")))["id"]
    give = ("consent", "give", "--notice", shown, "--recipient", organization)
    consent = provider.type(*give, stdin=footfall.visitor(0))["id"]
    assert provider.type("consent", "notice", "show", shown)["version"] == "1"
    visits = [visit for visit in islice(footfall.events(3), 300) if visit["data"]["visitor"] == footfall.visitor(0)]
    assert visits
    provider.try_("dataset", "publish", "port-credit-footfall", "-", stdin=lines(visits))
    assert len(startup.try_("contract", "read", contract).stdout.splitlines()) == len(visits)

    search = ("consent", "search", "--dataset", "port-credit-footfall")
    assert [row["state"] for row in provider.type(*search, stdin=footfall.visitor(0))] == ["given"]
    assert provider.type("consent", "withdraw", consent)["state"] == "withdrawn"
    assert provider.type("consent", "show", consent)["state"] == "withdrawn"
    assert startup.try_("contract", "read", contract).stdout == ""

    assert provider.type("contract", "suspend", contract, "--reason", "Review")["state"] == "suspended"
    ended = startup.try_("contract", "read", contract, "--follow")
    assert ended.exit_code == 1
    assert "contract_not_in_force" in ended.stderr
    assert provider.type("contract", "resume", contract)["state"] == "active"
    assert startup.type("contract", "end", contract)["state"] == "ended"
    again = provider.try_("contract", "resume", contract)
    assert again.exit_code == 1
    assert "409 illegal_state" in again.stderr
    releases = startup.type("audit", "list", "--kind", "release", "--contract", contract)
    assert sum(release["entry"]["closed"]["events"] for release in releases) == len(visits)


def test_consents_are_paused_withdrawn_by_code_and_imported_from_a_file(provider: Person, tmp_path: Path) -> None:
    shown = provider.type("consent", "notice", "list", "--dataset", "port-credit-footfall")[0]["id"]
    made = provider.type("consent", "give", "--notice", shown, "--language", "fr", stdin="resident-1")
    assert provider.type("consent", "pause", made["id"])["state"] == "paused"
    assert provider.type("consent", "resume", made["id"])["state"] == "given"
    assert provider.try_("consent", "receipt", made["id"]).stdout.count(".") == 2
    anybody = Person(EXCHANGE_URL=provider.environment["EXCHANGE_URL"])
    fresh = provider.type("consent", "receipt", made["id"], "--new-code")["withdrawal_code"]
    assert "not_found" in anybody.try_("consent", "withdraw", "-", stdin=made["withdrawal_code"]).stderr
    assert anybody.type("consent", "withdraw", "-", stdin=fresh)["state"] == "withdrawn"

    people, codes = tmp_path / "survey.ndjson", tmp_path / "codes.ndjson"
    people.write_text(lines({"subject": f"resident-{number}"} for number in range(1200)))
    words = ("consent", "import", str(people), "--notice", shown, "--codes", str(codes))
    for _ in range(2):  # the second time nothing is left to do
        done = provider.try_(*words)
        assert done.stdout.endswith("1200 consents are imported\n"), done.stderr
    told = [json.loads(line) for line in codes.read_text().splitlines()]
    assert codes.stat().st_mode & 0o077 == 0
    assert len(told) >= 1200
    assert provider.type("consent", "show", told[0]["id"])["state"] == "given"
    assert provider.type("consent", "revoke", told[0]["id"], "--reason", "Test")["state"] == "revoked"
    people.write_text("not JSON\n")
    assert "Line 1" in provider.try_(*words).stderr


def test_a_revoked_client_can_do_nothing_more(operator: Person, tmp_path: Path) -> None:
    leaver, _ = joined(operator, tmp_path, "Leaver", "partner", "catalog:read")
    client = leaver.type("me")["client"]["id"]
    assert client in [row["id"] for row in operator.type("client", "list")]
    assert operator.type("client", "revoke", client)["standing"] == "revoked"
    assert operator.type("client", "show", client)["standing"] == "revoked"
    assert leaver.try_("me").exit_code == 1
