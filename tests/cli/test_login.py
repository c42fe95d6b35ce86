"""`exchange login` as a program of its own, at a gateway that runs and at the city's provider: what a person at a terminal meets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from sqlalchemy import select

from gateway.identity.people_models import PersonSession
from gateway.identity.person_tokens import LOCAL_ACCOUNT
from tests.engines import Engines, OpenIdProvider
from tests.engines.openid import COMMAND_LINE, ROLES, Visitor
from tests.gateway import Gateway

PASSWORD = "correct horse battery staple"
ADDRESS = re.compile(r"http://\S+")
WAIT_S = 40


@pytest.fixture(scope="module")
def city(engines: Engines, openid_provider: OpenIdProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose people sign in at the provider, or by a local account: ada has one, and is an operator."""
    folder = tmp_path_factory.mktemp("city")
    gateway = Gateway(engines, folder / "gateway")
    gateway.environment |= {
        "EXCHANGE_OIDC_ISSUER": openid_provider.issuer,
        "EXCHANGE_OIDC_CLIENT_ID": COMMAND_LINE,
        "EXCHANGE_OIDC_ROLES": json.dumps(ROLES),
    }
    made = Terminal(gateway, folder, password=PASSWORD).run("person", "create", "ada", "--role", "operator", own=True)
    assert made.returncode == 0, made.stderr
    with gateway:
        yield gateway


