"""Changes: the numbered facts that caches and streams depend on.

A change is noted in the transaction that makes it. Numbers come from a one-row counter that the transaction holds until
it commits, so that they appear in order: a sequence would show 2 before 1 does. Each process applies changes in order,
the one that wrote before its call returns, others by polling.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import BigInteger, Connection, Engine, select, text, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column

from gateway.database import Base, Database
from gateway.errors import ExchangeError

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
ONLY_ALLOWS = frozenset(
    {
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
    },
)
"""The kinds that can only allow something; every other kind forbids (design, section 6)."""


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
    """Write a change into the caller's transaction and return its number. Holds the counter row until the commit."""
    n = session.execute(update(Counter).where(Counter.id == 1).values(n=Counter.n + 1).returning(Counter.n)).scalar_one()
    session.add(ChangeRow(n=n, kind=kind, object=about, forbids=kind not in ONLY_ALLOWS))
    session.info["changed"] = True
    return int(n)


def last(session: Session) -> int:
    """The number of the last change."""
    return int(session.execute(select(Counter.n).where(Counter.id == 1)).scalar_one())


class Changes:
    """What this process has applied. `listen` before `start`; listeners run in the order of the changes, one at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: list[Callable[[Session, Sequence[Change]], None]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="changes", daemon=True)
        self.applied = 0

    def listen(self, listener: Callable[[Session, Sequence[Change]], None]) -> None:
        """Call `listener(session, changes)` for each group of new changes; it may read, in that session, what they are about."""
        self._listeners.append(listener)

    def start(self, load: Callable[[Session], None]) -> None:
        """Load all state at one change number, then follow. `load` fills the caches from the session it is given."""
        with self._lock, self._database.reading() as session:
            self.applied = last(session)
            load(session)
        self._database.after_commit.append(self.apply)
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
        return self.applied

    def _poll(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            try:
                self.apply()
            except Exception as error:  # noqa: BLE001 - the poller must outlive a database that is away
                log.warning("changes_not_applied", error=type(error).__name__)


class AnotherGatewayIsLive(RuntimeError):
    """A second gateway on one database: refused until the barrier between replicas stands."""


def hold_the_only_seat(database: Database, lost: Callable[[], object] | None = None) -> Callable[[], None]:
    """Take the one seat that a gateway has at this database and return what gives it back.

    SQLite: a lock on a file beside the database. PostgreSQL: a session-level advisory lock on a connection of its own, which the end
    of the session ends; with `lost` it is taken again as soon as the database is back, and `lost` is called, in a thread, if another
    gateway was quicker. Raises `AnotherGatewayIsLive`, `database_unavailable`.
    """
    if database.engine.dialect.name == "sqlite":
        return _lock_file(f"{database.engine.url.database}.seat")
    seat = _Seat(database.engine)
    try:
        seat.take()
    except OperationalError as error:
        raise ExchangeError("database_unavailable", headers={"Retry-After": "2"}) from error
    if lost is not None:
        threading.Thread(target=seat.watch, args=(lost,), name="seat", daemon=True).start()
    return seat.leave


class _Seat:
    """An advisory lock of PostgreSQL, and the session that holds it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Connection | None = None
        self._lock = threading.Lock()
        self._left = threading.Event()

    def take(self) -> None:
        session = self._engine.connect()
        try:
            if not session.execute(text("SELECT pg_try_advisory_lock(hashtext('civic-exchange-gateway'))")).scalar_one():
                raise AnotherGatewayIsLive("another_gateway_is_live")
            session.rollback()
        except BaseException:
            session.close()
            raise
        self._session = session

    def leave(self) -> None:
        """End the session, and with it the lock: a pooled connection would keep both."""
        self._left.set()
        with self._lock:
            if self._session is not None:
                self._session.detach()
                self._session.close()
                self._session = None

    def watch(self, lost: Callable[[], object]) -> None:
        """Look now and then whether the session lives, until `leave`."""
        while not self._left.wait(POLL_SECONDS):
            try:
                with self._lock:
                    self._look()
            except AnotherGatewayIsLive:
                lost()
                return
            except SQLAlchemyError as error:  # the database is away: nobody else can sit down either
                log.warning("seat_not_held", error=type(error).__name__)

    def _look(self) -> None:
        if self._left.is_set():
            return
        if self._session is None:
            self.take()
            return
        try:
            self._session.execute(text("SELECT 1"))
            self._session.rollback()
        except SQLAlchemyError:
            self._session.invalidate()
            self._session.close()
            self._session = None
            raise


def _lock_file(path: str) -> Callable[[], None]:
    import fcntl

    handle = open(path, "w")  # noqa: SIM115, PTH123 - held open for the life of the process
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise AnotherGatewayIsLive("another_gateway_is_live") from error
    return handle.close
