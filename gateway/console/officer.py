"""The officer's pages about datasets: what waits for them, and a rule sheet as a table that is edited in place.

Whoever edits the sheet that is in force begins a draft by it; nothing changes for anybody before that is approved and activated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import select

from gateway.access import policies_api
from gateway.access.desk import dataset_facts
from gateway.access.documents import NewRevision
from gateway.access.draft import begin_draft, locked, write_file
from gateway.access.models import PolicyRevision
from gateway.access.revisions import active, sheets_of
from gateway.catalog.directory import Catalog, DatasetView
from gateway.console.forms import document, number_of
from gateway.console.pages import pages_of, told_of
from gateway.console.rule_forms import NEW_RULE, choices, grounds_offered, organizations_named, rule_of, told
from gateway.console.sharing import name_of
from gateway.console.words import Say, language_of
from gateway.contracts.directory import Contracts
from gateway.contracts.visible import visible
from gateway.database import Database, Reading
from gateway.errors import ExchangeError
from gateway.http import etag, require_match
from gateway.identity.browser_sessions import Fields, PageAllow
from gateway.identity.principal import Principal

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, PageAllow("policies:read", roles=policies_api.OVERSEERS)]
Writer = Annotated[Principal, PageAllow("policies:write", roles=("privacy_officer",), back="/officer")]
SheetWriter = Annotated[Principal, PageAllow("policies:write", roles=("privacy_officer",), back="/officer/datasets/{slug}")]
Draft = Annotated[str | None, Query(pattern=r"^pol_[0-9a-z]{26}$")]
Edited = Annotated[str | None, Query(pattern=r"^(new|sheet|[0-9]{1,3})$")]

A_PAGE = 50
SEE_OTHER = 303
NO_STORE = {"Cache-Control": "no-store"}
NO_SHEET: Mapping[str, Any] = {"legal_ground": "consent", "legal_reference": "", "default": "deny", "rules": []}


def may_write(caller: Principal) -> bool:
    """True if the caller changes policy; others who see these pages look on."""
    return "policies:write" in caller.scopes and "privacy_officer" in caller.roles


@router.get("/officer")
def show_desk(request: Request, caller: Reader, session: Reading, catalog: Catalog) -> HTMLResponse:
    """What waits, every dataset's rule sheet, and the newest revisions."""
    state = request.app.state
    in_force = active(session)
    sheets = sheets_of(in_force.files) if in_force else {}
    newest = session.scalars(select(PolicyRevision).order_by(PolicyRevision.id.desc()).limit(A_PAGE)).all()
    return pages_of(request).show(
        request,
        "officer.html",
        todos=policies_api.list_todos(caller, state.desk, session).items,
        datasets=[(dataset, dataset.slug in sheets) for dataset in sorted(catalog.all(), key=lambda each: each.slug)],
        revisions=newest,
        may_write=may_write(caller),
        form_token=state.browsers.form_token(caller),
    )


@router.post("/officer/drafts")
def make_draft(request: Request, caller: Writer, fields: Fields) -> RedirectResponse:
    """A draft: a copy of what is in force, or of the revision that the form names."""
    database: Database = request.app.state.database
    wanted = document(NewRevision, title=fields.get("title", "").strip() or None, based_on=fields.get("based_on") or None)
    with database.transaction() as session:
        made = policies_api.create_revision(wanted, caller, Response(), session)
    return RedirectResponse(f"/officer/revisions/{made.id}", SEE_OTHER, NO_STORE)


@router.get("/officer/datasets/{slug}")
def show_sheet(
    slug: str,
    request: Request,
    caller: Reader,
    session: Reading,
    catalog: Catalog,
    contracts: Contracts,
    draft: Draft = None,
    edit: Edited = None,
) -> HTMLResponse:
    """The rule sheet that is in force, or that of a draft; `edit` names the row that is a form."""
    return _show(request, session, visible(slug, caller, catalog, contracts), caller, draft, edit)


