"""The statements on the table of leases. Each is what an action of the protocol says, and no more."""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Engine, Select, and_, create_engine, delete, insert, not_, select, update

from gateway.barrier.models import Lease
from gateway.barrier.protocol import Row
from gateway.changes import Counter
from gateway.database import Database, new_id, now

KEPT = timedelta(days=1)
"""How long a fenced lease can be seen; after that it goes when somebody joins."""


class LeaseLost(Exception):
    """This replica holds no lease: it has not joined yet, has left, or was fenced."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A replica as it is written down: `id` is its place, `incarnation` this start of it."""

    id: str
    incarnation: str
    address: str

    @classmethod
    def at(cls, host: str, port: int) -> Seat:
        return cls(f"{socket.gethostname()}:{port}", new_id("run"), f"{host}:{port}")


def lease_of(database: Database, lease_s: float) -> float:
    """Seconds of a lease. That of the one gateway of an SQLite database does not run out: who waits for it dies with it."""
    return math.inf if database.engine.dialect.name == "sqlite" else lease_s


class Leases:
    """The table, by connections of its own: a pool that others have emptied must not end a replica.

    A statement that takes longer than half a lease is given up. Every method raises SQLAlchemy's `DBAPIError`, or `TimeoutError`,
    when the database does not answer; then the statement may or may not have been carried out.
    """

    def __init__(self, database: Database, lease: float) -> None:
        self.lease = lease
        self._alone = database.engine.dialect.name == "sqlite"
        self._joining = database.engine
        self._engine = database.engine if self._alone else _own_engine(database.engine, lease)
        self._reading = self._engine.execution_options(postgresql_readonly=True)

    def close(self) -> None:
        if not self._alone:
            self._engine.dispose()

    def join(self, seat: Seat, applied: int) -> bool:
        """Write the lease if no change is committed beyond `applied`; the counter is locked meanwhile, so none comes in between."""
        with self._joining.begin() as connection:
            committed = connection.execute(select(Counter.n).where(Counter.id == 1).with_for_update()).scalar_one()
            if committed != applied:
                return False
            # Of an SQLite database the seat is held: whoever has a lease there is gone.
            over = Lease.beat >= 0 if self._alone else and_(Lease.fenced, Lease.fenced_at < now() - KEPT)
            connection.execute(delete(Lease).where(over))
            row = {"id": seat.id, "incarnation": seat.incarnation, "address": seat.address, "joined_at": now(), "renewed_at": now()}
            row |= {"lease_s": None if math.isinf(self.lease) else self.lease, "beat": 0, "confirmed": applied, "fenced": False}
            connection.execute(insert(Lease).values(row))
        return True

    def renew(self, seat: Seat, confirmed: int) -> int | None:
        """One beat more; the counter of changes, or None if the lease is fenced or gone."""
        renewal = (
            update(Lease)
            .where(_is(seat), not_(Lease.fenced))
            .values(beat=Lease.beat + 1, confirmed=confirmed, renewed_at=now())
            .returning(select(Counter.n).where(Counter.id == 1).scalar_subquery())
        )
        with self._engine.begin() as connection:
            return connection.execute(renewal).scalar_one_or_none()

    def standing(self) -> Sequence[Row]:
        """The leases that are not fenced."""
        columns = select(Lease.id, Lease.incarnation, Lease.beat, Lease.confirmed, Lease.lease_s)
        with self._reading.begin() as connection:
            found = connection.execute(columns.where(not_(Lease.fenced))).all()
        return [Row(id_, incarnation, beat, confirmed, lease_s or math.inf) for id_, incarnation, beat, confirmed, lease_s in found]

    def fence(self, row: Row, by: str) -> bool:
        """Fence the lease if its beat is still the one that was seen; whether that was done."""
        same = and_(Lease.id == row.id, Lease.incarnation == row.incarnation, Lease.beat == row.beat, not_(Lease.fenced))
        with self._engine.begin() as connection:
            done = connection.execute(update(Lease).where(same).values(fenced=True, fenced_at=now(), fenced_by=by))
        return done.rowcount == 1

    def leave(self, seat: Seat) -> None:
        """Give the lease back. Nothing may be able to leave the replica any more."""
        with self._engine.begin() as connection:
            connection.execute(delete(Lease).where(_is(seat)))


def held_by(seat: Seat) -> Select[int]:
    """A query that finds the lease unless it is fenced, and locks it until the end of the transaction: fencing waits for it."""
    return select(Lease.beat).where(_is(seat), not_(Lease.fenced)).with_for_update(read=True)


def _is(seat: Seat) -> ColumnElement[bool]:
    return and_(Lease.id == seat.id, Lease.incarnation == seat.incarnation)


def _own_engine(engine: Engine, lease: float) -> Engine:
    if math.isinf(lease):
        return create_engine(engine.url, hide_parameters=True, pool_size=3, max_overflow=0, pool_timeout=5)
    patience_ms = int(lease * 500)
    return create_engine(
        engine.url,
        hide_parameters=True,
        pool_size=3,
        max_overflow=0,
        pool_timeout=lease / 2,
        connect_args={
            "connect_timeout": 2,
            "tcp_user_timeout": patience_ms,
            "options": f"-c statement_timeout={patience_ms}",
        },
    )
