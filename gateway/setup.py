"""Set up: the database, the keys, the first policy revision, the operating organization and its first client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import not_, select

from consent.sealing import KeyLost, give_up, rewrap
from gateway.access.revisions import active, install, read_files
from gateway.audit.note import log_identity
from gateway.audit.record import Entry, record
from gateway.barrier.leases import Leases, lease_of
from gateway.barrier.models import Lease
from gateway.barrier.wait import Barrier
from gateway.changes import hold_the_only_seat
from gateway.database import Database, now
from gateway.errors import AnotherGatewayIsLive, SettingsRefused
from gateway.identity import people, signing_keys
from gateway.identity.local_accounts import LocalAccounts
from gateway.identity.models import Organization
from gateway.identity.setup import found
from gateway.key_encryption import KeyEncryptionKeys, rewrap_key_file
from gateway.keys import AUDIT_LOG, Wrap, add_key_encryption_key, complete_keys, encrypt_private_keys, read_keys, write_keys
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
    """Make a new exchange.

    Raises `SettingsRefused` if there is a key file or an organization already, if the policies are refused, or if the key-encryption key
    that is set does not come.
    """
    files = read_files(policies or POLICIES)
    upgrade(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    try:
        with database.reading() as session:
            if active(session) is not None:
                raise SettingsRefused("This exchange is set up already. `exchange setup --policies DIR` alone activates other policies.")
        keys = write_keys(settings.resolved_key_file, _encryption(settings))
        with database.transaction() as session:
            operating, client, secret = found(session, keys, organization)
            revision = install(session, files)
            return SetUp(operating.id, client.id, secret, revision.id)
    except KeyLost as error:
        raise SettingsRefused(f"{error}: see EXCHANGE_KEK_COMMAND.") from error
    finally:
        database.close()


def migrate(settings: Settings) -> list[str]:
    """Bring database and key file to this version, and return the uses of the keys that were added; without a key file, the database.

    Where the key-encryption key is elsewhere, private keys that stand in clear in the key file are encrypted.

    Raises `SettingsRefused` for a key file that has lost a key, or that others can read, and if the key-encryption key does not come.
    """
    upgrade(settings.resolved_database_url)
    path, wrap = settings.resolved_key_file, _encryption(settings)
    if not path.exists():
        return []
    try:
        added = complete_keys(path, wrap)
        if wrap is not None:
            encrypt_private_keys(path, wrap)
    except KeyLost as error:
        raise SettingsRefused(f"{error}: see EXCHANGE_KEK_COMMAND.") from error
    return added


def _encryption(settings: Settings) -> Wrap | None:
    """What encrypts the private keys of the key file, if the key for that stands elsewhere: beside them it would keep nobody out."""
    keks = KeyEncryptionKeys.of(settings)
    return keks.wrap if keks.elsewhere else None


def activate_policies(settings: Settings, policies: Path) -> str:
    """Make the policies of this folder active on an exchange that is set up, and return the revision's identifier.

    One change and one audit entry; when this returns, nothing that they forbid can leave any gateway that runs.
    On one that is set up that is for development: in production two persons agree on a policy. Raises `SettingsRefused`, `barrier_pending`.
    """
    if not settings.development:
        raise SettingsRefused(
            "In production `setup --policies` makes the first revision alone. Two persons change policy: see `exchange policy --help`."
        )
    files = read_files(policies)
    read_keys(settings.resolved_key_file)
    database = Database(settings.resolved_database_url)
    try:
        with _waiting_for_replicas(settings, database), database.transaction() as session:
            if active(session) is None:
                raise SettingsRefused("This exchange is not set up yet: run `exchange setup --organization NAME --issuer URL`.")
            return install(session, files).id
    finally:
        database.close()


@contextmanager
def _waiting_for_replicas(settings: Settings, database: Database) -> Iterator[None]:
    """Within: a transaction that forbids something returns when the gateways that run have confirmed it."""
    try:
        hold_the_only_seat(database)()
        nobody_runs = database.engine.dialect.name == "sqlite"
    except AnotherGatewayIsLive:
        nobody_runs = False
    if nobody_runs:
        yield
        return

    def note_down(entry: Entry) -> None:
        with database.transaction() as session:
            record(session, entry)

    leases = Leases(database, lease_of(database, settings.lease_s))
    barrier = Barrier(leases, note_down, by="exchange setup")
    barrier.start()
    database.after_commit.append(barrier.wait_for_last)
    try:
        yield
    finally:
        barrier.stop()
        leases.close()


def make_local_account(settings: Settings, username: str, password: str, name: str | None, roles: Sequence[str]) -> str:
    """A local account and its person, with these roles for the operating organization: the person's identifier.

    Raises `SettingsRefused` where local accounts are off, `Invalid`, `already_exists`, `AnotherGatewayIsLive` on SQLite.
    """
    if not settings.with_local_accounts:
        raise SettingsRefused("Local accounts are off here: set EXCHANGE_LOCAL_ACCOUNTS=true, or use an OpenID provider.")
    keys = read_keys(settings.resolved_key_file)
    database = Database(settings.resolved_database_url)
    try:
        with _waiting_for_replicas(settings, database), database.transaction() as session:
            operating = session.scalar(select(Organization).where(Organization.operates))
            if operating is None:
                raise SettingsRefused("This exchange is not set up yet: run `exchange setup --organization NAME --issuer URL`.")
            person = LocalAccounts(settings, keys, database).make(session, username, password, name)
            if roles:
                people.give_roles(session, None, person, operating, roles)
            return person.id
    finally:
        database.close()


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did: the key-encryption key that wraps now, subjects' keys wrapped anew, and those that no key opens."""

    key: str
    rewrapped: int
    lost: int


