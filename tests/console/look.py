"""Somebody with a browser who looks closely: at the console, at failed requests, at accessibility, at HTML, at what does not fit."""

from __future__ import annotations

import json
import os
import re
import subprocess
from itertools import product
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response

from tests.engines import install

WAIT_MS = 20_000
WIDTHS = (360, 1440)
"""A phone's and a desk's, in CSS pixels."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LOOKED_AT = {(360, "light"), (1440, "dark")}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SCREENSHOTS = "EXCHANGE_SCREENSHOTS"


class Look:
    """A browser of one person, at the exchange of this URL. `seen` takes the pages that it is sent.

    `wrong` is what went wrong so far; a test that expects a refusal says so with `expects`.
    """

    def __init__(
        self, browser: Browser, url: str, seen: list[str], *, script: bool = True, width: int = 360, language: str = "en-CA"
    ) -> None:
        self.context: BrowserContext = browser.new_context(
            java_script_enabled=script, viewport={"width": width, "height": 800}, locale=language
        )
        self.context.set_default_timeout(WAIT_MS)
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        self._seen = seen
        self._url = url
        self._expected: set[int] = set()
        self._watch(self.page)

    def expects(self, *statuses: int) -> None:
        """These statuses are what the test is about, and so is the browser's line about them."""
        self._expected |= set(statuses)

    def sign_in(self, url: str, login: str, path: str) -> None:
        """Go to the path of the exchange at this URL, and fill in the provider's forms on the way, as somebody does."""
        self.page.goto(url + path)
        self.page.fill("input[name=login]", login)
        self.page.fill("input[name=password]", "any")
        self.page.click("button[type=submit]")
        self.page.click("button[type=submit]")  # that they let the exchange know
        self.page.wait_for_url(f"{url}/**")

    def closely(self, name: str) -> None:
        """Hold the page as it is, at each width, light and dark, to WCAG 2.2 AA, and to fitting in; a picture of each where asked for."""
        before = self.page.viewport_size
        folder = os.environ.get(SCREENSHOTS)
        for width, scheme in product(WIDTHS, SCHEMES):
            # Colours do not depend on the width: without pictures, each is looked at once.
            if folder or (width, scheme) in LOOKED_AT:
                self.page.set_viewport_size({"width": width, "height": 800})
                self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if folder:
                self.page.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png", full_page=True)
            if (width, scheme) in LOOKED_AT:
                wide = self.page.evaluate("document.documentElement.scrollWidth")
                self.wrong += [f"{name}: scrolls sideways at {width}: {wide}"] if wide > width else []
                self.wrong += [f"{name} at {width}, {scheme}: {found}" for found in self._axe()]
        if before:
            self.page.set_viewport_size(before)
        self.page.emulate_media(color_scheme="light")

    def close(self) -> list[str]:
        """Close the browser; all that was wrong."""
        self.context.close()
        return self.wrong

    def _watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("requestfailed", self._failed)
        page.on("console", self._console)
        page.on("response", self._answered)

    def _failed(self, request: Request) -> None:
        if request.url.startswith(self._url):  # what the provider's pages ask for is not ours
            self.wrong.append(f"failed: {request.method} {request.url} {request.failure}")

    def _console(self, message: ConsoleMessage) -> None:
        status = re.search(r"status of (\d+)", message.text)
        ours = message.location["url"].startswith(self._url) or self.page.url.startswith(self._url)
        if ours and message.type in {"error", "warning"} and not (status and int(status[1]) in self._expected):
            self.wrong.append(f"console: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.url.startswith(self._url) and response.status >= 400 and response.status not in self._expected:
            self.wrong.append(f"{response.status}: {response.request.method} {response.url}")
        whole = response.request.is_navigation_request() and "text/html" in response.headers.get("content-type", "")
        if whole and response.headers.get("content-language"):
            self._seen.append(response.text())

    def _axe(self) -> list[str]:
        source = (install.node_modules(install.AXE) / "axe-core" / "axe.min.js").read_text("utf-8")
        self.page.evaluate(source + "; null")
        options = {"runOnly": {"type": "tag", "values": WCAG}, "resultTypes": ["violations"]}
        found: dict[str, Any] = self.page.evaluate("options => axe.run(document, options)", options)
        return [f"{each['id']}: {node['html'][:200]} ({node['failureSummary']})" for each in found["violations"] for node in each["nodes"]]


def invalid(pages: list[str], folder: Path) -> list[str]:
    """What the Nu HTML checker finds wrong with these pages, as they were sent."""
    files = [folder / f"page-{number}.html" for number in range(len(pages))]
    for file, text in zip(files, pages, strict=True):
        file.write_text(text, "utf-8")
    jar = install.node_modules(install.HTML_VALIDATOR) / "vnu-jar" / "build" / "dist" / "vnu.jar"
    command = ["java", "-Xss2m", "-jar", str(jar), "--format", "json", *map(str, files)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stderr)["messages"] if files else []
    wrong = [each for each in said if each["type"] != "info" or each.get("subType") == "warning"]
    return [f"{each.get('message')} {each.get('extract', '')[:160]}" for each in wrong]
