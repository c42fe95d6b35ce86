"""A client with a token that somebody gave it, and nothing else: an auditor who was handed one."""

from __future__ import annotations

import httpx2

from connectors.client import Client
from connectors.credentials import Credentials


class Given(Credentials):
    """The token of `EXCHANGE_TOKEN` in the place of a client's credentials. It cannot be renewed."""

    def __init__(self, issuer: str, token: str) -> None:
        self.issuer = issuer
        self.client_id = "EXCHANGE_TOKEN"
        self._given = token

    def __repr__(self) -> str:
        return "Given()"

    def token(self, http: httpx2.Client, contract: str | None = None) -> str:  # noqa: ARG002 - as of a client
        return self._given

    def headers(self, http: httpx2.Client, method: str, url: httpx2.URL, contract: str | None = None) -> dict[str, str]:  # noqa: ARG002
        if (url.scheme, url.host, url.port) != (http.base_url.scheme, http.base_url.host, http.base_url.port):
            raise ValueError(f"A token of {self.issuer} goes to no other host than the exchange's.")
        return {"Authorization": f"Bearer {self._given}"}

    def learn(self, response: httpx2.Response) -> None:
        """A given token needs no nonce."""

    def forget(self, contract: str | None) -> None:
        """There is no other."""

    def sign_digest(self, text_digest: str) -> str:  # noqa: ARG002 - as of a client
        """Raises `ValueError`."""
        raise ValueError("Only a client with a key can sign.")


class BearerClient(Client):
    """The SDK's client, by a given token."""

    def __init__(self, url: str, token: str, *, address: str | None) -> None:
        super().__init__(url, address=address)
        self.credentials = Given(self.issuer, token)
