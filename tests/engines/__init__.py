"""The real engines, started for tests and development from the configuration in `deploy/`."""

from __future__ import annotations

from tests.engines.kafka import Kafka
from tests.engines.opa import Opa
from tests.engines.openid import OpenIdProvider
from tests.engines.postgres import Postgres
from tests.engines.process import EngineFailed
from tests.engines.sets import Engines

__all__ = ["EngineFailed", "Engines", "Kafka", "Opa", "OpenIdProvider", "Postgres"]
