"""The writer of the stream plane's entries: durable before the first byte leaves, many in one transaction.

One thread takes all that waits and commits it at once; what comes meanwhile is made ready for the next transaction. So a lone
entry costs one commit and no waiting, and under load a commit is shared by hundreds.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfPatience
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from queue import SimpleQueue
from typing import Any

import structlog
from sqlalchemy import Select

from gateway.audit.published import Published
from gateway.audit.record import SALTS, Entry, Receipt, forget_how_far, next_instant, row_of, seal
from gateway.audit.store import Store, connect
from gateway.database import Database, now, rfc3339
from gateway.errors import ExchangeError

log = structlog.get_logger(__name__)

MOST_WAITING = 20_000
"""Entries that may wait; one more is refused at once."""
MOST_AT_ONCE = 1_000
"""Entries of one transaction."""
LOOKS_AGAIN_S = 0.002
"""While the database works on a batch, what comes is sealed for the next one this often."""
PATIENCE_S = 10.0
"""How long a caller waits for a database that does not answer. The entry may still be written then; its effect does not happen."""


class Outdated(Exception):
    """A grant that was judged before a change behind which a barrier closes: nothing is written, and it is to be judged again."""


@dataclass(slots=True, eq=False)
class _Waiter:
    entry: Entry | None
    """None: only to be told when all that was taken before it is written."""
    published: Sequence[Published]
    future: asyncio.Future[Any] | Future[Any]
    loop: asyncio.AbstractEventLoop | None = None
    patience: asyncio.TimerHandle | None = None
    """Runs out where the future belongs to an event loop."""

    def is_before(self, change: int) -> bool:
        """True of a grant to deliver that knows less than this change. What was published is appended by now, whatever changes."""
        entry = self.entry
        if entry is None or entry.kind != "release" or entry.ranges is None:
            return False
        return bool(entry.ranges.grant) and (entry.change or 0) < change


_Outcome = tuple[_Waiter, Receipt | Exception | None]


@dataclass(slots=True)
class _Batch:
    """What one transaction writes, and what is to be told of it then."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    outcomes: list[_Outcome] = field(default_factory=list)

    @property
    def waiters(self) -> list[_Waiter]:
        return [waiter for waiter, _ in self.outcomes]

    def add(self, waiters: Sequence[_Waiter], at: datetime, barred: int) -> None:
        """Seal their entries at this instant, but for those that are given up, and grants from before the change `barred`."""
        shown, drawn = rfc3339(at), secrets.token_bytes(SALTS * len(waiters))
        for place, waiter in enumerate(waiters):
            outcome: Receipt | Exception | None = None
            if waiter.future.done():
                continue
            if waiter.is_before(barred):
                outcome = Outdated()
            elif waiter.entry is not None:
                try:
                    sealed = seal(waiter.entry, shown, drawn[place * SALTS : (place + 1) * SALTS])
                except TypeError as error:  # one entry that cannot be written down does not take the others with it
                    outcome = error
                else:
                    self.rows.append(row_of(waiter.entry, at, sealed))
                    self.spans.extend(span._asdict() for span in waiter.published)
                    outcome = Receipt(sealed.leaf_hash)
            self.outcomes.append((waiter, outcome))


