"""An office: a whole gateway within the test's process, on the embedded engines, with privacy officers who have signed in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from joserfc import jwt
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.identity.person_tokens import COMMAND_LINE, LOCAL_ACCOUNT
from gateway.settings import Settings
from gateway.setup import make_local_account, set_up

ISSUER = "http://exchange.test"
FOOTFALL = "port-credit-footfall"
SHEET = f"rules/{FOOTFALL}.json"
PASSWORD = "a long enough passphrase"
REVISIONS = "/v1/policies/revisions"


class Office:
    """Ada and Ben are privacy officers. `http` calls the gateway, `as_(name)` gives headers."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        told: dict[str, Any] = {
            "environment": "development",
            "issuer": "http://exchange.test",
            "data_dir": folder,
            "approval_wait_h": 0,
            "opa_binary": "",
        }
        self.settings = Settings(**(told | settings))
        self.made = set_up(self.settings, "City of Test")
        self.persons = {name: make_local_account(self.settings, name, PASSWORD, name, ["privacy_officer"]) for name in ("ada", "ben")}
        self.app = create_app(self.settings)
        self.http = TestClient(self.app, base_url=ISSUER)
        self._tokens: dict[str, str] = {}

    def as_(self, name: str) -> dict[str, str]:
        if name not in self._tokens:
            form = {"grant_type": LOCAL_ACCOUNT, "client_id": COMMAND_LINE, "username": name, "password": PASSWORD}
            self._tokens[name] = self._token(self.http.post("/oauth/token", data=form))
        return {"Authorization": f"Bearer {self._tokens[name]}"}

    def long_signed_in(self, name: str) -> dict[str, str]:
        """Their token, as one whose owner has signed in an hour ago."""
        token = self.as_(name)["Authorization"].removeprefix("Bearer ")
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        key = self.app.state.keys.signing["token"]
        told = claims | {"auth_time": claims["auth_time"] - 3600}
        made = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": key.kid}, told, key, algorithms=["ES256"])
        return {"Authorization": f"Bearer {made}"}

    @property
    def operator(self) -> dict[str, str]:
        """The client that setup made: every role, and no person."""
        if "" not in self._tokens:
            pair = (self.made.client_id, self.made.client_secret)
            self._tokens[""] = self._token(self.http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=pair))
        return {"Authorization": f"Bearer {self._tokens['']}"}

    def call(self, method: str, path: str, by: str = "ada", body: Any = None, headers: dict[str, str] | None = None) -> Any:
        caller = self.as_(by) if by else self.operator
        return self.http.request(method, path, json=body, headers=caller | (headers or {}))

    def done(self, method: str, path: str, by: str = "ada", body: Any = None) -> dict[str, Any]:
        answer = self.call(method, path, by, body)
        assert answer.status_code < 300, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def draft(self, title: str = "A draft") -> str:
        return str(self.done("POST", REVISIONS, body={"title": title})["id"])

    def write(self, revision: str, path: str, content: Any, by: str = "ada") -> Any:
        kind, text = ("application/json", json.dumps(content)) if path.endswith(".json") else ("text/plain", content)
        headers = self.as_(by) | {"Content-Type": kind, "If-Match": "*"}
        return self.http.put(f"{REVISIONS}/{revision}/files/{path}", content=text, headers=headers)

    def sheet(self, revision: str, path: str = SHEET) -> dict[str, Any]:
        answer = self.http.get(f"{REVISIONS}/{revision}/files/{path}", headers=self.as_("ada"))
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def previewed(self, revision: str, by: str = "ben", days: int = 30) -> dict[str, Any]:
        """A preview that is done."""
        made = self.done("POST", f"{REVISIONS}/{revision}/previews", by, {"days": days})
        self.app.state.previews.finish()
        return self.done("GET", f"{REVISIONS}/{revision}/previews/{made['number']}", by)

    def agreed(self, revision: str) -> None:
        """Proposed by Ada, approved by Ben."""
        self.done("POST", f"{REVISIONS}/{revision}/propose")
        number = self.previewed(revision)["number"]
        self.done("POST", f"{REVISIONS}/{revision}/approve", "ben", {"preview": number})

    def active(self) -> str:
        return str(self.done("GET", f"{REVISIONS}?state=active")["items"][0]["id"])

    def _token(self, answer: Any) -> str:
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


@contextmanager
def an_office(folder: Path, **settings: Any) -> Iterator[Office]:
    office = Office(folder, **settings)
    with office.http:
        yield office
