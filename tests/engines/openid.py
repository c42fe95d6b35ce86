"""A real OpenID provider (npm `oidc-provider`, certified), started from `openid_provider/`, and people who sign in at its pages."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx2
from joserfc.jwk import ECKey, KeySet, RSAKey

from tests.engines.process import EngineFailed, Process, free_port

PROGRAM = Path(__file__).with_name("openid_provider") / "provider.mjs"
COMMAND_LINE = "exchange-command-line"
WEB = "exchange-web"
WEB_SECRET = "a secret of the web client, only for tests"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
ACTION = re.compile(r'<form[^>]*action="([^"]+)"[^>]*method="post"|<form[^>]*method="post"[^>]*action="([^"]+)"')
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')
PEOPLE: dict[str, dict[str, Any]] = {
    "olga": {"name": "Olga Operator", "groups": ["exchange-operators"], "employee_id": "e-1"},
    "petra": {"name": "Petra Privacy", "groups": ["privacy-office"], "employee_id": "e-2"},
    "petra-admin": {"name": "Petra, her second account", "groups": ["privacy-office"], "employee_id": "e-2"},
    "aldo": {"name": "Aldo Auditor", "groups": ["audit"], "employee_id": "e-3"},
    "steve": {"name": "Steve Steward", "groups": ["stewards"], "employee_id": "e-4"},
    "rita": {"name": "Rita Resident"},
}
ROLES = {"exchange-operators": "operator", "privacy-office": "privacy_officer", "audit": "auditor", "stewards": "data_steward"}


class OpenIdProvider:
    """The city's provider. `start()` again after `stop()` keeps port and people; `roll_keys()` before it changes what it signs with."""

    def __init__(self, node_modules: Path, folder: Path, *, web_redirect: str = "http://exchange.test/login/callback") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self.people = {name: dict(claims) for name, claims in PEOPLE.items()}
        self._config = folder / "provider.json"
        self._web_redirect = web_redirect
        node = shutil.which("node") or "node"
        command: list[str | Path] = ["env", f"NODE_PATH={node_modules}", node, PROGRAM, self._config]
        self._process = Process("the OpenID provider", command, log=folder / "provider.log")
        self.roll_keys()

    def roll_keys(self, kind: str = "RSA") -> None:
        """New signing keys, from the next start on."""
        made = RSAKey.generate_key(2048, private=True) if kind == "RSA" else ECKey.generate_key("P-256", private=True)
        algorithm = "RS256" if kind == "RSA" else "ES256"
        self.key: Any = type(made).import_key(made.as_dict(private=True) | {"use": "sig", "alg": algorithm, "kid": made.thumbprint()})
        self.algorithm = algorithm

    def start(self) -> None:
        """Start, and wait until it listens. Raises `EngineFailed`."""
        self._config.write_text(json.dumps(self._configuration()), "utf-8")
        self._process.start(lambda logged: "ready" in logged, timeout_s=20)

    def stop(self) -> None:
        self._process.kill()

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "port": self.port,
            "people": self.people,
            "algorithm": self.algorithm,
            "jwks": KeySet([self.key]).as_dict(private=True),
            "clients": [
                {
                    "client_id": COMMAND_LINE,
                    "token_endpoint_auth_method": "none",
                    "application_type": "native",
                    "redirect_uris": ["http://127.0.0.1/callback"],
                    "grant_types": ["authorization_code", DEVICE],
                    "response_types": ["code"],
                    "id_token_signed_response_alg": self.algorithm,
                },
                {
                    "client_id": WEB,
                    "client_secret": WEB_SECRET,
                    "redirect_uris": [self._web_redirect],
                    "grant_types": ["authorization_code"],
                    "response_types": ["code"],
                    "id_token_signed_response_alg": self.algorithm,
                },
            ],
        }


class Visitor:
    """A person with a browser of few words: follows redirects, fills in the provider's forms, keeps cookies."""

    def __init__(self, login: str) -> None:
        self.login = login
        self.http = httpx2.Client(timeout=20)

    def sign_in(self, address: str, until: str) -> str:
        """Go to the address, sign in, agree; the address that begins with `until`, to which the provider sends the browser."""
        answer = self.http.get(address)
        for _ in range(20):
            if answer.is_redirect:
                following = urljoin(str(answer.url), answer.headers["Location"])
                if following.startswith(until):
                    return following
                answer = self.http.get(following)
                continue
            form = ACTION.search(answer.text)
            if form is None:
                raise EngineFailed(f"the provider shows no form:\n{answer.text[:2000]}")
            hidden = dict(HIDDEN.findall(answer.text))
            fields: Mapping[str, str] = hidden | {"login": self.login, "password": "any"} if "login" in answer.text else hidden
            answer = self.http.post(urljoin(str(answer.url), form[1] or form[2]), data=fields)
        raise EngineFailed(f"the provider does not come to an end: {answer.url}")

    def enter_code(self, address: str) -> None:
        """Sign in on another device: confirm the code, sign in, agree."""
        answer = self.http.get(address)
        for _ in range(20):
            if answer.is_redirect:
                answer = self.http.get(urljoin(str(answer.url), answer.headers["Location"]))
                continue
            form = ACTION.search(answer.text)
            if form is None:
                return
            hidden = dict(HIDDEN.findall(answer.text))
            more = {"login": self.login, "password": "any"} if 'name="login"' in answer.text else {}
            if "user_code=" in address and "xsrf" in hidden:
                more |= {"user_code": address.partition("user_code=")[2]}
                if "confirm" not in hidden and 'name="confirm"' in answer.text:
                    more |= {"confirm": "yes"}
            answer = self.http.post(urljoin(str(answer.url), form[1] or form[2]), data=hidden | more)
        raise EngineFailed(f"the provider does not come to an end: {answer.url}")

    def close(self) -> None:
        self.http.close()
