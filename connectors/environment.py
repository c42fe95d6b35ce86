"""A client from environment variables, as programs and the command line find it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from connectors.client import Client


def from_environment(*, anonymous: bool = False, **options: Any) -> Client:
    """A client of `EXCHANGE_URL`, the issuer; `EXCHANGE_ADDRESS` is where it is reached, if that is elsewhere.

    `EXCHANGE_CLIENT_ID` with `EXCHANGE_CLIENT_KEY_FILE` (a private JWK), `EXCHANGE_CLIENT_SECRET_FILE` or `EXCHANGE_CLIENT_SECRET`
    proves itself; without, or `anonymous`, it reads what is open. `options` are `Client`'s. Raises `ValueError`, which says what to set.
    """
    url = os.environ.get("EXCHANGE_URL")
    if not url:
        raise ValueError("Set EXCHANGE_URL to the exchange's root, for example https://exchange.example.")
    options = {"address": os.environ.get("EXCHANGE_ADDRESS")} | options
    client_id = os.environ.get("EXCHANGE_CLIENT_ID")
    if anonymous or client_id is None:
        return Client(url, **options)
    if key_file := os.environ.get("EXCHANGE_CLIENT_KEY_FILE"):
        return Client(url, client_id, key=json.loads(read_private(Path(key_file))), **options)
    secret = os.environ.get("EXCHANGE_CLIENT_SECRET")
    if secret_file := os.environ.get("EXCHANGE_CLIENT_SECRET_FILE"):
        secret = read_private(Path(secret_file)).strip()
    if not secret:
        raise ValueError(
            "EXCHANGE_CLIENT_ID needs EXCHANGE_CLIENT_SECRET, EXCHANGE_CLIENT_SECRET_FILE or EXCHANGE_CLIENT_KEY_FILE (a JWK)."
        )
    return Client(url, client_id, secret=secret, **options)


def read_private(path: Path) -> str:
    """The text of a file that only its owner may read. Raises `ValueError`."""
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    if path.stat().st_mode & 0o077:
        raise ValueError(f"{path} is readable by others: chmod 600 it.")
    return path.read_text("utf-8")