@router.post("/officer/datasets/{slug}")
def change_sheet(
    slug: str, request: Request, caller: SheetWriter, fields: Fields, session: Reading, catalog: Catalog, contracts: Contracts
) -> Response:
    """Writes one row, takes it out, or writes what stands above the rows. Without a draft one is begun."""
    dataset = visible(slug, caller, catalog, contracts)
    draft, row = fields.get("draft") or None, fields.get("row", "")
    try:
        revision_id = _change(request, dataset, caller, fields)
    except ExchangeError as error:
        rule = rule_of(fields, NEW_RULE) if "consent" in fields else None
        return _show(request, session, dataset, caller, draft, row or None, problem=error, entered=rule)
    return RedirectResponse(f"/officer/datasets/{slug}?draft={revision_id}", SEE_OTHER, NO_STORE)


def _change(request: Request, dataset: DatasetView, caller: Principal, fields: Mapping[str, str]) -> str:
    """The draft that it was written to. Raises `stale`, `illegal_state`, `Invalid`."""
    database: Database = request.app.state.database
    say = Say(language_of(request))
    path = f"rules/{dataset.slug}.json"
    with database.transaction() as session:
        if named := fields.get("draft"):
            revision = locked(session, named, "edit")
            require_match(etag(number_of(fields.get("version", "")) or 0), revision.version)
        else:
            in_force = active(session)
            if in_force is None or in_force.id != fields.get("in_force"):
                raise ExchangeError("stale", "Another revision became active meanwhile.")
            revision = begin_draft(session, say("sheet.draft_title", dataset=dataset.slug), None, caller)
        sheet = json.loads(revision.files[path]) if path in revision.files else {"dataset": dataset.slug, **NO_SHEET}
        _edit(sheet, fields)
        write_file(session, revision, path, json.dumps(sheet, indent=2, ensure_ascii=False) + "\n", caller)
        return revision.id


def _edit(sheet: dict[str, Any], fields: Mapping[str, str]) -> None:
    rules, row = list(sheet["rules"]), fields.get("row", "")
    if row == "sheet":
        for member in ("legal_ground", "legal_reference", "assessment"):
            sheet[member] = fields.get(member, "").strip()
        if not sheet["assessment"]:
            del sheet["assessment"]
        return
    if row == "new":
        rules.append(rule_of(fields, NEW_RULE))
    elif (place := number_of(row)) is not None and place < len(rules):
        before = rules.pop(place)
        if fields.get("do") != "remove":
            rules.insert(place, rule_of(fields, before))
    else:
        raise ExchangeError("stale", "There is no such rule any more.")
    sheet["rules"] = rules


def _show(
    request: Request,
    session: Reading,
    dataset: DatasetView,
    caller: Principal,
    draft: str | None,
    edit: str | None,
    *,
    problem: ExchangeError | None = None,
    entered: Mapping[str, Any] | None = None,
) -> HTMLResponse:
    state = request.app.state
    say = Say(language_of(request))
    in_force = active(session)
    revision = session.get(PolicyRevision, draft) if draft else in_force
    if revision is None or in_force is None:
        raise ExchangeError("not_found")
    found = sheets_of(revision.files).get(dataset.slug)
    sheet: Mapping[str, Any] = found if isinstance(found, dict) else {"dataset": dataset.slug, **NO_SHEET}
    rules = list(sheet["rules"])
    names = organizations_named(rules, partial(name_of, state.identity))
    place = number_of(edit or "")
    edited = entered or (NEW_RULE if edit == "new" else rules[place] if place is not None and place < len(rules) else None)
    may = may_write(caller) and (draft is None or revision.state == "draft")
    return pages_of(request).show(
        request,
        "sheet.html",
        problem.status if problem else 200,
        back=f"/officer/datasets/{dataset.slug}" + (f"?draft={draft}" if draft else ""),
        dataset=dataset,
        revision=revision,
        draft=draft,
        in_force=in_force.id,
        sheet=sheet,
        missing=found is None,
        rows=[told(rule, sheet, names, dataset, say) for rule in rules],
        edit=(edit or ("sheet" if found is None else None)) if may else None,
        form=choices(edited, sheet, names, dataset, say) if edited is not None else None,
        grounds=grounds_offered(sheet["legal_ground"], say),
        unnamed=[todo for todo in policies_api.list_todos(caller, state.desk, session).items if todo.dataset == dataset.slug],
        lacks=dataset_facts(session, state.catalog)[dataset.slug].lacks if dataset.needs_signatures else [],
        may_write=may,
        form_token=state.browsers.form_token(caller),
        problem=told_of(problem, request) if problem else None,
    )
