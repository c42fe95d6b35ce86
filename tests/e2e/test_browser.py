"""What every answer tells a browser, on whatever path and with whatever status."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import httpx2
import pytest

from gateway.browser import security_headers
from gateway.database import now
from gateway.http import parse_time
from gateway.settings import Settings
from tests.gateway import Gateway

PATHS = (
    "/docs",
    "/livez",
    "/openapi.json",
    "/problems/not_found",
    "/nothing",
    "/v1/me",
    "/oauth/jwks",
    "/docs/assets/swagger-ui.css",
    "/",
    "/resident",
)


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_is_nobodys_frame_and_says_nothing_of_the_server(gateway: Gateway, path: str) -> None:
    headers = httpx2.get(gateway.url + path).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
    assert headers["referrer-policy"] == "no-referrer"
    assert not {"server", "x-powered-by", "via"} & set(headers)
    assert "strict-transport-security" not in headers, "this issuer is http"


@pytest.mark.parametrize("path", ["/docs", "/problems/not_found", "/", "/sharing", "/resident", "/withdraw", "/log"])
def test_no_page_has_an_inline_script_or_lets_one_run(gateway: Gateway, path: str) -> None:
    answer = httpx2.get(gateway.url + path)
    scripts = re.findall(r"<script([^>]*)>([^<]*)", answer.text)
    assert all("src=" in attributes and not content.strip() for attributes, content in scripts)
    assert not re.search(r"\son\w+=|javascript:", answer.text)
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy.get("script-src", "'none'") in {"'self'", "'none'"}


def test_production_asks_for_tls_for_two_years() -> None:
    production = Settings(environment="development", issuer="https://exchange.example")
    assert security_headers(production)["Strict-Transport-Security"] == "max-age=63072000"


def test_security_txt_names_the_contact(new_gateway: Callable[..., Gateway]) -> None:
    named = new_gateway(EXCHANGE_SECURITY_CONTACT="mailto:security@city.example")
    answer = httpx2.get(f"{named.url}/.well-known/security.txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    fields = dict(line.split(": ", 1) for line in answer.text.splitlines())
    assert fields["Contact"] == "mailto:security@city.example"
    assert fields["Canonical"].endswith("/.well-known/security.txt")
    assert timedelta(days=170) < parse_time(fields["Expires"]) - now() < timedelta(days=181)


def test_without_a_contact_there_is_no_security_txt(gateway: Gateway) -> None:
    assert httpx2.get(f"{gateway.url}/.well-known/security.txt").status_code == 404
