"""Chromium signs people in at the city's provider, and does with the session's cookie what browsers do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from gateway.identity.browser_sessions import COOKIE
from gateway.identity.people_models import PersonSession
from tests.engines import Engines, OpenIdProvider, install
from tests.engines.openid import ROLES, WEB, WEB_SECRET
from tests.gateway import Gateway

WAIT_MS = 20_000


@pytest.fixture(scope="module")
def city(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose people sign in at a provider of its own, which sends them back to it."""
    folder = tmp_path_factory.mktemp("city")
    gateway = Gateway(engines, folder / "gateway")
    provider = OpenIdProvider(
        install.node_modules(install.OPENID_PROVIDER), folder / "openid", web_redirect=f"{gateway.url}/login/callback"
    )
    gateway.environment |= {
        "EXCHANGE_OIDC_ISSUER": provider.issuer,
        "EXCHANGE_OIDC_WEB_CLIENT_ID": WEB,
        "EXCHANGE_OIDC_WEB_CLIENT_SECRET": WEB_SECRET,
        "EXCHANGE_OIDC_ROLES": str(ROLES).replace("'", '"'),
        "EXCHANGE_LOCAL_ACCOUNTS": "false",
    }
    provider.start()
    with gateway:
        yield gateway
    provider.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has been nowhere."""
    made = browser.new_context()
    made.set_default_timeout(WAIT_MS)
    yield made
    made.close()


def sign_in(page: Page, city: Gateway, login: str, path: str = "/session") -> None:
    """Fill in the provider's forms, as somebody does."""
    page.goto(city.url + path)
    page.fill("input[name=login]", login)
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    page.click("button[type=submit]")  # that they let the exchange know
    page.wait_for_url(f"{city.url}/**")


def cookie(context: BrowserContext) -> str:
    """The value of the session's cookie; empty if there is none."""
    return next((str(one["value"]) for one in context.cookies() if one.get("name") == COOKIE), "")


def asks(city: Gateway, value: str) -> int:
    """The status of the page, for whoever shows this cookie."""
    return httpx2.get(f"{city.url}/session", headers={"Cookie": f"{COOKIE}={value}"}).status_code


def set_back(city: Gateway, minutes: int) -> None:
    """As if nobody had used a session for so many minutes."""
    database = city.database()
    with database.transaction() as session:
        for row in session.query(PersonSession):
            row.used_at -= timedelta(minutes=minutes)
    database.close()


@contextmanager
def another_site(body: str) -> Iterator[str]:
    """The address of a page with this body. By its name it is another site than `127.0.0.1`."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def test_page_sends_to_the_provider_and_is_there_after_signing_in(city: Gateway, context: BrowserContext) -> None:
    page = context.new_page()
    sign_in(page, city, "aldo")
    expect(page.locator("h1")).to_contain_text("You are signed in")
    expect(page.locator("dl")).to_contain_text("auditor, resident")
    (kept,) = [one for one in context.cookies() if one.get("name") == COOKIE]
    assert (kept.get("httpOnly"), kept.get("secure"), kept.get("sameSite"), kept.get("path")) == (True, True, "Lax", "/")
    assert [one.get("name") for one in context.cookies(city.url) if "exchange" in str(one.get("name"))] == [COOKIE]
    assert page.evaluate("document.cookie") == ""


def test_signing_out_ends_the_session_for_whoever_has_its_cookie(city: Gateway, context: BrowserContext) -> None:
    page = context.new_page()
    sign_in(page, city, "aldo")
    stolen = cookie(context)
    assert asks(city, stolen) == 200
    page.click("main form button")
    expect(page.locator("h1")).to_contain_text("You are signed out")
    assert (cookie(context), asks(city, stolen)) == ("", 303)


def test_session_is_another_after_signing_in_again(city: Gateway, context: BrowserContext) -> None:
    page = context.new_page()
    sign_in(page, city, "aldo")
    before = cookie(context)
    page.goto(f"{city.url}/login?next=/session")  # the provider remembers him
    page.wait_for_url(f"{city.url}/session")
    assert cookie(context) not in {"", before}
    assert asks(city, before) == 303


def test_session_that_was_idle_asks_to_sign_in_again(city: Gateway, context: BrowserContext) -> None:
    page = context.new_page()
    sign_in(page, city, "aldo")
    before = cookie(context)
    set_back(city, 31)
    assert asks(city, before) == 303
    page.goto(f"{city.url}/session")
    expect(page.locator("h1")).to_contain_text("You are signed in")  # by the provider, who remembers him
    assert cookie(context) != before


def test_sign_in_of_a_moment_ago_is_fresh(city: Gateway, context: BrowserContext) -> None:
    page = context.new_page()
    sign_in(page, city, "aldo")
    page.goto(f"{city.url}/login?next=/session&fresh=true")
    expect(page.locator("h1")).to_contain_text("You are signed in")
    assert re.search(r"per_\w{26}", page.content())


def test_page_of_another_site_can_send_no_form_in_the_name_of_who_is_signed_in(city: Gateway, context: BrowserContext) -> None:
    page = context.new_page()
    sign_in(page, city, "aldo")
    token = page.get_attribute("input[name=form_token]", "value")
    evil = context.new_page()
    with another_site(f'<form method="post" action="{city.url}/logout"><input name="form_token" value="{token}"><button>') as address:
        evil.goto(address)
        with evil.expect_navigation():
            evil.click("button")
    assert "You are signed out" not in evil.content()
    assert asks(city, cookie(context)) == 200


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example/", "/%5Cevil.example"])
def test_nobody_is_led_elsewhere(city: Gateway, context: BrowserContext, elsewhere: str) -> None:
    page = context.new_page()
    sign_in(page, city, "aldo", f"/login?next={elsewhere}")
    assert page.url == f"{city.url}/session"


def test_nothing_of_signing_in_stands_in_the_log(city: Gateway, context: BrowserContext) -> None:
    page = context.new_page()
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    sign_in(page, city, "aldo")
    codes = [found[1] for url in addresses if (found := re.search(r"[?&]code=([^&]+)", url))]
    logged = city.log.read_text()
    assert codes
    assert "/login/callback" in logged
    assert not [secret for secret in (*codes, cookie(context), WEB_SECRET, "aldo") if secret in logged]