class AuditWriter:
    """Group commit. `start` before use; after `stop`, which writes what waits, every entry is refused.

    `guard` is asked for a query before each transaction: nothing is written unless it finds a row within it. It may raise.
    """

    def __init__(self, database: Database, guard: Callable[[], Select[Any] | None] = lambda: None) -> None:
        self._engine = database.engine
        self._guard = guard
        # The event loop only puts: with a lock it would now and then wait for a thread that holds it and has lost its turn.
        self._waiting: SimpleQueue[_Waiter | None] = SimpleQueue()
        self._taken: list[_Waiter] = []
        self._open = False
        self._barred = 0
        self._newest: datetime | None = None
        self._store: Store | None = None
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        self._open = True
        self._thread.start()

    @property
    def alive(self) -> bool:
        """True while entries are taken and written."""
        return self._open and self._thread.is_alive()

    def stop(self) -> None:
        self._open = False
        self._waiting.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=PATIENCE_S)

    def release(self, entry: Entry, published: Sequence[Published] = ()) -> asyncio.Future[Receipt]:
        """Append the entry, and the positions that it names. To be awaited: the future is done when both are durable.

        Raises `audit_unavailable`, and `Outdated` for a grant from before a change that is barred.
        """
        return self._wait_for(entry, published)

    async def bar(self, before: int) -> None:
        """Take no grant from before this change any more, and return when none is being written. Raises `audit_unavailable`.

        So the log has, after the entry that a barrier has passed, no release that carries a number below it.
        """
        self._barred = max(self._barred, before)
        await self._wait_for(None)

    def _wait_for(self, entry: Entry | None, published: Sequence[Published] = ()) -> asyncio.Future[Any]:
        """A plain future and timer: a coroutine with its timeout would cost each entry more than all the rest of the event loop's part."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        waiter = _Waiter(entry, published, future, loop)
        self._submit(waiter)
        waiter.patience = loop.call_later(PATIENCE_S, _give_up, future)
        return future

    def append(self, entry: Entry, published: Sequence[Published] = ()) -> Receipt:
        """`release` for a worker thread that holds no transaction open: SQLite has one writer. Raises `audit_unavailable`."""
        future: Future[Receipt] = Future()
        self._submit(_Waiter(entry, published, future))
        try:
            return future.result(timeout=PATIENCE_S)
        except OutOfPatience as error:
            raise _unavailable() from error

    def _submit(self, waiter: _Waiter) -> None:
        if not self._open or self._waiting.qsize() >= MOST_WAITING:
            raise _unavailable()
        self._waiting.put(waiter)

    def _run(self) -> None:
        """One batch is with the database, and meanwhile the next is made ready of what waits."""
        under_way = _Batch()
        while under_way.outcomes or self._wait():
            ready = _Batch()
            if under_way.outcomes:
                self._finish(under_way, ready)
            self._add_to(ready)
            if ready.outcomes:
                self._send(ready)
            under_way = ready
        self._disconnect()

    def _wait(self) -> bool:
        """Until something waits; False once the writer is stopped and all is written."""
        while self._open or not self._waiting.empty():
            first = self._waiting.get()
            if first is not None:
                self._taken.append(first)
                return True
        return False

    def _add_to(self, batch: _Batch) -> None:
        """Seal what waits, oldest first, until the batch is full."""
        taken, self._taken = self._taken, []
        for _ in range(min(self._waiting.qsize(), MOST_AT_ONCE - len(batch.outcomes) - len(taken))):
            waiter = self._waiting.get()
            if waiter is not None:
                taken.append(waiter)
        if not taken:
            return
        try:
            if self._newest is None:  # asked for once: from then on this process knows what it has written itself
                with self._engine.connect() as connection:
                    self._newest = next_instant(connection)
            self._newest = max(now(), self._newest)
            batch.add(taken, self._newest, self._barred)
        except Exception as error:  # noqa: BLE001 - see `_fail`
            self._fail(error, taken)

    def _send(self, batch: _Batch) -> None:
        try:
            if self._store is None:
                self._store = connect(self._engine)
            self._store.send(batch.rows, batch.spans, self._guard())
        except Exception as error:  # noqa: BLE001 - see `_fail`
            self._fail(error, batch.waiters)
            self._disconnect()
            batch.outcomes.clear()

    def _finish(self, batch: _Batch, following: _Batch) -> None:
        try:
            assert self._store is not None  # that by which it was sent
            while not self._store.is_answered(LOOKS_AGAIN_S):
                self._add_to(following)
            self._store.finish()
        except Exception as error:  # noqa: BLE001 - see `_fail`
            self._fail(error, batch.waiters)
            self._disconnect()
            self._newest = None  # how far the log is may be why
            forget_how_far(self._engine)
        else:
            _tell(batch.outcomes)

    def _fail(self, error: Exception, waiters: Sequence[_Waiter]) -> None:
        """Whatever it is, the callers learn that nothing is durable, and the thread lives on."""
        log.warning("audit_unavailable", error=type(error).__name__, entries=len(waiters))
        _tell([(waiter, _unavailable()) for waiter in waiters])

    def _disconnect(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()


def _tell(outcomes: Sequence[_Outcome]) -> None:
    """Answer every waiter; those of an event loop all by one call into it."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for waiter, outcome in outcomes:
        if waiter.loop is None:
            _answer([(waiter, outcome)])
        else:
            by_loop.setdefault(waiter.loop, []).append((waiter, outcome))
    for loop, answers in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_answer, answers)


def _answer(outcomes: Sequence[_Outcome]) -> None:
    for waiter, outcome in outcomes:
        if waiter.patience is not None:
            waiter.patience.cancel()
        if waiter.future.done():
            continue
        if isinstance(outcome, Exception):
            waiter.future.set_exception(outcome)
        else:
            waiter.future.set_result(outcome)


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(_unavailable())


def _unavailable() -> ExchangeError:
    return ExchangeError("audit_unavailable", headers={"Retry-After": "2"})
