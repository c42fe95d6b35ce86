"""Draft: a copy of the active revision, edited file by file, until it is proposed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from sqlalchemy.orm import Session

from gateway.access.activate import entry
from gateway.access.archive import digest_of
from gateway.access.models import PolicyRevision
from gateway.access.revisions import active
from gateway.access.states import Move, require
from gateway.access.vetting import MAX_MODULE_BYTES, MAX_MODULES, vet_sheets
from gateway.audit.record import record
from gateway.database import new_id, now
from gateway.errors import ExchangeError, Invalid
from gateway.identity.principal import Principal

PATH = re.compile(r"rules/[a-z0-9][a-z0-9-]{0,99}\.json|(?:[a-z][a-z0-9_]{0,49}/){1,4}[a-z][a-z0-9_]{0,99}\.rego")
"""Rule sheets, and modules in folders: `rules/<slug>.json`, `checks/purpose/purpose.rego`."""


def begin_draft(session: Session, title: str | None, based_on: str | None, caller: Principal) -> PolicyRevision:
    """A new draft, a copy of the active revision or of the one that is named. Raises `not_found`."""
    origin = session.get(PolicyRevision, based_on) if based_on is not None else active(session)
    if origin is None:
        raise ExchangeError("not_found", "There is no such revision to begin from.")
    revision = PolicyRevision(
        id=new_id("pol"),
        state="draft",
        files=dict(origin.files),
        digest=origin.digest,
        created_at=now(),
        title=title,
        based_on=origin.id,
        created_by=caller.actor,
        installed=False,
    )
    session.add(revision)
    session.flush()
    record(session, entry(revision, "draft", caller, {"based_on": origin.id}))
    return revision


def write_file(session: Session, revision: PolicyRevision, path: str, text: str, caller: Principal) -> None:
    """Put this text at this path of a draft. Raises `illegal_state`, and `Invalid` for a sheet that does not fit its schema."""
    require(revision, "edit")
    _check(revision, path, text)
    _replace(session, revision, {**revision.files, path: text}, caller, "write", path)


def remove_file(session: Session, revision: PolicyRevision, path: str, caller: Principal) -> None:
    """Raises `illegal_state`, `not_found`."""
    require(revision, "edit")
    if path not in revision.files:
        raise ExchangeError("not_found")
    _replace(session, revision, {name: text for name, text in revision.files.items() if name != path}, caller, "remove", path)


def retire(session: Session, revision: PolicyRevision, caller: Principal) -> None:
    """Put a revision away that is not to become active. Raises `illegal_state`."""
    require(revision, "retire")
    revision.state = "retired"
    record(session, entry(revision, "retire", caller))


def locked(session: Session, revision_id: str, move: Move | None = None) -> PolicyRevision:
    """The revision, held until the transaction ends. Raises `not_found`, and `illegal_state` if it cannot make this move now."""
    revision = session.get(PolicyRevision, revision_id, with_for_update=True)
    if revision is None:
        raise ExchangeError("not_found")
    if move is not None:
        require(revision, move)
    return revision


def _replace(session: Session, revision: PolicyRevision, files: Mapping[str, str], caller: Principal, act: str, path: str) -> None:
    revision.files, revision.digest = dict(files), digest_of(files)
    session.flush()
    record(session, entry(revision, act, caller, {"path": path}))


def _check(revision: PolicyRevision, path: str, text: str) -> None:
    if not PATH.fullmatch(path):
        raise Invalid([{"pointer": "path: path", "detail": "must be rules/<slug>.json, or a .rego file in a folder that is its package"}])
    if path not in revision.files and len(revision.files) >= 2 * MAX_MODULES:
        raise Invalid([{"pointer": "", "detail": f"a revision has at most {2 * MAX_MODULES} files"}])
    if len(text.encode("utf-8")) > MAX_MODULE_BYTES:
        raise Invalid([{"pointer": "", "detail": f"is larger than {MAX_MODULE_BYTES} bytes"}])
    if path.endswith(".json"):
        _check_sheet(path, text)


def _check_sheet(path: str, text: str) -> None:
    try:
        sheet = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid([{"pointer": "", "detail": "is not JSON"}]) from error
    slug = path.removeprefix("rules/").removesuffix(".json")
    findings = vet_sheets({slug: sheet})
    if findings:
        raise Invalid([{"pointer": finding.pointer, "detail": finding.message} for finding in findings[:20]])
