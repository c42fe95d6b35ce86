"""How a client proves itself: by secret (RFC 6749 section 2.3.1) or by key (RFC 7523), and the tokens that this brings.

A client with a key gets tokens that are bound to a key of its process (DPoP, `dpop.py`): a token alone is then of no use to a thief.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2

from connectors.dpop import SCHEME, Prover, asks_for_nonce, origin_of
from connectors.jose import Signer
from connectors.problem import raise_for_problem

ASSERTION_SECONDS = 60
RENEW_SECONDS = 30.0
"""A token is renewed so long before it expires, or at half of a shorter life."""
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    scheme: str
    """`DPoP` if it is bound to a key, else `Bearer`."""
    renew_at: float
    """On the monotonic clock, in seconds."""


_Held = tuple[str | None, bool]
"""The contract that a token names, and whether it is bound."""


class Credentials:
    """One client's proof, and the tokens that it holds; threads may share it. Nothing secret stands in its repr."""

    def __init__(self, issuer: str, client_id: str, *, secret: str | None = None, key: Mapping[str, Any] | None = None) -> None:
        if (secret is None) == (key is None):
            raise ValueError("A client proves itself by secret or by key: give one of them.")
        self.issuer = issuer
        self.client_id = client_id
        self._secret = secret
        self._signer = Signer(key) if key is not None else None
        self._prover = Prover() if key is not None else None
        self._held: dict[_Held, _Token] = {}
        self._renewing = threading.Lock()

    def __repr__(self) -> str:
        return f"Credentials({self.client_id!r}, by {'key' if self._signer else 'secret'})"

    def token(self, http: httpx2.Client, contract: str | None = None) -> str:
        """A bearer token, bound to nothing, for a program that makes no proofs: it reads open and internal data.

        Narrowed to `contract` (RFC 9396) if given, kept until shortly before it expires. Raises `ProblemError`.
        """
        return self._current(http, contract, bound=False).value

    def headers(self, http: httpx2.Client, method: str, url: httpx2.URL, contract: str | None = None) -> dict[str, str]:
        """The token for one request, and the proof that it is ours. The request must be sent as told, and once.

        Raises `ProblemError`, and `ValueError` for an address that is not the exchange's.
        """
        target = self._target(http, url)
        token = self._current(http, contract, bound=self._prover is not None)
        sent = {"Authorization": f"{token.scheme} {token.value}"}
        if self._prover is not None and token.scheme == SCHEME:
            sent[SCHEME] = self._prover.proof(method, target, origin=origin_of(url), token=token.value)
        return sent

    def learn(self, response: httpx2.Response) -> None:
        """Keep what an answer says for the next proof."""
        if self._prover is not None:
            self._prover.learn(response)

    def forget(self, contract: str | None) -> None:
        """Drop a token that was refused; the next call asks for a new one."""
        for bound in (False, True):
            self._held.pop((contract, bound), None)

    def sign_digest(self, text_digest: str) -> str:
        """A detached JWS over the UTF-8 bytes of a digest (RFC 7515 appendix F). Raises `ValueError` without a key."""
        if self._signer is None:
            raise ValueError("Only a client with a key can sign.")
        return self._signer.sign_detached(text_digest.encode("utf-8"))

    def _current(self, http: httpx2.Client, contract: str | None, *, bound: bool) -> _Token:
        with self._renewing:
            held = self._held.get((contract, bound))
            if held is None or time.monotonic() >= held.renew_at:
                held = self._held[contract, bound] = self._ask(http, contract, bound=bound)
            return held

    def _ask(self, http: httpx2.Client, contract: str | None, *, bound: bool) -> _Token:
        asked = time.monotonic()
        response = self._send(http, contract, bound=bound)
        if bound and asks_for_nonce(response):
            response = self._send(http, contract, bound=bound)
        raise_for_problem(response)
        granted = response.json()
        lifetime = float(granted["expires_in"])
        # A server that knows no DPoP grants a plain token, and says so.
        scheme = SCHEME if bound and str(granted.get("token_type", "")).lower() == SCHEME.lower() else "Bearer"
        return _Token(granted["access_token"], scheme, asked + lifetime - min(RENEW_SECONDS, lifetime / 2))

    def _send(self, http: httpx2.Client, contract: str | None, *, bound: bool) -> httpx2.Response:
        form = {"grant_type": "client_credentials"}
        if contract is not None:
            form["authorization_details"] = json.dumps([{"type": "data_contract", "contract": contract, "actions": ["read"]}])
        if self._signer is None:
            return http.post(TOKEN_PATH, data=form, auth=(self.client_id, self._secret or ""))
        form |= {"client_id": self.client_id, "client_assertion_type": JWT_BEARER, "client_assertion": self._assertion(self._signer)}
        request = http.build_request("POST", TOKEN_PATH, data=form)
        if bound and self._prover is not None:
            proof = self._prover.proof("POST", self._target(http, request.url), origin=origin_of(request.url))
            request.headers[SCHEME] = proof
        response = http.send(request)
        self.learn(response)
        return response

    def _assertion(self, signer: Signer) -> str:
        """RFC 7523 section 3: who speaks, to whom (the issuer and nobody else), once, and not for long."""
        now = int(time.time())
        claims = {"iss": self.client_id, "sub": self.client_id, "aud": self.issuer}
        return signer.sign(claims | {"jti": str(uuid4()), "iat": now, "exp": now + ASSERTION_SECONDS})

    def _target(self, http: httpx2.Client, url: httpx2.URL) -> str:
        """The `htu` of a proof: the exchange knows itself by its issuer, wherever it is reached. Raises `ValueError` for another host."""
        if origin_of(url) != origin_of(http.base_url):
            raise ValueError(f"A token of {self.issuer} goes to no other host than the exchange's.")
        path = url.raw_path.decode("ascii").partition("?")[0]
        return f"{self.issuer}/{path.removeprefix(http.base_url.raw_path.decode('ascii')).lstrip('/')}"


class Proven(httpx2.Auth):
    """Sends a request with a token and its proof. A new nonce is taken, and a refused token replaced, once each."""

    def __init__(self, credentials: Credentials, http: httpx2.Client, contract: str | None) -> None:
        self._credentials = credentials
        self._http = http
        self._contract = contract

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        told = renewed = False
        while True:
            request.headers.update(self._credentials.headers(self._http, request.method, request.url, self._contract))
            response = yield request
            self._credentials.learn(response)
            if asks_for_nonce(response) and not told:
                told = True
            elif response.status_code == httpx2.codes.UNAUTHORIZED and not renewed:
                renewed = True
                self._credentials.forget(self._contract)
            else:
                return
