"""The pages by which people sign in and out look and read like the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, expect

from gateway.setup import make_local_account
from tests.console.city import City
from tests.console.look import Look
from tests.engines import Engines
from tests.gateway import Gateway


def test_pages_of_signing_in_are_accessible_and_say_who_one_is(city: City, looks: Callable[..., Look]) -> None:
    look = looks()
    look.sign_in(city.url, "aldo", "/session")
    expect(look.page.locator("dl")).to_contain_text("auditor, resident")
    look.closely("session")
    look.page.click("text=Français")
    expect(look.page.locator("h1")).to_have_text("Vous êtes connecté")
    look.page.click("main button")
    expect(look.page.locator("h1")).to_have_text("Vous êtes déconnecté")
    look.closely("signed-out")
    look.expects(400)
    look.page.goto(f"{city.url}/login/callback?state=x&code=y")
    expect(look.page.locator("h1")).to_have_text("Vous n'avez pas été connecté")
    expect(look.page.locator(".notice")).to_have_text("Cette connexion n'a pas été commencée dans ce navigateur, ou il y a longtemps.")
    look.closely("not-signed-in")


def test_form_of_local_accounts_signs_in_and_is_accessible(engines: Engines, browser: Browser, seen: list[str], tmp_path: Path) -> None:
    with Gateway(engines, tmp_path / "gateway", {"EXCHANGE_LOCAL_ACCOUNTS": "true"}) as gateway:
        gateway.stop()  # SQLite has one seat
        make_local_account(gateway.settings(), "ada", "a long enough passphrase", "Ada", ["auditor"])
        gateway.start()
        look = Look(browser, gateway.url, seen)
        look.page.goto(f"{gateway.url}/officer")
        look.closely("login")
        look.page.fill("#username", "ada")
        look.page.fill("#password", "a long enough passphrase")
        look.page.click("main button")
        expect(look.page).to_have_url(f"{gateway.url}/officer")
        assert look.close() == []
