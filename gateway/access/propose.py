"""Propose: a draft that passes everything becomes what a second person is asked to agree on, and is never edited again."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.access.activate import entry
from gateway.access.candidate.vet import Candidate, Vetted, vet_candidate
from gateway.access.decision import PolicyUnavailable
from gateway.access.desk import Desk, dataset_facts, recorded_facts
from gateway.access.draft import locked
from gateway.access.models import PolicyRevision
from gateway.access.states import require
from gateway.access.vetting import Finding
from gateway.audit.record import record
from gateway.database import now
from gateway.errors import ExchangeError, Invalid
from gateway.identity.principal import Principal


def propose(desk: Desk, revision_id: str, caller: Principal) -> PolicyRevision:
    """Vet the draft as it stands, and propose it.

    Raises `not_found`, `illegal_state`, `vetting_unavailable`, `stale` if it was edited meanwhile, and `policy_refused` with all findings.
    """
    with desk.database.reading() as session:
        draft = session.get(PolicyRevision, revision_id)
        if draft is None:
            raise ExchangeError("not_found")
        require(draft, "propose")
    vetted = vet_revision(desk, draft)
    if vetted.findings:
        raise refusal(vetted.findings)
    with desk.database.transaction() as session:
        revision = locked(session, revision_id, "propose")
        if revision.version != draft.version:
            raise ExchangeError("stale", "It was edited while it was vetted.")
        revision.state, revision.proposed_by, revision.proposed_at = "proposed", caller.actor, now()
        revision.vetting = vetted.as_json()
        session.flush()
        record(session, entry(revision, "propose", caller))
    return revision


def vet_revision(desk: Desk, revision: PolicyRevision) -> Vetted:
    """What the vetting finds in the files of this revision. Raises `vetting_unavailable`."""
    with desk.database.reading() as session:
        datasets, recorded = dataset_facts(session, desk.catalog), recorded_facts(session)
    try:
        return vet_candidate(Candidate(revision.files, datasets, recorded, desk.opa))
    except PolicyUnavailable as error:
        raise ExchangeError("vetting_unavailable", str(error)) from error


def refusal(findings: Sequence[Finding]) -> Invalid:
    """The problem that tells all findings: each with file, line and what to do."""
    told = [
        {
            "pointer": f"/files/{each.file.replace('~', '~0').replace('/', '~1')}",
            "detail": each.message,
            "file": each.file,
            "line": each.line,
            "hint": each.hint,
        }
        for each in findings
    ]
    first = f"{findings[0]}" + (f" And {len(findings) - 1} more." if len(findings) > 1 else "")
    return Invalid(told, "policy_refused", first)
