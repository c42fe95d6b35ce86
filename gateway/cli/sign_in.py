"""How a person signs in at their OpenID provider: by a browser on this machine (RFC 8252), or on another device (RFC 8628).

Either gives an ID token whose nonce is the SHA-256 of a text that only this process knows, which the exchange asks for.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sys
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

WAIT_S = 300.0
"""Seconds that a person has to sign in."""
LONGEST_AGO_S = 43_200
"""A sign-in at the provider that is older than twelve hours is asked for anew."""
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
PAGE = b"<!doctype html><meta charset=utf-8><title>exchange</title><p>You can close this page and go back to the terminal."


class SignInFailed(Exception):
    """Nobody was signed in; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """What a call asked for (RFC 9470): a sign-in within so many seconds, in one of these manners."""

    max_age: str | None = None
    acr_values: str | None = None

    def as_parameters(self) -> dict[str, str]:
        """Always with a `max_age`: a provider that is told one says when the person signed in (OpenID Connect Core 1.0 section 2)."""
        return {"max_age": self.max_age or str(LONGEST_AGO_S)} | ({"acr_values": self.acr_values} if self.acr_values else {})


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the exchange names it: issuer, the command line's client there, and what to ask for."""

    issuer: str
    client_id: str
    scope: str


@dataclass(frozen=True, slots=True)
class IdToken:
    """What to bring to the exchange, once."""

    value: str = field(repr=False)
    nonce_verifier: str = field(repr=False)


def by_browser(provider: Provider, fresh: Fresh, *, open_browser: bool = True) -> IdToken:
    """Authorization code with PKCE, state and nonce, on a loopback redirect. Raises `SignInFailed`, `httpx2.HTTPError`."""
    with httpx2.Client(timeout=20.0) as http:
        metadata = _discover(http, provider)
        verifier, nonce_verifier, state = (secrets.token_urlsafe(32) for _ in range(3))
        with _Loopback(("127.0.0.1", 0), _Answered) as loopback:
            redirect = f"http://127.0.0.1:{loopback.server_port}/callback"
            asked = {
                "response_type": "code",
                "client_id": provider.client_id,
                "redirect_uri": redirect,
                "scope": provider.scope,
                "state": state,
                "nonce": digest_of(nonce_verifier),
                "code_challenge": digest_of(verifier),
                "code_challenge_method": "S256",
            }
            _send_to(f"{metadata['authorization_endpoint']}?{urlencode(asked | fresh.as_parameters())}", open_browser=open_browser)
            code = loopback.wait(state, provider.issuer)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier}
        answer = http.post(metadata["token_endpoint"], data=form | {"client_id": provider.client_id})
        return IdToken(_id_token(answer), nonce_verifier)


def on_another_device(provider: Provider, fresh: Fresh) -> IdToken:
    """Show an address and a code, and wait until the person has signed in there. Raises `SignInFailed`, `httpx2.HTTPError`."""
    with httpx2.Client(timeout=20.0) as http:
        metadata = _discover(http, provider)
        if "device_authorization_endpoint" not in metadata:
            raise SignInFailed(f"{provider.issuer} offers no sign-in on another device: leave out --device.")
        nonce_verifier = secrets.token_urlsafe(32)
        form = {"client_id": provider.client_id, "scope": provider.scope, "nonce": digest_of(nonce_verifier)} | fresh.as_parameters()
        begun = http.post(metadata["device_authorization_endpoint"], data=form)
        if begun.is_error:
            raise SignInFailed(_reason(begun))
        told = begun.json()
        address = told.get("verification_uri_complete") or told["verification_uri"]
        print(f"On any device, open {address}\nand enter the code {told['user_code']}.", file=sys.stderr, flush=True)
        return IdToken(_poll(http, metadata["token_endpoint"], provider, told), nonce_verifier)


def digest_of(text: str) -> str:
    """base64url of the SHA-256: the challenge of PKCE (RFC 7636 section 4.2), and our nonce."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def _poll(http: httpx2.Client, endpoint: str, provider: Provider, told: Mapping[str, Any]) -> str:
    """RFC 8628 section 3.4."""
    pause, ends = float(told.get("interval", 5)), time.monotonic() + min(WAIT_S, float(told["expires_in"]))
    form = {"grant_type": DEVICE_GRANT, "device_code": told["device_code"], "client_id": provider.client_id}
    while time.monotonic() < ends:
        time.sleep(pause)
        answer = http.post(endpoint, data=form)
        error = answer.json().get("error") if answer.is_error else None
        if error == "slow_down":
            pause += 5
        elif error != "authorization_pending":
            return _id_token(answer)
    raise SignInFailed("Nobody signed in in time: run it again.")


def _discover(http: httpx2.Client, provider: Provider) -> dict[str, Any]:
    answer = http.get(provider.issuer.rstrip("/") + "/.well-known/openid-configuration")
    metadata: dict[str, Any] = answer.json() if answer.is_success else {}
    if metadata.get("issuer") != provider.issuer:
        raise SignInFailed(f"{provider.issuer} does not answer as an OpenID provider ({answer.status_code}).")
    return metadata


def _send_to(address: str, *, open_browser: bool) -> None:
    print(f"Sign in at:\n  {address}", file=sys.stderr, flush=True)
    if open_browser:
        webbrowser.open(address)


def _id_token(answer: httpx2.Response) -> str:
    token = answer.json().get("id_token") if answer.is_success else None
    if not isinstance(token, str):
        raise SignInFailed(_reason(answer))
    return token


def _reason(answer: httpx2.Response) -> str:
    try:
        told = answer.json()
    except ValueError:
        told = {}
    return f"The provider says no: {told.get('error', answer.status_code)} {told.get('error_description', '')}".strip()


class _Loopback(HTTPServer):
    """Waits for the browser to come back. Listens on the loopback address alone (RFC 8252 section 8.3)."""

    received: dict[str, str] | None = None

    def wait(self, state: str, issuer: str) -> str:
        """The code. What comes with another state is not for us. Raises `SignInFailed`."""
        ends = time.monotonic() + WAIT_S
        while time.monotonic() < ends:
            self.timeout = max(0.1, ends - time.monotonic())
            self.handle_request()
            got = self.received
            if got is None or not secrets.compare_digest(got.get("state", "").encode(), state.encode()):
                continue
            # RFC 9207: a code of another provider must not be taken to this one.
            if got.get("iss", issuer) != issuer:
                raise SignInFailed("The answer is of another provider than the one that was asked.")
            if "code" not in got:
                raise SignInFailed(f"The provider says no: {got.get('error', 'no code')} {got.get('error_description', '')}".strip())
            return got["code"]
        raise SignInFailed("Nobody signed in in time: run it again.")


class _Answered(BaseHTTPRequestHandler):
    timeout = 10.0

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path != "/callback" or not isinstance(self.server, _Loopback):
            self.send_error(404)
            return
        self.server.received = {name: values[0] for name, values in parse_qs(asked.query).items()}
        self.send_response(200)
        for name, value in (("Content-Type", "text/html"), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_args: Any) -> None:
        """The address has a code in it: it is not logged."""