def rotate_kek(settings: Settings) -> Rotated:
    """Wrap every subject's key, and the exchange's own private keys, under the current key-encryption key; in a key file a new one is made
    first. What is sealed stays as it is.

    Raises `SettingsRefused` where no key-encryption key is to be had, `database_unavailable`; what is wrapped anew by then stays so.
    """
    read_keys(settings.resolved_key_file)
    keks = KeyEncryptionKeys.of(settings)
    database = Database(settings.resolved_database_url)
    try:
        if not keks.elsewhere:
            add_key_encryption_key(settings.resolved_key_file)
        kek_id, _ = keks.current()
        rewrapped, lost = _rewrap_all(database, keks)
        with database.transaction() as session:
            own = signing_keys.rewrap(session, keks)
        filed = rewrap_key_file(settings.resolved_key_file, keks)
        rewrapped, lost = rewrapped + own[0] + filed[0], lost + own[1] + filed[1]
        detail = {"key_id": kek_id, "rewrapped": str(rewrapped), "lost": str(lost)}
        with database.transaction() as session:
            record(session, Entry(kind="key", action="rotated", detail=detail))
        return Rotated(kek_id, rewrapped, lost)
    except KeyLost as error:
        raise SettingsRefused(f"{error}: bring it back first.") from error
    finally:
        database.close()


def give_up_lost(settings: Settings) -> int:
    """Delete each subject's key that no key-encryption key opens, and return how many: what they have sealed is withheld from then on.

    Raises `SettingsRefused` where a gateway is at work, which may have opened them before, or no key-encryption key is to be had;
    `AnotherGatewayIsLive`, `database_unavailable`.
    """
    read_keys(settings.resolved_key_file)
    keks = KeyEncryptionKeys.of(settings)
    database = Database(settings.resolved_database_url)
    try:
        keks.current()  # without any, all would be given up
        with _while_nobody_is_at_work(database):
            return _give_up_all(database, keks)
    except KeyLost as error:
        raise SettingsRefused(f"{error}: bring it back first.") from error
    finally:
        database.close()


def _give_up_all(database: Database, keks: KeyEncryptionKeys) -> int:
    lost = 0
    after: str | None = None
    while True:
        with database.transaction() as session:
            part = give_up(session, keks, after)
            if part.last is None:
                record(session, Entry(kind="key", action="given_up", detail={"lost": str(lost)}))
        lost, after = lost + part.lost, part.last
        if after is None:
            return lost


@contextmanager
def _while_nobody_is_at_work(database: Database) -> Iterator[None]:
    """Raises `SettingsRefused`, on SQLite `AnotherGatewayIsLive`, where a gateway is."""
    leave = hold_the_only_seat(database)
    try:
        if database.engine.dialect.name != "sqlite":  # where a lease runs out
            with database.reading() as session:
                leases = session.scalars(select(Lease).where(not_(Lease.fenced))).all()
            if live := sorted({lease.id for lease in leases if lease.state(now()) == "live"}):
                raise SettingsRefused(f"Stop every gateway first; at work: {', '.join(live)}.")
        yield
    finally:
        leave()


def _rewrap_all(database: Database, keks: KeyEncryptionKeys) -> tuple[int, int]:
    """How many keys were wrapped anew, and how many no key opens. Until none is left: a gateway may make one under the old key."""
    rewrapped = 0
    while True:
        done = lost = 0
        after: str | None = None
        while True:
            with database.transaction() as session:
                part = rewrap(session, keks, after)
            done, lost, after = done + part.done, lost + part.lost, part.last
            if after is None:
                break
        rewrapped += done
        if not done:
            return rewrapped, lost


def rotate_signing_key(settings: Settings, use: signing_keys.Use, *, at_once: bool = False) -> str:
    """Publish a new signing key, which follows the present one in its time, and return its identifier.

    `at_once`: it signs now, and when this returns no gateway accepts what was signed before.

    Raises `SettingsRefused` where no key-encryption key is to be had, `illegal_state`, `database_unavailable`.
    """
    keys = read_keys(settings.resolved_key_file)
    keks = KeyEncryptionKeys.of(settings)
    database = Database(settings.resolved_database_url)
    try:
        if at_once:
            with _waiting_for_replicas(settings, database), database.transaction() as session:
                return signing_keys.replace_at_once(session, keys, keks, use)
        with database.transaction() as session:
            return signing_keys.rotate(session, keys, keks, use, jwks_cache_s=settings.jwks_cache_s)
    except KeyLost as error:
        raise SettingsRefused(f"{error}: bring it back first.") from error
    finally:
        database.close()


def list_signing_keys(settings: Settings) -> list[dict[str, str | None]]:
    """Each signing key: identifier, use, state, where its private half is, and when that state ends; of the audit log its verifier key.

    Raises `database_unavailable`.
    """
    keys = read_keys(settings.resolved_key_file)
    database = Database(settings.resolved_database_url)
    try:
        with database.reading() as session:
            rotating = signing_keys.shown(session, keys)
    finally:
        database.close()
    _, vkey = log_identity(keys, settings)
    return [*rotating, {"use": AUDIT_LOG, "key_id": vkey, "state": "signing", "due_at": None, "kept": signing_keys.kept(keys, AUDIT_LOG)}]
