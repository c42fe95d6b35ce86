"""Changes: the numbered facts that caches and streams depend on.

A change is noted in the transaction that makes it. Numbers come from a one-row counter that the transaction holds until
it commits, so that they appear in order: a sequence would show 2 before 1 does. Each process applies changes in order,
the one that wrote before its call returns, others by polling; PostgreSQL tells them when (NOTIFY), which saves them the wait.
How it is known that all have applied one is the matter of `gateway/barrier/`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import BigInteger, Engine, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from gateway.database import Base, Database
from gateway.errors import AnotherGatewayIsLive

if TYPE_CHECKING:
    import psycopg

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
CHANNEL = "exchange_changes"
ONLY_ALLOWS = frozenset(
    {
        "client_approved",
        "client_created",
        "consent_given",
        "consent_requested",
        "consent_resumed",
        "consents_expired",  # writes down what time has forbidden already
        "consents_imported",
        "contract_activated",
        "contract_proposed",
        "contract_resumed",
        "contract_signed",
        "dataset_created",
        "notice_written",
        "offer_created",
        "organization_created",
        "signing_key_changed",  # which one signs; all that were published still verify
        "signing_key_published",
        "person_created",
        "registration_token_created",
    },
)
"""The kinds that can only allow something."""
FORBIDS = frozenset(
    {
        "classification_lowered",
        "classification_raised",
        "client_changed",
        "client_revoked",
        "consent_invalidated",
        "consent_paused",
        "consent_refused",
        "consent_revoked",
        "consent_withdrawn",
        "contract_ended",
        "contract_suspended",
        "database_restored",
        "dataset_changed",
        "licence_revoked",
        "organization_changed",
        "person_changed",
        "person_signed_out",
        "policy_activated",
        "refusals_imported",
        "registration_token_revoked",
        "schema_published",
        "signing_key_retired",
        "subject_erased",
        "token_revoked",
    },
)
"""The kinds that forbid something, or may (design, section 6). `gateway/remembered/kinds.py` says of each how it outlives the database."""


class Counter(Base):
    """The one row whose `n` is the number of the last change."""

    __tablename__ = "change_counter"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(BigInteger)


class ChangeRow(Base):
    """A change as it is stored: `object` names what changed, never a person."""

    __tablename__ = "changes"
    n: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    object: Mapped[str]
    forbids: Mapped[bool]


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` such as `contract_ended`, `object` such as `con_...`, a slug, or `<slug> <sref>` for consent."""

    n: int
    kind: str
    object: str
    forbids: bool


def note(session: Session, kind: str, about: str) -> int:
    """Write a change into the caller's transaction and return its number. Holds the counter row until the commit.

    Raises `ValueError` for a kind that is on neither list: whether it forbids is not left to chance.
    """
    if kind not in ONLY_ALLOWS and kind not in FORBIDS:
        raise ValueError(f"{kind} is no kind of change")
    n = session.execute(update(Counter).where(Counter.id == 1).values(n=Counter.n + 1).returning(Counter.n)).scalar_one()
    session.add(ChangeRow(n=n, kind=kind, object=about, forbids=kind not in ONLY_ALLOWS))
    session.info["forbids"] = n if kind not in ONLY_ALLOWS else session.info.get("forbids", 0)
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"NOTIFY {CHANNEL}"))
    return int(n)


def await_again(session: Session, n: int) -> None:
    """Let the commit of this transaction wait for a forbidding change of before, as the one that made it did."""
    session.info["forbids"] = max(n, session.info.get("forbids", 0))


def last(session: Session) -> int:
    """The number of the last change."""
    return int(session.execute(select(Counter.n).where(Counter.id == 1)).scalar_one())


class Changes:
    """What this process has applied. `listen` before `start`; listeners run in the order of the changes, one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Callable[[Session, Sequence[Change]], None]] = []
        self._followers: list[Callable[[int, int], None]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="changes", daemon=True)
        self.applied = 0

    def listen(self, listener: Callable[[Session, Sequence[Change]], None]) -> None:
        """Call `listener(session, changes)` for each group of new changes; it may read, in that session, what they are about."""
        self._listeners.append(listener)

    def follow(self, follower: Callable[[int, int], None]) -> None:
        """Call `follower(n, forbids)` when all listeners have applied what there is up to `n`; `forbids` is the last of it that forbids."""
        self._followers.append(follower)

    def start(self, load: Callable[[Session], None]) -> None:
        """Load all state at one change number, then follow. `load` fills the caches from the session it is given."""
        with self._lock, self._database.reading() as session:
            self.applied = last(session)
            load(session)
        self._database.after_commit.append(lambda _forbids: self.apply())
        self._poller.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._poller.is_alive():
            self._poller.join(timeout=5)

    def apply(self) -> int:
        """Apply what is committed and not yet applied, in order; return the number reached. Idempotent, thread-safe."""
        with self._lock, self._database.reading() as session:
            rows = session.execute(select(ChangeRow).where(ChangeRow.n > self.applied).order_by(ChangeRow.n)).scalars().all()
            if rows:
                changes = [Change(row.n, row.kind, row.object, row.forbids) for row in rows]
                for listener in self._listeners:
                    listener(session, changes)
                self.applied = changes[-1].n
                forbids = max((change.n for change in changes if change.forbids), default=0)
                for follower in self._followers:
                    follower(self.applied, forbids)
        return self.applied

    def _poll(self) -> None:
        hints = Hints(self._database.engine)
        while not self._stopping.is_set():
            try:
                if not hints.wait(POLL_SECONDS):
                    self._stopping.wait(POLL_SECONDS)
                self.apply()
            except Exception as error:  # noqa: BLE001 - the poller must outlive a database that is away
                log.warning("changes_not_applied", error=type(error).__name__)
                self._stopping.wait(POLL_SECONDS)
        hints.close()


class Hints:
    """That there may be a change, as PostgreSQL tells who listens (NOTIFY). A hint: nothing rests on its coming."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float) -> bool:
        """Wait until a change is hinted at, `seconds` at most; False at once where nobody hints. Raises if the connection broke."""
        if self._engine.dialect.name != "postgresql":
            return False
        try:
            if self._connection is None:
                self._connection = self._listen()
            for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                pass
        except Exception:
            self.close()
            raise
        return True

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listen(self) -> psycopg.Connection[Any]:
        pooled = self._engine.raw_connection()
        connection: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment] # the engine's driver is psycopg
        pooled.detach()
        connection.rollback()
        connection.autocommit = True
        connection.execute(f"LISTEN {CHANNEL}")
        return connection


def hold_the_only_seat(database: Database) -> Callable[[], None]:
    """Take the one seat that an SQLite database has, by a lock on a file beside it, and return what gives it back.

    PostgreSQL has a seat for every replica. Raises `AnotherGatewayIsLive`.
    """
    if database.engine.dialect.name == "sqlite":
        return _lock_file(f"{database.engine.url.database}.seat")
    return lambda: None


def _lock_file(path: str) -> Callable[[], None]:
    import fcntl

    handle = open(path, "w")  # noqa: SIM115, PTH123 - held open for the life of the process
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise AnotherGatewayIsLive("another_gateway_is_live") from error
    return handle.close
