"""The person who is signed in on this machine: their tokens, in a file that they alone can read, renewed and stepped up as calls ask."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from connectors.client import Client, ProblemError
from connectors.credentials import Credentials
from connectors.problem import raise_for_problem
from gateway.cli.sign_in import Fresh

COMMAND_LINE = "exchange-cli"
RENEW_S = 30.0
CHALLENGED = re.compile(r'(\w+)="([^"]*)"')
Renewal = Callable[[Fresh, Mapping[str, Any]], dict[str, Any]]
"""Signs the person in again as a call asked, given what is kept of them, and returns what is to be kept."""


class TokenFile:
    """What one exchange's sign-in left behind: mode 0600, in the state folder of the user (XDG)."""

    def __init__(self, issuer: str) -> None:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        name = hashlib.sha256(issuer.rstrip("/").encode()).hexdigest()[:16]
        self.path = state / "exchange" / f"{name}.json"

    def read(self) -> dict[str, Any] | None:
        """None if nobody is signed in. A file that others can read is not believed."""
        try:
            if self.path.stat().st_mode & 0o077:
                return None
            kept = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return kept if isinstance(kept, dict) and "access_token" in kept else None

    def write(self, kept: Mapping[str, Any]) -> None:
        """In one step: who reads meanwhile finds the old or the new."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.path.with_suffix(f".{os.getpid()}")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(dict(kept), file)
        new.replace(self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Of two commands one renews and the other takes what it got: a refresh token is good once."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class PersonCredentials(Credentials):
    """The signed-in person in the place of a client's credentials. `renewal` signs them in again where a call asks for that (RFC 9470)."""

    def __init__(self, issuer: str, file: TokenFile, renewal: Renewal) -> None:
        self.issuer = issuer
        self.client_id = COMMAND_LINE
        self._file = file
        self._renewal = renewal
        self._refused = ""
        self._fresh: Fresh | None = None

    def __repr__(self) -> str:
        return "PersonCredentials()"

    def token(self, http: httpx2.Client, contract: str | None = None) -> str:  # noqa: ARG002 - a person's token names no contract
        kept = self._file.read()
        if kept is None:
            raise ProblemError(401, {"code": "token_missing", "detail": "Nobody is signed in here.", "hint": "Run `exchange login`."})
        if kept["access_token"] != self._refused and time.time() < kept["expires_at"] - RENEW_S:
            return str(kept["access_token"])
        with self._file.held():
            kept = self._file.read() or kept
            if kept["access_token"] == self._refused or time.time() >= kept["expires_at"] - RENEW_S:
                kept = self._renewed(http, kept)
                self._file.write(kept)
        return str(kept["access_token"])

    def headers(self, http: httpx2.Client, method: str, url: httpx2.URL, contract: str | None = None) -> dict[str, str]:  # noqa: ARG002
        if (url.scheme, url.host, url.port) != (http.base_url.scheme, http.base_url.host, http.base_url.port):
            raise ValueError(f"A token of {self.issuer} goes to no other host than the exchange's.")
        return {"Authorization": f"Bearer {self.token(http)}"}

    def learn(self, response: httpx2.Response) -> None:
        """Whether a refusal asks for the person to sign in again."""
        if response.status_code != httpx2.codes.UNAUTHORIZED:
            return
        self._refused = response.request.headers.get("Authorization", "").removeprefix("Bearer ")
        told = dict(CHALLENGED.findall(response.headers.get("WWW-Authenticate", "")))
        if told.get("error") == "insufficient_user_authentication":
            self._fresh = Fresh(told.get("max_age"), told.get("acr_values"))

    def forget(self, contract: str | None) -> None:
        """The token was refused, as `learn` has seen."""

    def sign_digest(self, text_digest: str) -> str:  # noqa: ARG002 - as of a client
        """Raises `ValueError`: a contract over personal data is signed by a client's key."""
        raise ValueError("Only a client with a key can sign.")

    def _renewed(self, http: httpx2.Client, kept: dict[str, Any]) -> dict[str, Any]:
        fresh, self._fresh = self._fresh, None
        if fresh is None:
            return kept | granted(
                http, {"grant_type": "refresh_token", "refresh_token": kept["refresh_token"]}, hint="Sign in again: `exchange login`."
            )
        again = self._renewal(fresh, kept)
        if subject_of(again["access_token"]) != subject_of(kept["access_token"]):
            raise ProblemError(
                401, {"code": "token_invalid", "detail": "Another person signed in.", "hint": "Run `exchange login` as them."}
            )
        sign_out(http, str(kept["access_token"]))
        return again


class SignedInClient(Client):
    """The SDK's client, in the name of the person who is signed in."""

    def __init__(self, url: str, *, address: str | None, renewal: Renewal) -> None:
        super().__init__(url, address=address, timeout=400.0)
        self.credentials = PersonCredentials(self.issuer, TokenFile(self.issuer), renewal)


def granted(http: httpx2.Client, form: Mapping[str, str], *, hint: str = "") -> dict[str, Any]:
    """What the token endpoint grants the command line, as it is kept. Raises `ProblemError`."""
    asked = time.time()
    answer = http.post("/oauth/token", data={"client_id": COMMAND_LINE, **form})
    try:
        raise_for_problem(answer)
    except ProblemError as error:
        error.hint = error.hint or hint
        raise
    told = answer.json()
    return {name: told[name] for name in ("access_token", "refresh_token")} | {"expires_at": asked + float(told["expires_in"])}


def sign_out(http: httpx2.Client, access_token: str) -> None:
    """End a sign-in at the exchange. That it has ended already is as good."""
    http.post("/v1/me/sign-out", headers={"Authorization": f"Bearer {access_token}"})


def subject_of(access_token: str) -> str:
    """The person of our own token, which nobody else has touched."""
    payload = access_token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])
