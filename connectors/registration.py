"""A program becomes a client of an exchange by itself: dynamic client registration (RFC 7591), and what it changes later (RFC 7592).

    key = new_key()
    made = register("https://exchange.example", token, name="Planner", scopes=["events:read"], key=key)
    with Client("https://exchange.example", made.client_id, key=key) as exchange:
        ...

`token` is a registration token: an operator or an organization's admin makes it, or who asked for the organization gets it for the claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2

from connectors.jose import public_jwks
from connectors.problem import raise_for_problem

OURS = frozenset({"registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at", "standing"})
"""What the exchange says of a client, and a client never sends."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A client as the exchange has it. `standing`: `pending` until somebody approves it, or `active`. Keep `access_token` and `secret`
    as you keep keys: with the first a program changes or removes the client, and each answer has the next one.
    """

    client_id: str
    standing: str
    metadata: Mapping[str, Any] = field(repr=False)
    access_token: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)


def register(
    url: str,
    initial_access_token: str,
    *,
    name: str,
    scopes: Sequence[str] = (),
    key: Mapping[str, Any] | None = None,
    jwks_uri: str | None = None,
    address: str | None = None,
    **metadata: Any,
) -> Registered:
    """Register with the exchange at `url`. Without `scopes` it gets all that the token allows.

    With `key`, a private JWK of which only the public half is sent, or `jwks_uri`, where that half is published, the client proves itself
    by key and its tokens are bound (DPoP); without either it gets a secret, which reads open and internal data. `metadata` is more of
    RFC 7591 section 2. Raises `ProblemError`, `httpx2.TransportError`.
    """
    asked: dict[str, Any] = {"client_name": name}
    if scopes:
        asked["scope"] = " ".join(scopes)
    if key is not None or jwks_uri is not None:
        asked |= {"token_endpoint_auth_method": "private_key_jwt", "dpop_bound_access_tokens": True}
        asked |= {"jwks": public_jwks(key)} if key is not None else {"jwks_uri": jwks_uri}
    with httpx2.Client(base_url=address or url.rstrip("/"), timeout=30.0) as http:
        response = http.post("/oauth/register", json=asked | metadata, headers=_bearer(initial_access_token))
    return _registered(response)


class Registration:
    """A client's own entry in the exchange; it holds the token that the next call needs, in `registered`."""

    def __init__(self, url: str, registered: Registered, *, address: str | None = None) -> None:
        self.registered = registered
        self._base_url = address or url.rstrip("/")

    def read(self) -> Registered:
        """The client as it stands now. Raises `ProblemError`, `httpx2.TransportError`."""
        return self._call("GET")

    def change(self, **members: Any) -> Registered:
        """Replace members of the metadata, such as `jwks` for new keys; None takes one out. Raises `ProblemError`."""
        kept = {name: value for name, value in self.registered.metadata.items() if name not in OURS and name != "client_secret"}
        return self._call("PUT", {name: value for name, value in (kept | members).items() if value is not None})

    def remove(self) -> None:
        """Take the client out of the exchange; its tokens are refused from now on. Raises `ProblemError`."""
        raise_for_problem(self._send("DELETE"))

    def _call(self, method: str, document: Mapping[str, Any] | None = None) -> Registered:
        found = _registered(self._send(method, document))
        self.registered = replace(found, secret=found.secret or self.registered.secret)
        return self.registered

    def _send(self, method: str, document: Mapping[str, Any] | None = None) -> httpx2.Response:
        with httpx2.Client(base_url=self._base_url, timeout=30.0) as http:
            path, headers = f"/oauth/register/{self.registered.client_id}", _bearer(self.registered.access_token)
            return http.request(method, path, json=document, headers=headers)


def _registered(response: httpx2.Response) -> Registered:
    raise_for_problem(response)
    said = response.json()
    return Registered(said["client_id"], said["standing"], said, said["registration_access_token"], said.get("client_secret"))


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
