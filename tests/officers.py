"""Two privacy officers of a gateway under test, who sign in by local accounts, and what they do with policy."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2

from gateway.identity.person_tokens import COMMAND_LINE, LOCAL_ACCOUNT
from gateway.setup import make_local_account
from tests.gateway import Gateway

PASSWORD = "a long enough passphrase"
REVISIONS = "/v1/policies/revisions"
AT_ONCE = {"EXCHANGE_APPROVAL_WAIT_H": "0", "EXCHANGE_OPA_BINARY": ""}
"""The environment of a gateway whose new officers need not wait, and that vets without the OPA program, which has tests of its own."""


class Officers:
    """Ada proposes, Ben agrees. To be made before the gateway starts: an SQLite database has one seat."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.persons = {name: make_local_account(gateway.settings(), name, PASSWORD, name, ["privacy_officer"]) for name in ("ada", "ben")}
        self._tokens: dict[str, str] = {}

    def call(self, method: str, path: str, by: str = "ada", body: Any = None, at: Gateway | None = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self._token(by)}"}
        url = (at or self.gateway).url
        return httpx2.request(method, url + path, json=body, headers=headers, timeout=60)

    def done(self, method: str, path: str, by: str = "ada", body: Any = None, at: Gateway | None = None) -> dict[str, Any]:
        answer = self.call(method, path, by, body, at)
        assert answer.status_code < 300, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def active(self) -> str:
        return str(self.done("GET", f"{REVISIONS}?state=active")["items"][0]["id"])

    def drafted(self, slug: str, **members: Any) -> str:
        """A draft in which the sheet of this dataset has these members."""
        revision = str(self.done("POST", REVISIONS, body={})["id"])
        path = f"{REVISIONS}/{revision}/files/rules/{slug}.json"
        sheet = self.done("GET", path) | members
        headers = {"Authorization": f"Bearer {self._token('ada')}", "Content-Type": "application/json", "If-Match": "*"}
        answer = httpx2.put(self.gateway.url + path, content=json.dumps(sheet), headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return revision

    def previewed(self, revision: str, by: str = "ben") -> dict[str, Any]:
        made = self.done("POST", f"{REVISIONS}/{revision}/previews", by, {"days": 30})
        deadline = time.monotonic() + 120
        while made["state"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.05)
            made = self.done("GET", f"{REVISIONS}/{revision}/previews/{made['number']}", by)
        assert made["state"] == "done", made
        return made

    def agreed(self, revision: str) -> str:
        """Proposed by Ada and approved by Ben."""
        self.done("POST", f"{REVISIONS}/{revision}/propose")
        self.done("POST", f"{REVISIONS}/{revision}/approve", "ben", {"preview": self.previewed(revision)["number"]})
        return revision

    def activate(self, revision: str, by: str = "ben", at: Gateway | None = None) -> httpx2.Response:
        return self.call("POST", f"{REVISIONS}/{revision}/activate", by, at=at)

    def _token(self, name: str) -> str:
        if name not in self._tokens:
            form = {"grant_type": LOCAL_ACCOUNT, "client_id": COMMAND_LINE, "username": name, "password": PASSWORD}
            answer = httpx2.post(f"{self.gateway.url}/oauth/token", data=form, timeout=30)
            assert answer.status_code == 200, answer.text
            self._tokens[name] = str(answer.json()["access_token"])
        return self._tokens[name]
