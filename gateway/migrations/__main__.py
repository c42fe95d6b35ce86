"""`python -m gateway.migrations "what it does"`: write a new migration from the difference between the models and the migrations."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command

from gateway.database import open_database
from gateway.migrations import config, newest, upgrade

with tempfile.TemporaryDirectory() as folder:
    url = f"sqlite:///{Path(folder) / 'exchange.db'}"
    upgrade(url)
    engine = open_database(url)
    with engine.connect() as connection:
        number = f"{int(newest() or 0) + 1:04}"
        command.revision(config(connection=connection), sys.argv[1], autogenerate=True, rev_id=number)
    engine.dispose()
