"""The tables and how they came to be: Alembic, configured here, so that it works from an installed package too.

A new migration: change the models, then `python -m gateway.migrations "what it does"` writes the file to look over.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData

import consent.erasure  # noqa: F401 - as those below
import gateway.access.models
import gateway.audit.models
import gateway.barrier.models
import gateway.catalog.models
import gateway.changes
import gateway.contracts.models
import gateway.idempotency
import gateway.identity.models
import gateway.identity.people_models
import gateway.identity.signing_keys
import gateway.notices.models
import gateway.subjects.models  # noqa: F401 - each puts its tables into Base.metadata
from consent.models import Base as ConsentBase
from gateway.database import Base, open_database

METADATA: tuple[MetaData, ...] = (Base.metadata, ConsentBase.metadata)
"""All tables of the database."""


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database to the newest schema, or that of `revision`. Idempotent; each migration is one transaction on PostgreSQL.

    On PostgreSQL it waits at most a few seconds for a lock, rather than queue in front of everybody (`lock_timeout`).
    """
    engine = open_database(database_url)
    try:
        with engine.connect() as connection:
            command.upgrade(config(connection=connection), revision)
    finally:
        engine.dispose()


def is_current(engine: Engine) -> bool:
    """True if the database has the newest schema."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == newest()


def newest() -> str | None:
    """The newest migration's identifier."""
    return ScriptDirectory.from_config(config()).get_current_head()


def config(**attributes: object) -> Config:
    """Alembic's configuration; `connection` among the attributes is the one that `env.py` runs on."""
    made = Config(attributes=dict(attributes))
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.set_main_option("file_template", "v%%(rev)s_%%(slug)s")
    return made
