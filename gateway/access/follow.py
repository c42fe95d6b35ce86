"""Follow: keep this process's engine on the revision that is in force, and tell the others what it makes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from joserfc.jwk import ECKey
from sqlalchemy.orm import Session

from gateway.access.activate import SETTLED_S, Verdict, report, settle
from gateway.access.decision import EngineRefused, PolicyEngine, PolicyUnavailable
from gateway.access.revisions import active, bundle_of
from gateway.changes import Change
from gateway.database import Database

log = structlog.get_logger(__name__)

RETRY_S = 0.5
LOOK_S = 5.0
"""How often it is looked whether somebody has left an activation unfinished."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What the engine is to answer by, and the change that said so."""

    revision: str
    change: int
    activating: bool
    bundle: bytes


class Activation:
    """Between a change and the engine's confirmation every question waits for a second, and is denied then.

    `key` opens the key that signs bundles; `instance` names this replica; `told` is called with the revision that the engine has, None
    while it has none.
    """

    def __init__(
        self, engine: PolicyEngine, database: Database, key: Callable[[], ECKey], instance: str, told: Callable[[str | None], None]
    ) -> None:
        self._engine = engine
        self._database = database
        self._key = key
        self._instance = instance
        self._told = told
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._worker = threading.Thread(target=self._follow, name="policy-activation", daemon=True)
        self._changed = False
        self._unfinished: tuple[int, float] = (0, 0.0)
        self.revision = ""
        self.left_behind = False
        """The policy has changed and this replica's engine has not taken the change in its time: it is not ready."""

    def start(self) -> None:
        """Activate what is active, in the background: a gateway starts without its OPA, and says no until it is there."""
        self._wanted.set()
        self._worker.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wanted.set()
        self._worker.join(timeout=5)

    def on_changes(self, _session: Session, changes: Sequence[Change]) -> None:
        """After a change of policy the engine no longer answers for the old revision."""
        if any(change.kind == "policy_activated" for change in changes):
            self.revision = ""
            self._changed = True
            self._told(None)
            self._engine.suspend()
            self._wanted.set()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            wanted = self._wanted.wait(LOOK_S)
            self._wanted.clear()
            if self._stopping.is_set():
                return
            if not wanted:
                self._finish_what_others_left()
            elif not self._activate():
                self._stopping.wait(RETRY_S)
                self._wanted.set()

    def _activate(self) -> bool:
        target = None
        try:
            target = self._target()
            if target is not None:
                self._engine.activate(target.revision, target.bundle)
                self._has(target)
        except PolicyUnavailable as error:
            log.warning("policy_not_active_yet", reason=str(error))
            self._lacks(target, error)
            return False
        except Exception as error:  # noqa: BLE001 - the worker must outlive a database that is away
            log.warning("policy_not_active_yet", reason=type(error).__name__)
            return False
        return True

    def _target(self) -> _Target | None:
        with self._database.reading() as session:
            found = active(session)
        if found is None:
            return None
        change, activating = found.change or 0, found.state == "activating"
        try:
            return _Target(found.id, change, activating, bundle_of(found, self._key()))
        except EngineRefused as refused:
            self._lacks(_Target(found.id, change, activating, b""), refused)
            raise

    def _has(self, target: _Target) -> None:
        if target.activating:  # first, for all questions that wait come as soon as they are told
            self._report(target, "has", "")
        self.revision, self.left_behind, self._changed = target.revision, False, False
        self._told(target.revision)
        log.info("policy_active", revision=target.revision)

    def _lacks(self, target: _Target | None, error: PolicyUnavailable) -> None:
        if self._wanted.is_set() or target is None:
            return  # another revision is in force by now
        self.left_behind = self._changed
        if target.activating:
            self._report(target, "refused" if isinstance(error, EngineRefused) else "silent", str(error))

    def _report(self, target: _Target, state: str, says: str) -> None:
        with self._database.transaction() as session:
            report(session, self._instance, target.revision, target.change, state, says)

    def _finish_what_others_left(self) -> None:
        """Whoever activates settles it; if that replica ends meanwhile, another one does. By how long it is seen here, not by a clock."""
        try:
            with self._database.reading() as session:
                found = active(session)
            if found is None or found.state != "activating" or found.change is None:
                return
            change, since = self._unfinished
            if change != found.change:
                self._unfinished = (found.change, time.monotonic())
            elif time.monotonic() - since > SETTLED_S:
                verdict = settle(self._database, found.id, found.change, in_time=False)
                log.warning("activation_finished_for_another", revision=found.id, active=verdict is Verdict.ACTIVE)
        except Exception as error:  # noqa: BLE001 - it is looked again
            log.warning("activation_not_finished", reason=type(error).__name__)
