"""Open Policy Agent, from `deploy/opa`: takes its policy from a gateway, answers that gateway only."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.engines.process import DEPLOY, Process, free_port, render

START_TIMEOUT_S = 15
DECISION_PATH = "/v1/data/exchange/main/decision"


class Opa:
    """One OPA whose port, and last policy, stay while it is killed and started again. Ends, and its folder with it, at `close()`.

    `admin_url` is the gateway's admin address (it need not answer yet), `token` the value of `EXCHANGE_POLICY_TOKEN`,
    `public_key` the PEM of the key by which the gateway signs bundles; `port` is a free one unless it was promised to somebody.
    """

    def __init__(self, binary: Path, *, admin_url: str, token: str, public_key: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._token = token
        self._folder = Path(tempfile.mkdtemp(prefix="exchange-opa-"))
        self._configure(admin_url, public_key)
        # An empty environment: a policy could read it. As deploy/README.md starts it.
        where = ("--addr", f"127.0.0.1:{self.port}", "--authentication=token", "--authorization=basic")
        run = ("env", "-i", "GOGC=400", binary, "run", "-s", *where)
        quiet = ("--skip-version-check", "--shutdown-grace-period", "2", "--log-level", "error")
        files = ("-c", self._folder / "config.yaml", self._folder / "authz.rego", self._folder / "tokens.json")
        self._process = Process("OPA", (*run, *quiet, *files), log=self._folder / "opa.log")

    def __repr__(self) -> str:
        return f"Opa({self.url})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The value of `EXCHANGE_POLICY_URL`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def log(self) -> Path:
        return self._process.log

    def start(self) -> None:
        """Start, or start again with the last policy that it had. Raises `EngineFailed`."""
        self._process.start(lambda _log: self._answers(), timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder)

    def ask(self, facts: dict[str, Any], *, token: str | None = None, path: str = DECISION_PATH) -> tuple[int, dict[str, Any]]:
        """(status, body) of one decision, asked as a gateway asks. Raises `OSError` if OPA does not answer."""
        query = "?provenance=true&strict-builtin-errors=true"
        headers = {"Authorization": f"Bearer {self._token if token is None else token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path + query, json.dumps({"input": facts}).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def _answers(self) -> bool:
        try:
            return self.ask({})[0] == 200
        except OSError:
            return False

    def _configure(self, admin_url: str, public_key: str) -> None:
        deploy, folder = DEPLOY / "opa", self._folder
        # In YAML's double quotes, line ends are written as \n.
        key = public_key.strip().replace("\n", "\\n")
        render(
            deploy / "config.yaml",
            folder / "config.yaml",
            GATEWAY_ADMIN_URL=admin_url,
            POLICY_TOKEN=self._token,
            POLICY_PUBLIC_KEY=key,
            OPA_DATA_DIR=folder / "data",
        )
        render(deploy / "tokens.json", folder / "tokens.json", POLICY_TOKEN_SHA256=hashlib.sha256(self._token.encode()).hexdigest())
        shutil.copy(deploy / "authz.rego", folder / "authz.rego")
