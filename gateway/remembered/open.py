"""Open the place that remembers, as the settings have it."""

from __future__ import annotations

from sqlalchemy import select

from gateway.database import Database
from gateway.errors import SettingsRefused
from gateway.identity.models import Organization
from gateway.keys import Keys
from gateway.remembered.place import FILE, Lines, Place, RememberedFile, RememberedTopic
from gateway.settings import Settings
from gateway.streams.log import EventLog


def open_place(settings: Settings, keys: Keys, database: Database, event_log: EventLog) -> Place:
    """A topic beside the events where the log is a server, else a file in the data folder. Opens nothing yet.

    `event_log` is started and stopped by the caller.
    """
    lines = Lines(keys.secret("remembered"))
    if settings.log_url:
        return RememberedTopic(event_log, lines, lambda: _exchange(database))
    return RememberedFile(settings.data_dir / FILE, lines)


def _exchange(database: Database) -> str:
    """The identifier of the organization that operates this exchange. Raises `SettingsRefused`, `database_unavailable`."""
    with database.reading() as session:
        found = session.scalar(select(Organization.id).where(Organization.operates))
    if found is None:
        raise SettingsRefused("The database is of no exchange that was set up: see EXCHANGE_DATABASE_URL, or run `exchange setup`.")
    return found
