"""The thread that grows the log: more than once a second what waits, if anything does, gets its place, its tiles and a checkpoint."""

from __future__ import annotations

import threading
import time
from functools import partial

import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy.exc import SQLAlchemyError

from gateway.audit.note import Checkpoint, Signer
from gateway.audit.proofs import newest
from gateway.audit.publish import Published, hold_against, publish, read_published
from gateway.audit.sequence import LogStopped, Overtaken, Tree, look, sequence
from gateway.audit.tiles import Tiles
from gateway.audit.witnesses import Witnesses
from gateway.database import Database
from gateway.errors import ExchangeError

log = structlog.get_logger(__name__)

INTERVAL_S = 0.7
MOST_BATCHES = 4
"""Transactions before a checkpoint: what comes faster than that is in the next one."""
size_gauge = Gauge("exchange_audit_log_size", "Entries in the published tree, as this replica last saw it.")
stopped_gauge = Gauge(
    "exchange_audit_log_stopped", "1 if this replica signs nothing more, because what is published and the database disagree."
)
checkpoints = Counter("exchange_audit_checkpoints_total", "Checkpoints that this replica has signed and published.")


class Sequencer:
    """`start` and `stop` it; replicas may each have one. `stopped` says why nothing is signed any more, until the next start."""

    def __init__(
        self, database: Database, tiles: Tiles, signer: Signer, witnesses: Witnesses | None = None, interval_s: float = INTERVAL_S
    ) -> None:
        self.tiles = tiles
        self.signer = signer
        self.witnesses = witnesses
        self.stopped: str | None = None
        self._database = database
        self._interval_s = interval_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What waits stays for whoever comes next."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        if self.witnesses is not None:
            self.witnesses.stop()

    @property
    def state(self) -> str:
        """`ok`, `quorum_missing`: the published checkpoint lacks witnesses, `stopped`: nothing is signed any more."""
        if self.stopped:
            return "stopped"
        checkpoint = newest(self.tiles) if self.witnesses is not None else None
        if self.witnesses is None or checkpoint is None or self.witnesses.policy.is_met(self.witnesses.policy.cosigners(checkpoint)):
            return "ok"
        return "quorum_missing"

    def step(self) -> Checkpoint | None:
        """Sequence and publish what waits; the checkpoint, if one was signed. Raises `LogStopped`, `database_unavailable`, `OSError`."""
        with self._database.reading() as session:
            tree = look(session)
        is_new = tree.more or not self._is_published(tree.size)
        if not is_new and not self._lacks_witnesses():
            return None
        with self.tiles.alone() as alone:
            if not alone:
                return None
            return self._grow() if is_new else self._renew()

    def _is_published(self, size: int) -> bool:
        note = self.tiles.checkpoint()
        lines = note.split(b"\n", 2) if note is not None else [b"", b"0"]
        return lines[1:2] == [str(size).encode()]

    def _lacks_witnesses(self) -> bool:
        checkpoint = newest(self.tiles) if self.witnesses is not None else None
        return self.witnesses is not None and checkpoint is not None and self.witnesses.may_renew(checkpoint)

    def _renew(self) -> Checkpoint | None:
        """Ask those who are missing on the published checkpoint, and add what they say. No other is signed."""
        published = read_published(self.tiles, self.signer.verifier).checkpoint
        if published is None or self.witnesses is None:
            return None
        cosigned = self.witnesses.cosigned(published)
        if cosigned != published:
            self.tiles.publish(cosigned.note)
        return None

    def _grow(self) -> Checkpoint | None:
        published = read_published(self.tiles, self.signer.verifier)
        tree = self._sequence(published)
        if tree.size == published.size:
            return None
        checkpoint = publish(self._database, self.tiles, published, tree, self.signer, self._cosigned)
        checkpoints.inc()
        size_gauge.set(checkpoint.size)
        return checkpoint

    def _cosigned(self, checkpoint: Checkpoint) -> Checkpoint:
        return self.witnesses.cosigned(checkpoint) if self.witnesses is not None else checkpoint

    def _sequence(self, published: Published) -> Tree:
        """The tree with what waits in it. Raises `LogStopped` if it does not go on as what is published, or what waits has gone."""
        size = -1
        for _ in range(MOST_BATCHES):
            try:
                tree = sequence(self._database, published.size, check=partial(hold_against, published))
            except Overtaken:
                break
            if not tree.more or tree.size == size:  # the second: another replica is at it
                return tree
            size = tree.size
        with self._database.reading() as session:
            tree = look(session)
        hold_against(published, tree)
        return tree

    def _run(self) -> None:
        while not self._ending.wait(self._interval_s):
            began = time.monotonic()
            try:
                self.step()
            except LogStopped as error:
                self.stopped = str(error)
                stopped_gauge.set(1)
                log.error("audit_log_stopped", reason=self.stopped)  # noqa: TRY400 - the reason says it all
                return
            except (ExchangeError, SQLAlchemyError, OSError) as error:
                log.warning("audit_log_waits", error=type(error).__name__, seconds=round(time.monotonic() - began, 1))
