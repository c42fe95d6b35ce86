from __future__ import annotations

from tests.databases import database, session

__all__ = ["database", "session"]
