"""One SQLite file, used from an event loop: one thread writes, with group commit, and a few threads read.

Everything that waits for the writer goes into one transaction, so that a commit to disk is paid once for many pieces of work.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gateway.streams.log import LogUnavailable

_READERS = 4
_LARGEST_GROUP = 500

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _Job:
    """`work` runs in the writer's thread and may be rolled back and run again; `committed` runs on the event loop, after the commit."""

    work: Callable[[sqlite3.Connection], Any]
    committed: Callable[[Any], Any]
    answer: asyncio.Future[Any]


class SQLiteFile:
    """The file at `path` with `schema`; it never grows beyond `max_bytes`, if given. One process at a time may write to it."""

    def __init__(self, path: Path, schema: str, *, max_bytes: int | None) -> None:
        self._path = path
        self._schema = schema
        self._max_bytes = max_bytes
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._own = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._open = False

    async def open(self) -> None:
        """Open the file, or make it. Raises `LogUnavailable`."""
        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._connect)
        except sqlite3.Error as error:
            raise LogUnavailable(str(error)) from error
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="log-reader")
        self._thread = threading.Thread(target=self._write_for_ever, name="log-writer", daemon=True)
        self._thread.start()
        self._open = True

    async def close(self) -> None:
        """Do what waits, and close."""
        if not self._open:
            return
        self._open = False
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in [self._db, *self._reading]:
            connection.close()

    async def write(self, work: Callable[[sqlite3.Connection], T], committed: Callable[[T], R]) -> R:
        """Do `work` in a transaction, and when it is on disk `committed(result)`, even if the caller has gone by then.

        Raises `LogUnavailable` if SQLite refuses (its disk is full, say), and what `work` raises; then nothing of it was done.
        """
        if not self._open:
            raise LogUnavailable("the log is closed")
        answer: asyncio.Future[R] = self._loop.create_future()
        self._jobs.put(_Job(work, committed, answer))
        return await answer

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` on a connection that only reads. Raises `LogUnavailable`."""
        if not self._open:
            raise LogUnavailable("the log is closed")
        try:
            return await self._loop.run_in_executor(self._readers, self._on_own_connection, work)
        except sqlite3.Error as error:
            raise LogUnavailable(str(error)) from error

    # In threads.

    def _connect(self) -> None:
        self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if self._max_bytes is not None:
            page_bytes = self._db.execute("PRAGMA page_size").fetchone()[0]
            self._db.execute(f"PRAGMA max_page_count = {self._max_bytes // page_bytes}")
        self._db.executescript(self._schema)

    def _on_own_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if not hasattr(self._own, "db"):
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            self._own.db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            self._reading.append(self._own.db)
        return work(self._own.db)

    def _write_for_ever(self) -> None:
        closing = False
        while not closing:
            group = [self._jobs.get()]
            while len(group) < _LARGEST_GROUP and not self._jobs.empty():
                group.append(self._jobs.get())
            closing = None in group
            jobs = [job for job in group if job is not None]
            results = self._commit(jobs)
            if any(isinstance(result, Exception) for result in results):  # each by itself, so that only what cannot be done fails
                results = [self._commit([job])[0] for job in jobs]
            self._loop.call_soon_threadsafe(_answer, jobs, results)

    def _commit(self, jobs: list[_Job]) -> list[Any]:
        """The results of all jobs in one transaction; if it cannot be committed, the reason in the place of each."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            results = [job.work(self._db) for job in jobs]
            self._db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - the caller's own errors go back to the caller
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            return [LogUnavailable(str(error)) if isinstance(error, sqlite3.Error) else error] * len(jobs)
        return results


def _answer(jobs: list[_Job], results: list[Any]) -> None:
    """On the event loop, in the order of the transaction."""
    for job, result in zip(jobs, results, strict=True):
        failed = isinstance(result, Exception)
        value = None if failed else job.committed(result)
        if job.answer.done():  # nobody waits any more
            continue
        if failed:
            job.answer.set_exception(result)
        else:
            job.answer.set_result(value)
