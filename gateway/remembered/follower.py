"""The follower: carries every change, after its commit, to the place that remembers, until that has acknowledged it.

No call waits for it: with the place away a withdrawal still works, and the lag is told. What was read stays in memory meanwhile, so
that a database which fails over to a standby that was behind is told of it by who saw the changes. Several replicas follow: whoever
commits a change carries it at once, the others what is not there a second later.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import anyio.to_thread
import structlog
from prometheus_client import Gauge
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.changes import Change, ChangeRow, last
from gateway.database import Database
from gateway.errors import ExchangeError
from gateway.remembered.kinds import remembered
from gateway.remembered.place import Place, PlaceAway, Remembered
from gateway.remembered.standing import DatabaseWentBack, Standing, reached, require_whole

log = structlog.get_logger(__name__)

EVERY_S, LAST_S = 1.0, 2.0
AT_ONCE = 200
"""Changes that are read at once."""
MOST_HELD = 5_000
"""Entries that wait in memory for the place; more wait in the database."""

lag = Gauge("exchange_remembered_lag", "Changes that are committed and not yet remembered outside the database.")
age = Gauge("exchange_remembered_lag_seconds", "Seconds since nothing was waiting to be remembered outside the database.")


class Follower:
    """One a process, on the event loop. `whole_again` is called when a restoration has ended what `went_back` was told of."""

    def __init__(
        self,
        database: Database,
        place: Place,
        *,
        went_back: Callable[[], object] = lambda: None,
        whole_again: Callable[[], object] = lambda: None,
    ) -> None:
        self.place = place
        self.standing = Standing.UNKNOWN
        self._database = database
        self._went_back = went_back
        self._whole_again = whole_again
        self._read = 0
        self._last: Change | None = None
        self._held: deque[Remembered] = deque()
        self._committed = 0
        self._reached = 0
        self._even_at = time.monotonic()
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._stopping = False
        self._away = False
        self._loop: asyncio.AbstractEventLoop | None = None
        lag.set_function(lambda: max(0, self._committed - self._reached))
        age.set_function(lambda: 0.0 if self._reached >= self._committed else time.monotonic() - self._even_at)

    def committed(self, _forbids: int) -> None:
        """This process has committed a change; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def check(self) -> None:
        """Hold the database against the place. Raises `DatabaseWentBack`, `PlaceAway`, `database_unavailable`."""
        tail = await self.place.tail()
        await anyio.to_thread.run_sync(self._begin_after, tail)
        self.standing = Standing.WHOLE

    async def run(self) -> None:
        """Follow until `stop`."""
        self._loop = asyncio.get_running_loop()
        own = False
        while not self._ended.is_set():
            last_time = self._stopping
            await self._try(own=own)
            if last_time:
                self._ended.set()
                return
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._wake.wait()
                own = True
            except TimeoutError:
                own = False
            self._wake.clear()

    async def _try(self, *, own: bool) -> None:
        try:
            await self._step(own=own)
            self._away = False
        except DatabaseWentBack as error:
            self._stand_back(str(error))
        except (PlaceAway, ExchangeError) as error:
            if not self._away:
                log.warning("not_remembered_yet", place=self.place.where, error=str(error))
            self._away = True
        except Exception:
            log.exception("not_remembered_yet", place=self.place.where)

    async def stop(self) -> None:
        """Carry what is left, and end; after two seconds in any case: the next start carries the rest."""
        self._stopping = True
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._ended.wait()

    def begin_at(self, n: int) -> None:
        """Carry what was committed after change `n`, whatever is remembered up to there. Blocks. Raises `database_unavailable`."""
        with self._database.reading() as session:
            self._reached = self._read = n
            self._last = self._row(session, n)

    async def carry(self) -> None:
        """Carry all that there is. Raises `PlaceAway`, `DatabaseWentBack`, `database_unavailable`."""
        while True:
            await anyio.to_thread.run_sync(self._collect)
            if not self._held:
                return
            await self._write()

    async def _step(self, *, own: bool) -> None:
        if self.standing is Standing.WENT_BACK:
            await self._wait_for_restoration()
            return
        if self.standing is Standing.UNKNOWN:
            await self.check()
        await anyio.to_thread.run_sync(self._collect)
        if self._held and not own:
            self._drop_remembered(await self.place.tail())
        if self._held:
            await self.carry()

    def _begin_after(self, tail: list[Remembered]) -> None:
        with self._database.reading() as session:
            require_whole(session, self.place.where, tail)
            self._reached = self._read = reached(tail)
            self._last = self._row(session, self._read)

    def _collect(self) -> None:
        """Read and describe what was committed since, as long as there is room."""
        with self._database.reading() as session:
            self._require_same(session)
            self._committed = last(session)
            while len(self._held) < MOST_HELD:
                rows = session.scalars(select(ChangeRow).where(ChangeRow.n > self._read).order_by(ChangeRow.n).limit(AT_ONCE)).all()
                if not rows:
                    return
                changes = [Change(row.n, row.kind, row.object, row.forbids) for row in rows]
                self._held.extend(remembered(session, changes))
                session.expunge_all()
                self._read, self._last = changes[-1].n, changes[-1]

    def _require_same(self, session: Session) -> None:
        """Raises `DatabaseWentBack` if what was read last is not there any more."""
        if self._last is not None and self._row(session, self._last.n) != self._last:
            raise DatabaseWentBack("this process", 1, self._last.n)

    @staticmethod
    def _row(session: Session, n: int) -> Change | None:
        row = session.get(ChangeRow, n)
        return None if row is None else Change(row.n, row.kind, row.object, row.forbids)

    async def _write(self) -> None:
        entries = list(self._held)
        await self.place.append(entries)
        for _ in entries:
            self._held.popleft()
        self._reached = max(self._reached, reached(entries))
        self._even_at = time.monotonic()

    def _drop_remembered(self, tail: list[Remembered]) -> None:
        """Forget what another replica has carried already."""
        self._reached = max(self._reached, reached(tail))
        while self._held and self._held[0].n <= self._reached:
            self._held.popleft()

    def _stand_back(self, reason: str) -> None:
        if self.standing is not Standing.WENT_BACK:
            log.error("database_went_back", reason=reason)
            self.standing = Standing.WENT_BACK
            self._went_back()

    async def _wait_for_restoration(self) -> None:
        if self._held:  # what this process saw, and the database has lost
            await self._write()
        tail = await self.place.tail()
        try:
            await anyio.to_thread.run_sync(self._begin_after, tail)
        except DatabaseWentBack:
            return
        log.warning("database_whole_again")
        self._whole_again()
