"""The two sets of engines: what a gateway under test is pointed at (design section 7)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.engines.kafka import Kafka
from tests.engines.opa import Opa
from tests.engines.postgres import Postgres

Kind = Literal["embedded", "real"]
KINDS: tuple[Kind, ...] = ("embedded", "real")


@dataclass(frozen=True, slots=True)
class RealEngines:
    """The servers, running, and the program of the one that each gateway has for itself."""

    kafka: Kafka
    postgres: Postgres
    opa_binary: Path


@dataclass(slots=True)
class Engines:
    """What a gateway needs of its surroundings: `EXCHANGE_DATABASE_URL`, `_LOG_URL`, `_POLICY_URL`. One a session.

    `real` is None in the embedded set. Gateways share the broker: give each its own prefix of topics.
    """

    folder: Path
    real: RealEngines | None = None
    _made: int = 0
    _templates: dict[Callable[[str], None], str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Engines({self.kind})"

    @property
    def kind(self) -> Kind:
        return "embedded" if self.real is None else "real"

    @property
    def log_url(self) -> str:
        """`kafka://127.0.0.1:port`, or nothing: then a gateway keeps its log in its data directory."""
        return "" if self.real is None else self.real.kafka.url

    def database_url(self, migrate: Callable[[str], None] | None = None) -> str:
        """The SQLAlchemy URL of a new database of this call's own: empty, or as `migrate(url)` makes one.

        `migrate` is called once a session; later databases are copies. It must have closed its connections when it returns.
        """
        if migrate is None:
            return self._new_database(None)
        if migrate not in self._templates:
            template = self._new_database(None)
            migrate(template)
            self._templates[migrate] = template
        return self._new_database(self._templates[migrate])

    def opa(self, *, admin_url: str, token: str, public_key: str) -> Opa | None:
        """An OPA for the gateway with that admin address, to be started and closed by the caller; None in the embedded set."""
        if self.real is None:
            return None
        return Opa(self.real.opa_binary, admin_url=admin_url, token=token, public_key=public_key)

    def _new_database(self, template: str | None) -> str:
        if self.real is not None:
            postgres = self.real.postgres
            return postgres.url(postgres.create_database(template.rpartition("/")[2] if template else "template1"))
        self._made += 1
        path = self.folder / f"{self._made}" / "exchange.db"
        path.parent.mkdir(parents=True)
        if template:
            shutil.copy(template.removeprefix("sqlite:///"), path)
        return f"sqlite:///{path}"
