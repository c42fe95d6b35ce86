"""A gateway under test: the real process, on either set of engines, with the clients that a test needs."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from connectors.client import Client, new_key, public_jwks
from gateway.database import Database
from gateway.keys import read_keys
from gateway.settings import Settings
from gateway.setup import SetUp, set_up
from tests.engines import Engines
from tests.engines.opa import Opa
from tests.engines.process import free_port
from tests.minted import Minted

READY_S = 60.0
READER = ("catalog:read", "contracts:read", "contracts:write", "events:read", "audit:read", "consents:read")
PROVIDER = (*READER, "catalog:write", "events:publish", "consents:write")


class GatewayFailed(Exception):
    """The gateway did not start; the message has the end of its log."""


@dataclass
class Gateway:
    """`exchange serve` in a folder of its own. `start()` again after `kill()` keeps ports, database and log.

    `beside` another it is a further replica of that exchange: of one database, log, audit log, key file and issuer, at ports and with
    an OPA of its own.
    """

    engines: Engines
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    beside: Gateway | None = None
    program: tuple[str, ...] = ("-m", "gateway.cli", "serve")
    """What Python runs."""
    ready_s: float = READY_S

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.log = self.folder / "gateway.log"
        self.issuer: str = self.beside.issuer if self.beside else self.url
        self.key_file: Path = self.beside.key_file if self.beside else self.folder / "keys.json"
        self.audit_dir: Path = self.beside.audit_dir if self.beside else self.folder / "audit"
        self._token: str = self.beside._token if self.beside else secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None
        self.minted: Minted = self.beside.minted if self.beside else Minted()
        self._clients: list[Client] = []
        self.opa: Opa | None = None
        self.database_url: str = self.beside.database_url if self.beside else self.engines.database_url()
        self.made: SetUp = self.beside.made if self.beside else set_up(self.settings(), "City of Test")
        key = read_keys(self.settings().resolved_key_file).signing["policy_bundle"]
        public_key = key.as_pem(private=False).decode()
        self.opa = self.engines.opa(admin_url=self.admin_url, token=self._token, public_key=public_key)

    def settings(self) -> Settings:
        """The settings that the process runs with."""
        return Settings(
            environment="development",
            issuer=self.issuer,
            port=self.port,
            admin_port=self.admin_port,
            data_dir=self.folder,
            key_file=self.key_file,
            audit_dir=self.audit_dir,
            database_url=self.database_url,
            log_url=self.engines.log_url,
            policy_url=self.opa.url if self.opa else "",
            policy_token=SecretStr(self._token),
            kek_command=self.environment.get("EXCHANGE_KEK_COMMAND", ""),
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except GatewayFailed:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the gateway itself, which the process that was started supervises. Raises `GatewayFailed` if it does not run."""
        for pid in self._children():
            return pid
        raise GatewayFailed("the gateway does not run")

    def start(self, *, policy: bool = True) -> None:
        """Start, and wait until it is ready and its policy answers. Raises `GatewayFailed`."""
        if self.opa is not None and policy and not self.opa.running:
            self.opa.start()
        with self.log.open("ab") as log:
            command = [sys.executable, *self.program]
            self._process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + self.ready_s
        while not self.is_ready(policy=policy):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise GatewayFailed(f"the gateway did not get ready:\n{self._last_words()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def kill(self) -> None:
        """`kill -9` of the supervisor, with which the gateway ends; it is gone when this returns."""
        if self._process is not None:
            orphans = self._children()
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None
            deadline = time.monotonic() + 10
            while any(Path(f"/proc/{pid}/cmdline").exists() for pid in orphans) and time.monotonic() < deadline:
                time.sleep(0.01)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.kill()
        if self.opa is not None:
            self.opa.close()

    def operator(self) -> Client:
        """The client that `exchange setup` made: every scope and role."""
        return self.client(self.made.client_id, secret=self.made.client_secret)

    def client(self, client_id: str | None = None, **credentials: Any) -> Client:
        """A client of this gateway, closed with it."""
        client = Client(self.issuer, client_id, address=self.url, on_response=self.minted.see, **credentials)
        self._clients.append(client)
        return client

    def partner(self, name: str, *, kind: str = "partner", scopes: tuple[str, ...] = PROVIDER, strong: bool = True) -> Client:
        """A client of a new, approved organization; it authenticates by key, or by secret if not `strong`."""
        operator = self.operator()
        organization = operator.post("/v1/organizations", {"name": f"{name} {secrets.token_hex(3)}", "kind": kind})["id"]
        operator.post(f"/v1/organizations/{organization}/approve")
        return self.another_client(organization, scopes=scopes, strong=strong)

    def another_client(self, organization: str, *, scopes: tuple[str, ...] = PROVIDER, strong: bool = True) -> Client:
        body: dict[str, Any] = {"organization": organization, "name": "test", "scopes": list(scopes), "roles": []}
        if strong:
            key = new_key()
            body |= {"token_endpoint_auth_method": "private_key_jwt", "jwks": public_jwks(key)}
            made = self.operator().post("/v1/clients", body)
            return self.client(made["id"], key=key)
        made = self.operator().post("/v1/clients", body | {"token_endpoint_auth_method": "client_secret_basic"})
        return self.client(made["id"], secret=made["client_secret"])

    def database(self) -> Database:
        """The gateway's database, to look into. Close it."""
        return Database(self.settings().resolved_database_url)

    def _children(self) -> list[int]:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in children.read_text("ascii").split()] if children.exists() else []

    def _environment(self) -> dict[str, str]:
        settings = self.settings()
        own = {
            "EXCHANGE_ENVIRONMENT": settings.environment,
            "EXCHANGE_ISSUER": settings.issuer,
            "EXCHANGE_PORT": str(settings.port),
            "EXCHANGE_ADMIN_PORT": str(settings.admin_port),
            "EXCHANGE_DATA_DIR": str(settings.data_dir),
            "EXCHANGE_KEY_FILE": str(settings.key_file),
            "EXCHANGE_AUDIT_DIR": str(settings.audit_dir),
            "EXCHANGE_DATABASE_URL": settings.database_url,
            "EXCHANGE_LOG_URL": settings.log_url,
            "EXCHANGE_POLICY_URL": settings.policy_url,
            "EXCHANGE_POLICY_TOKEN": self._token,
        }
        return {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")} | own | self.environment

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def is_ready(self, *, policy: bool) -> bool:
        """True if it answers that it is; with `policy`, that its engine answers too."""
        with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
            return not policy or b'"policy":"ok"' in answer.read()
        return False
