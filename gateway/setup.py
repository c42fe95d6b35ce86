"""Set up: the database, the keys, the first policy revision, the operating organization and its first client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.access.revisions import active, install, read_files
from gateway.database import Database
from gateway.errors import SettingsRefused
from gateway.identity.setup import found
from gateway.keys import read_keys, write_keys
from gateway.migrations import upgrade
from gateway.resources import POLICIES
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class SetUp:
    """What setup made. `client_secret` is shown once and kept nowhere."""

    organization_id: str
    client_id: str
    client_secret: str
    revision: str

    def __repr__(self) -> str:
        return f"SetUp(organization_id={self.organization_id!r}, client_id={self.client_id!r})"


def set_up(settings: Settings, organization: str, policies: Path | None = None) -> SetUp:
    """Make a new exchange. Raises `SettingsRefused` if there is a key file or an organization already, or if the policies are refused."""
    files = read_files(policies or POLICIES)
    upgrade(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    try:
        with database.reading() as session:
            if active(session) is not None:
                raise SettingsRefused("This exchange is set up already. `exchange setup --policies DIR` alone activates other policies.")
        keys = write_keys(settings.resolved_key_file)
        with database.transaction() as session:
            operating, client, secret = found(session, keys, organization)
            revision = install(session, files)
            return SetUp(operating.id, client.id, secret, revision.id)
    finally:
        database.close()


def activate_policies(settings: Settings, policies: Path) -> str:
    """Make the policies of this folder active on an exchange that is set up, and return the revision's identifier.

    One change and one audit entry; a gateway that runs follows within a quarter of a second. Raises `SettingsRefused`.
    """
    files = read_files(policies)
    read_keys(settings.resolved_key_file)
    database = Database(settings.resolved_database_url)
    try:
        with database.transaction() as session:
            if active(session) is None:
                raise SettingsRefused("This exchange is not set up yet: run `exchange setup --organization NAME --issuer URL`.")
            return install(session, files).id
    finally:
        database.close()
