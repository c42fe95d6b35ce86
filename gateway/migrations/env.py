"""What Alembic runs: the migrations, on the connection that `upgrade` opened."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import TypeDecorator, text

from gateway.migrations import METADATA


def render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """In a migration stands the database's type, not ours: a migration must not change when our code does."""
    return f"sa.{item.impl!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
context.configure(connection=connection, target_metadata=METADATA, render_item=render, render_as_batch=True, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
