"""Policy revisions: sets of Rego modules, rule sheets and tests. Until officers write them, every one is `installed` by setup."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
from joserfc.jwk import ECKey
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.access.bundle import build_bundle, content_digest
from gateway.access.decision import PolicyEngine, PolicyUnavailable
from gateway.access.models import PolicyRevision
from gateway.access.vetting import vet
from gateway.audit.record import Entry, record
from gateway.changes import Change, note
from gateway.database import Database, new_id, now
from gateway.errors import SettingsRefused

log = structlog.get_logger(__name__)

RETRY_S = 0.5


def read_files(directory: Path) -> dict[str, str]:
    """The files of a revision: every `.rego` below `directory`, and the rule sheets `rules/<slug>.json`. Raises `SettingsRefused`."""
    paths = [*directory.rglob("*.rego"), *(directory / "rules").glob("*.json")]
    files = {path.relative_to(directory).as_posix(): path.read_text("utf-8") for path in sorted(paths)}
    if not any(name.endswith(".rego") for name in files):
        raise SettingsRefused(f"No Rego below {directory}: name the folder that holds the policies and `rules/<slug>.json`.")
    return files


def install(session: Session, files: Mapping[str, str], *, actor: str | None = None) -> PolicyRevision:
    """Make `files` the active revision: one change and one audit entry in the caller's transaction.

    Raises `SettingsRefused` with file and reason if they do not pass the gates of the embedded engine.
    """
    problems = vet(modules_of(files), sheets_of(files))
    if problems:
        raise SettingsRefused("These policies are refused: " + "; ".join(problems))
    revision = PolicyRevision(
        id=new_id("pol"), state="active", files=dict(files), digest=digest_of(files), created_at=now(), activated_at=now()
    )
    for former in session.execute(select(PolicyRevision).where(PolicyRevision.state == "active")).scalars():
        former.state = "retired"
    session.add(revision)
    change = note(session, "policy_activated", revision.id)
    detail = {"digest": revision.digest, "bundle_digest": bundle_digest(revision), "state": "installed"}
    record(session, Entry(kind="policy", action="activate", actor=actor, revision=revision.id, change=change, detail=detail))
    return revision


def active(session: Session) -> PolicyRevision | None:
    """The active revision; None before `exchange setup`."""
    return session.execute(select(PolicyRevision).where(PolicyRevision.state == "active")).scalars().one_or_none()


def bundle_of(revision: PolicyRevision, key: ECKey) -> bytes:
    """The signed bundle that the engines are given: modules without tests, and the rule sheets as data."""
    return build_bundle(revision.id, modules_of(revision.files), {"exchange": {"rules": sheets_of(revision.files)}}, key)


def bundle_digest(revision: PolicyRevision) -> str:
    """SHA-256, in hex, of what the bundle holds: the audit entry of its activation has it, and who replays a decision compares it."""
    return content_digest(revision.id, modules_of(revision.files), {"exchange": {"rules": sheets_of(revision.files)}})


def modules_of(files: Mapping[str, str]) -> dict[str, str]:
    """The Rego modules of a revision that decide; its tests stay with it, and out of the engines."""
    return {path: text for path, text in files.items() if path.endswith(".rego") and not path.endswith("_test.rego")}


def sheets_of(files: Mapping[str, str]) -> dict[str, object]:
    """Rule sheets by slug. Raises `SettingsRefused` for one that is no JSON or stands under another name than its dataset's."""
    sheets: dict[str, object] = {}
    for path, text in files.items():
        if not path.startswith("rules/"):
            continue
        try:
            sheet = json.loads(text)
        except ValueError as error:
            raise SettingsRefused(f"{path} is not JSON: {error}") from error
        slug = path.removeprefix("rules/").removesuffix(".json")
        if not isinstance(sheet, dict) or sheet.get("dataset") != slug:
            raise SettingsRefused(f"{path} must be the rule sheet of the dataset {slug}: its member `dataset` says something else.")
        sheets[slug] = sheet
    return sheets


def digest_of(files: Mapping[str, str]) -> str:
    """SHA-256, in hex, over the files in order of their paths, each part with its length before it."""
    hashed = hashlib.sha256()
    for path in sorted(files):
        for part in (path.encode(), files[path].encode()):
            hashed.update(len(part).to_bytes(8, "big") + part)
    return hashed.hexdigest()


class Activation:
    """Keeps the engine on the active revision. Between a change and the engine's confirmation every question is denied."""

    def __init__(self, engine: PolicyEngine, database: Database, key: ECKey) -> None:
        self._engine = engine
        self._database = database
        self._key = key
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._worker = threading.Thread(target=self._follow, name="policy-activation", daemon=True)
        self.revision = ""

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
            self._engine.suspend()
            self._wanted.set()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if not self._stopping.is_set() and not self._activate():
                time.sleep(RETRY_S)
                self._wanted.set()

    def _activate(self) -> bool:
        try:
            with self._database.reading() as session:
                revision = active(session)
            if revision is not None:
                self._engine.activate(revision.id, bundle_of(revision, self._key))
                self.revision = revision.id
                log.info("policy_active", revision=revision.id)
        except PolicyUnavailable as error:
            log.warning("policy_not_active_yet", reason=str(error))
            return False
        except Exception as error:  # noqa: BLE001 - the worker must outlive a database that is away
            log.warning("policy_not_active_yet", reason=type(error).__name__)
            return False
        return True
