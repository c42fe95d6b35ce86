"""Policy revisions: sets of Rego modules, rule sheets and tests, `installed` by setup or drafted by persons (`draft.py`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from joserfc.jwk import ECKey
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.access.archive import digest_of
from gateway.access.bundle import BundleUnreadable, build_bundle
from gateway.access.decision import EngineRefused
from gateway.access.models import PolicyRevision
from gateway.access.vetting import vet
from gateway.audit.record import Entry, record
from gateway.changes import note
from gateway.database import new_id, now
from gateway.errors import SettingsRefused

IN_FORCE = ("activating", "active")
"""The states of a revision that may answer. While one is activating, the one that it replaces is still written down as active."""


def read_files(directory: Path) -> dict[str, str]:
    """The files of a revision: every `.rego` below `directory`, and the rule sheets `rules/<slug>.json`. Raises `SettingsRefused`."""
    paths = [*directory.rglob("*.rego"), *(directory / "rules").glob("*.json")]
    files = {path.relative_to(directory).as_posix(): path.read_text("utf-8") for path in sorted(paths)}
    if not any(name.endswith(".rego") for name in files):
        raise SettingsRefused(f"No Rego below {directory}: name the folder that holds the policies and `rules/<slug>.json`.")
    return files


def install(session: Session, files: Mapping[str, str], *, agreed: Mapping[str, str] | None = None) -> PolicyRevision:
    """Make `files` the active revision: one change and one audit entry in the caller's transaction.

    `agreed`: of one that is made active again after the database went back, who had proposed and who approved it.

    Raises `SettingsRefused` with file and reason if they do not pass the gates of the embedded engine.
    """
    problems = vet(modules_of(files), sheets_of(files))
    if problems:
        raise SettingsRefused("These policies are refused: " + "; ".join(problems))
    agreed = dict(agreed or {})
    at = now()
    revision = PolicyRevision(
        id=new_id("pol"), state="active", files=dict(files), digest=digest_of(files), created_at=at, activated_at=at, installed=not agreed
    )
    revision.proposed_by, revision.approved_by = agreed.get("proposed_by"), agreed.get("approved_by")
    for former in session.scalars(select(PolicyRevision).where(PolicyRevision.state.in_(IN_FORCE))):
        former.state, former.replaces = "retired", None
    session.add(revision)
    revision.change = note(session, "policy_activated", revision.id)
    detail = {"digest": revision.digest, "state": "restored" if agreed else "installed"} | agreed
    record(session, Entry(kind="policy", action="activate", revision=revision.id, change=revision.change, detail=detail))
    return revision


def active(session: Session) -> PolicyRevision | None:
    """The revision that answers: the active one, or the one that is activating in its place; None before `exchange setup`."""
    found = session.scalars(select(PolicyRevision).where(PolicyRevision.state.in_(IN_FORCE))).all()
    return next((each for each in found if each.state == "activating"), found[0] if found else None)


def bundle_of(revision: PolicyRevision, key: ECKey) -> bytes:
    """The signed bundle that the engines are given: modules without tests, and the rule sheets as data.

    Raises `EngineRefused` if the stored files are not those that the digest was taken of when persons agreed on them.
    """
    try:
        same = digest_of(revision.files) == revision.digest
    except BundleUnreadable:
        same = False
    if not same:
        raise EngineRefused(f"the files of {revision.id} are not those of its digest: they were changed in the database")
    return build_bundle(revision.id, modules_of(revision.files), {"exchange": {"rules": sheets_of(revision.files)}}, key)


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
