"""The database: engine, sessions, identifiers, and the transaction of a request.

SQLite runs with WAL, `synchronous=FULL` and `BEGIN IMMEDIATE`, so that a transaction that reads and then writes
cannot be overtaken; PostgreSQL by psycopg 3, at READ COMMITTED, with row locks where a rule needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Connection, DateTime, Engine, MetaData, TypeDecorator, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError
from ulid import ULID

from gateway.errors import ExchangeError

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Moment(TypeDecorator[datetime]):
    """A time in UTC. SQLite forgets the zone; this puts it back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without zone")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """The tables of the gateway; `consent` keeps its own."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: Moment}  # noqa: RUF012 - SQLAlchemy reads it as it stands


def now() -> datetime:
    """This instant, in UTC, to the millisecond: what is stored is what is shown."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """`2026-11-23T12:00:00.123Z`; without the fraction where it is zero."""
    moment = moment.astimezone(UTC)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def new_id(prefix: str) -> str:
    """An identifier that sorts by time: prefix and ULID in lower case, for example `con_01j...`."""
    return f"{prefix}_{str(ULID()).lower()}"


def open_database(url: str) -> Engine:
    """An engine for this URL; its errors show no values. SQLite: the folder is made, and every connection is set up durable."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            url, hide_parameters=True, connect_args={"timeout": 10, "check_same_thread": False}, pool_size=16, max_overflow=16
        )
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        url,
        hide_parameters=True,
        pool_size=16,
        max_overflow=16,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 3, "tcp_user_timeout": 5000},
    )


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is ours, see above
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("postgresql_readonly") else "BEGIN IMMEDIATE")


class Database:
    """One engine and its sessions.

    Each of `after_commit` is called, in their order, once a transaction that noted a change has committed, with the number of the last
    change in it that forbids something, 0 if none does. Whoever forbids, wherever, so waits for what follows from it.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_database(url)
        self._writing = sessionmaker(self.engine, expire_on_commit=False)
        self._reading = sessionmaker(self.engine.execution_options(postgresql_readonly=True), expire_on_commit=False)
        # SQLite has no statement that does all, so there it is a transaction.
        at_once = {"isolation_level": "AUTOCOMMIT"} if self.engine.dialect.name == "postgresql" else {}
        self._at_once = sessionmaker(self.engine.execution_options(**at_once), expire_on_commit=False)
        self.after_commit: list[Callable[[int], object]] = []

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits at the end and rolls back on any error. Raises `database_unavailable`, `stale`, and after the commit
        what `after_commit` raises: `barrier_pending`.
        """
        with _unavailable(), self._writing() as session:
            yield session
            session.commit()
            forbids = session.info.get("forbids")
        if forbids is not None:
            for react in self.after_commit:
                react(forbids)

    @contextmanager
    def one_statement(self) -> Iterator[Session]:
        """A session for one statement, which is a transaction by itself and needs neither beginning nor end; no change is noted in it.

        Raises `database_unavailable`.
        """
        with _unavailable(), self._at_once() as session:
            yield session
            session.commit()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads, at one state of the database, and waits for no writer. Raises `database_unavailable`."""
        with _unavailable(), self._reading() as session:
            yield session

    def ping(self) -> None:
        """Return if the database answers, else raise `database_unavailable`."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except StaleDataError as error:
        raise ExchangeError("stale", "Someone else changed it at the same moment.") from error
    except (OperationalError, PoolTimeout) as error:
        raise ExchangeError("database_unavailable", headers={"Retry-After": "2"}) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise ExchangeError("database_unavailable", headers={"Retry-After": "2"}) from error
        raise


def _transaction(request: Request) -> Iterator[Session]:
    with request.app.state.database.transaction() as session:
        yield session


# `scope="function"`: the commit happens before the answer is sent, so that a commit that fails is an error and not a 201.
Transaction = Annotated[Session, Depends(_transaction, scope="function")]


def _reading(request: Request) -> Iterator[Session]:
    with request.app.state.database.reading() as session:
        yield session


Reading = Annotated[Session, Depends(_reading, scope="function")]
