"""A program that proves possession of its key by hand (RFC 9449), so that tests can send what no good client would."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, Key

from connectors.client import Client
from connectors.dpop import origin_of


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _part(said: Mapping[str, Any]) -> str:
    return _b64(json.dumps(said).encode())


class Prover:
    """Makes proofs with one key; `nonce` is what the exchange told last: see `hear`."""

    def __init__(self, key: Key | None = None, algorithm: str = "ES256") -> None:
        self.key = key or ECKey.generate_key("P-256")
        self.algorithm = algorithm
        self.nonce: str | None = None

    @property
    def thumbprint(self) -> str:
        """RFC 7638."""
        return self.key.thumbprint()

    def hear(self, headers: Mapping[str, str]) -> None:
        """Keep the nonce of an answer."""
        self.nonce = headers.get("DPoP-Nonce") or self.nonce

    def proof(
        self,
        method: str,
        url: str,
        token: str | None = None,
        *,
        header: Mapping[str, Any] | None = None,
        key: Key | None = None,
        **claims: Any,
    ) -> str:
        """A proof; `header` and `claims` replace its own, None takes one out. It is signed by `key`, if given, and shows its own."""
        ath = None if token is None else _b64(hashlib.sha256(token.encode()).digest())
        said = {"jti": secrets.token_hex(8), "htm": method, "htu": url, "iat": int(time.time()), "ath": ath, "nonce": self.nonce} | claims
        head = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.key.as_dict(private=False)} | dict(header or {})
        signed = ".".join(_part({name: value for name, value in part.items() if value is not None}) for part in (head, said))
        algorithm = jws.JWSRegistry.algorithms.get(str(head["alg"])) or jws.JWSRegistry.algorithms[self.algorithm]
        return f"{signed}.{_b64(algorithm.sign(signed.encode(), key or self.key))}"

    def headers(self, method: str, url: str, token: str, **claims: Any) -> dict[str, str]:
        """The headers of a call with this token."""
        return {"Authorization": f"DPoP {token}", "DPoP": self.proof(method, url, token, **claims)}


def bound_token(client: Client, contract: str | None = None) -> dict[str, Any]:
    """A token of a client with a key, and what it takes to present it, as JSON: for programs that have a socket and no SDK."""
    credentials = client.credentials
    assert credentials is not None
    assert credentials._prover is not None
    token = credentials._current(client.http, contract, bound=True).value
    prover = credentials._prover
    nonce = prover._nonces.get(origin_of(client.http.base_url))
    return {"token": token, "issuer": client.issuer, "key": prover._key.as_dict(private=True), "nonce": nonce}


class Presenter:
    """Presents a token in the heads of requests: a bearer token, or one of `bound_token` with a proof each time. Threads may share it."""

    def __init__(self, told: str | Mapping[str, Any]) -> None:
        self._prover: Prover | None = None
        self._issuer = ""
        if isinstance(told, str):
            self.token = told
        else:
            self.token, self._issuer, self._prover = told["token"], told["issuer"], Prover(ECKey.import_key(told["key"]))
            self._prover.nonce = told["nonce"]

    def hear(self, nonce: str) -> None:
        """The next proofs carry this nonce, which an answer gave."""
        if self._prover is not None:
            self._prover.nonce = nonce or self._prover.nonce

    def headers(self, method: str, path: str) -> dict[str, str]:
        """The headers of one request; `path` may have a query."""
        if self._prover is None:
            return {"Authorization": f"Bearer {self.token}"}
        return self._prover.headers(method, self._issuer + path.partition("?")[0], self.token)

    def lines(self, method: str, path: str) -> str:
        """The same, as they stand in a head, each line with its end."""
        return "".join(f"{name}: {value}\r\n" for name, value in self.headers(method, path).items())
