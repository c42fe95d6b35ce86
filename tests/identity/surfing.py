"""A browser of few words for the pages of the exchange: Python's own jar keeps no `__Host-` cookie that comes by http."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.engines import OpenIdProvider
from tests.engines.openid import Visitor
from tests.identity.exchange import ISSUER, Exchange

HIDDEN = re.compile(r'name="([^"]+)" value="([^"]*)"')


class Surfer:
    """Somebody with a browser at this exchange: cookies, Fetch Metadata, and redirects as they come."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.cookies: dict[str, str] = {}

    def get(self, path: str) -> Any:
        return self._send("GET", path, {"Sec-Fetch-Site": "none"})

    def post(self, path: str, fields: dict[str, str], **headers: str) -> Any:
        """As a form of ours sends it; `headers` say it otherwise, with `_` for `-`."""
        told = {"Sec-Fetch-Site": "same-origin"} | {name.replace("_", "-"): value for name, value in headers.items()}
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._send("POST", path, {name: value for name, value in told.items() if value} | form, content=urlencode(fields))

    def sign_in(self, _provider: OpenIdProvider, login: str, path: str = "/login") -> Any:
        """At the city's provider; the answer to coming back from it."""
        sent = self.get(path)
        assert sent.status_code == 303, sent.text
        visitor = Visitor(login)
        came_back = urlsplit(visitor.sign_in(sent.headers["location"], f"{ISSUER}/login/callback"))
        visitor.close()
        return self.get(f"{came_back.path}?{came_back.query}")

    def form(self) -> dict[str, str]:
        """The hidden fields of the page on which one signs out."""
        page = self.get("/session")
        assert page.status_code == 200, page.text
        return dict(HIDDEN.findall(page.text))

    def is_signed_in(self) -> bool:
        status: int = self.get("/session").status_code
        assert status in {200, 303}
        return status == 200

    def _send(self, method: str, path: str, headers: dict[str, str], **more: Any) -> Any:
        kept = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        answer = self.exchange.http.request(method, path, headers=headers | kept, follow_redirects=False, **more)
        for told in answer.headers.get_list("set-cookie"):
            name, _, value = told.partition(";")[0].partition("=")
            self.cookies[name] = value.strip('"')
            if "max-age=0" in told.lower():
                del self.cookies[name]
        self.exchange.http.cookies.clear()
        return answer