class Terminal:
    """Somebody's terminal, with a home of its own."""

    def __init__(self, city: Gateway, folder: Path, *, password: str = "") -> None:
        self.city = city
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.environment = {"EXCHANGE_URL": city.url, "XDG_STATE_HOME": str(self.home)}
        if password:
            file = self.home / "password"
            file.touch(0o600)
            file.write_text(password + "\n")
            self.environment["EXCHANGE_PASSWORD_FILE"] = str(file)

    def run(self, *words: str, own: bool = False) -> subprocess.CompletedProcess[str]:
        """A command that asks for nobody. `own`: on the server's own settings."""
        command = [sys.executable, "-m", "gateway.cli", *words]
        environment = self.city._environment() | self.environment if own else self._outside()
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False)

    def person(self) -> dict[str, object]:
        """What `exchange me` says."""
        said = self.run("me", "--json")
        assert said.returncode == 0, said.stderr
        document: dict[str, object] = json.loads(said.stdout)
        return document

    @contextmanager
    def asking(self, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """A command that shows an address and waits for somebody to go there."""
        command = [sys.executable, "-m", "gateway.cli", *words]
        running = subprocess.Popen(command, env=self._outside(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        too_long = threading.Timer(WAIT_S, running.kill)
        too_long.start()
        try:
            assert running.stderr is not None
            said = ""
            while not (found := ADDRESS.search(said)):
                line = running.stderr.readline()
                assert line, f"it ended without an address: {said}"
                said += line
            yield running, found[0]
        finally:
            too_long.cancel()
            running.kill()
            running.communicate()

    @property
    def kept(self) -> Path:
        (file,) = (self.home / "exchange").glob("*.json")
        return file

    def has_gone_stale(self) -> None:
        """As if the access token were ten minutes old: it is renewed at the next call."""
        document = json.loads(self.kept.read_text())
        self.kept.write_text(json.dumps(document | {"expires_at": time.time()}))

    def _outside(self) -> dict[str, str]:
        return {name: value for name, value in self.city._environment().items() if not name.startswith("EXCHANGE_")} | self.environment


def go_there(address: str, login: str) -> None:
    """What the person's browser does: sign in at the provider, and come back to the command that waits."""
    redirect = parse_qs(urlsplit(address).query)["redirect_uri"][0]
    visitor = Visitor(login)
    page = httpx2.get(visitor.sign_in(address, redirect))
    visitor.close()
    assert "go back to the terminal" in page.text
    assert (page.headers["cache-control"], page.headers["referrer-policy"]) == ("no-store", "no-referrer")


def end_of(running: subprocess.Popen[str]) -> str:
    """What it prints, once it has ended well."""
    out, err = running.communicate(timeout=WAIT_S)
    assert running.returncode == 0, err
    return out


def sign_in(terminal: Terminal, login: str) -> None:
    with terminal.asking("login", "--no-browser") as (running, address):
        go_there(address, login)
        assert "Signed in as per_" in end_of(running)


def test_person_signs_in_by_the_browser_and_acts_until_they_sign_out(city: Gateway, tmp_path: Path) -> None:
    terminal = Terminal(city, tmp_path)
    with terminal.asking("login", "--no-browser") as (running, address):
        asked = parse_qs(urlsplit(address).query)
        assert (asked["code_challenge_method"], asked["response_type"]) == (["S256"], ["code"])
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", asked["redirect_uri"][0])
        go_there(address, "olga")
        assert "roles: operator, resident" in end_of(running)
    assert terminal.kept.stat().st_mode & 0o077 == 0
    assert terminal.person()["roles"] == ["operator", "resident"]
    assert terminal.run("person", "list").returncode == 0
    token = json.loads(terminal.kept.read_text())["access_token"]
    assert terminal.run("logout").stdout == "Signed out.\n"
    assert not list((terminal.home / "exchange").glob("*.json"))
    assert httpx2.get(f"{city.url}/v1/me", headers={"Authorization": f"Bearer {token}"}).json()["code"] == "token_invalid"
    assert terminal.run("me").returncode == 1


def test_answer_of_somebody_else_to_the_waiting_command_signs_nobody_in(city: Gateway, tmp_path: Path) -> None:
    terminal = Terminal(city, tmp_path)
    with terminal.asking("login", "--no-browser") as (running, address):
        redirect = parse_qs(urlsplit(address).query)["redirect_uri"][0]
        assert httpx2.get(redirect, params={"code": "x", "state": "x"}).status_code == 200
        assert httpx2.get(redirect.replace("/callback", "/other")).status_code == 404
        assert running.poll() is None
        go_there(address, "aldo")
        assert "roles: auditor, resident" in end_of(running)


def test_person_signs_in_on_another_device(city: Gateway, tmp_path: Path) -> None:
    terminal = Terminal(city, tmp_path)
    with terminal.asking("login", "--device") as (running, address):
        visitor = Visitor("petra")
        visitor.enter_code(address)
        visitor.close()
        assert "roles: privacy_officer, resident" in end_of(running)
    assert terminal.person()["roles"] == ["privacy_officer", "resident"]


def test_person_signs_in_by_a_local_account(city: Gateway, tmp_path: Path) -> None:
    terminal = Terminal(city, tmp_path, password=PASSWORD)
    done = terminal.run("login", "--local", "ada")
    assert (done.returncode, "roles: operator, resident" in done.stdout) == (0, True), done.stderr
    assert PASSWORD not in done.stdout + done.stderr + terminal.kept.read_text()
    wrong = Terminal(city, tmp_path, password="wrong horse battery staple").run("login", "--local", "ada")
    assert (wrong.returncode, "invalid_grant" in wrong.stderr) == (1, True)


@pytest.mark.parametrize(
    "name", ["a\0b", "ada\0", "Ada", " ada", "ada" * 100, "é", ""], ids=["NUL", "end", "capital", "space", "long", "accent", "none"]
)
def test_name_that_no_account_can_have_is_a_wrong_one(city: Gateway, name: str) -> None:
    form = {"grant_type": LOCAL_ACCOUNT, "client_id": "exchange-cli", "username": name, "password": PASSWORD}
    answer = httpx2.post(f"{city.url}/oauth/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_token_is_renewed_by_itself_and_each_refresh_token_is_good_once(city: Gateway, tmp_path: Path) -> None:
    terminal = Terminal(city, tmp_path)
    sign_in(terminal, "aldo")
    first = json.loads(terminal.kept.read_text())
    terminal.has_gone_stale()
    person = terminal.person()
    second = json.loads(terminal.kept.read_text())
    assert {name for name in ("access_token", "refresh_token") if first[name] == second[name]} == set()
    assert person["roles"] == ["auditor", "resident"]
    terminal.kept.write_text(json.dumps(first | {"expires_at": time.time()}))  # what a thief has copied
    assert terminal.run("me").returncode == 1
    terminal.kept.write_text(json.dumps(second))
    assert terminal.run("me").returncode == 1, "the whole sign-in is over"


def test_command_that_asks_for_a_fresh_sign_in_gets_it_and_goes_on(city: Gateway, tmp_path: Path) -> None:
    terminal, other = Terminal(city, tmp_path / "olga"), Terminal(city, tmp_path / "steve")
    sign_in(other, "rita")
    sign_in(terminal, "olga")
    about = other.person()["person"]
    assert isinstance(about, dict)
    act = ("person", "roles", about["id"], "--role", "auditor", "--organization", city.made.organization_id)
    signed_in_long_ago(city, terminal)
    with terminal.asking(*act, "--json") as (running, address):
        assert parse_qs(urlsplit(address).query)["max_age"] == ["300"]
        go_there(address, "olga")
        assert json.loads(end_of(running))["roles"] == ["auditor"]
    assert terminal.run(*act[:-4]).returncode == 0, "it is fresh now"


def test_another_person_cannot_sign_in_for_the_one_whose_act_it_is(city: Gateway, tmp_path: Path) -> None:
    terminal = Terminal(city, tmp_path)
    sign_in(terminal, "olga")
    signed_in_long_ago(city, terminal)
    nobody = "per_01k9x3v6t2h8m4c7d5e9f0g1a5"
    with terminal.asking("person", "roles", nobody) as (running, address):
        go_there(address, "aldo")
        _, said = running.communicate(timeout=WAIT_S)
    assert (running.returncode, "Another person signed in" in said) == (1, True), said


def signed_in_long_ago(city: Gateway, terminal: Terminal) -> None:
    """As if this terminal's person had signed in an hour ago, and used it since."""
    person = terminal.person()["person"]
    assert isinstance(person, dict)
    database = city.database()
    with database.transaction() as session:
        for row in session.scalars(select(PersonSession).where(PersonSession.person_id == person["id"])):
            row.auth_time -= timedelta(hours=1)
    database.close()
    terminal.has_gone_stale()


def test_roles_are_printed_from_their_one_table(city: Gateway, tmp_path: Path) -> None:
    said = Terminal(city, tmp_path).run("roles", "--json")
    assert [row["role"] for row in json.loads(said.stdout)][-1] == "resident"
    assert {row["role"] for row in json.loads(said.stdout)} == {
        *("partner_admin", "data_steward", "privacy_officer", "auditor", "operator", "resident")
    }


def test_whoever_is_signed_in_nowhere_is_told_what_to_do(city: Gateway, tmp_path: Path) -> None:
    terminal = Terminal(city, tmp_path)
    assert terminal.run("logout").stdout == "Nobody is signed in here.\n"
    said = terminal.run("me")
    assert (said.returncode, "exchange login" in said.stderr) == (1, True), said.stderr
