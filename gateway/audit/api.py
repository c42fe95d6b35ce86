"""The auditor's search. An auditor finds every entry, an organization those in which it is actor, provider or consumer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Select, or_, select

from gateway.audit.models import AuditEntry
from gateway.database import Reading, rfc3339
from gateway.errors import ExchangeError
from gateway.http import Limit, Time
from gateway.identity.principal import Allow, Principal
from gateway.keys import b64, unb64

router = APIRouter(prefix="/v1/audit", tags=["audit"])

AUDITOR = "auditor"
Caller = Annotated[Principal, Allow("audit:read")]
Name = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
Number = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="The `next` of the page before.")]
LeafHash = Annotated[
    str,
    Path(pattern=r"^([0-9a-f]{64}|[A-Za-z0-9_-]{43})$", description="The hash in `Audit-Entry`, as base64url without padding or as hex."),
]
SHOWN: dict[str, Any] = {
    "index": None,
    "at": "2026-11-23T12:00:00.250Z",
    "kind": "decision",
    "entry": {
        "action": "receive",
        "actor": "cli_01kaqv8f7e9n3p5r7t9w1y3a5c",
        "at": "2026-11-23T12:00:00.250Z",
        "contract": "con_01kaqv8f7e9n3p5r7t9w1y3a5c",
        "dataset": "port-credit-footfall",
        "decision": "dec_01kaqv8f7e9n3p5r7t9w1y3a5c",
        "detail": {"answer": "allow"},
        "kind": "decision",
        "organization": "org_01kaqv8f7e9n3p5r7t9w1y3a5c",
        "purpose": "transit-planning",
        "revision": "pol_01kaqv8f7e9n3p5r7t9w1y3a5c",
        "v": 1,
    },
    "salt": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    "leaf_hash": "wwkfFblkOcQhMtiNpOV6EPiQ8kBBJnwwe93abvRpjpo",
}


class Opening(BaseModel):
    """What `ranges` commits to, by partition: the span granted (its first offset, the one after its last), the last position that left."""

    grant: dict[str, tuple[int, int]]
    last: dict[str, int]
    salt: str


class Item(BaseModel):
    """An entry with what proves it: SHA-256(salt || canonical entry) is the commitment of the leaf with this hash."""

    model_config = ConfigDict(json_schema_extra={"examples": [SHOWN]})

    index: int | None
    at: str
    kind: str
    entry: dict[str, Any]
    salt: str
    leaf_hash: str
    opening: Opening | None = None


class Page(BaseModel):
    """Entries in the order in which they were written."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [SHOWN], "next": None}]})

    items: list[Item]
    next: str | None


@dataclass(frozen=True, slots=True)
class Search:
    """Each parameter narrows the search. `since` is the first instant, `until` the first one after the last."""

    actor: Name = None
    organization: Name = None
    dataset: Name = None
    contract: Name = None
    purpose: Name = None
    kind: Name = None
    decision: Name = None
    since: Time | None = None
    until: Time | None = None


@router.get("/entries", summary="Search the audit log", response_model=Page, response_model_exclude_unset=True)
def search_entries(
    caller: Caller,
    session: Reading,
    search: Annotated[Search, Depends()],
    request: Request,
    response: Response,
    limit: Limit = 50,
    after: Number = None,
) -> Any:
    """Entries that fit every parameter, oldest first; pages are stable while entries are added."""
    statement = _matching(caller, search).where(AuditEntry.number > int(after or 0))
    rows = list(session.scalars(statement.order_by(AuditEntry.number).limit(limit + 1)))
    following = str(rows[limit - 1].number) if len(rows) > limit else None
    if following is not None:
        url = request.url.include_query_params(after=following)
        response.headers["Link"] = f'<{request.app.state.settings.issuer}{url.path}?{url.query}>; rel="next"'
    return {"items": [_show(row, caller) for row in rows[:limit]], "next": following}


@router.get("/entries/by-hash/{leaf_hash}", summary="The entry of a receipt", response_model=Item, response_model_exclude_unset=True)
def entry_by_hash(caller: Caller, session: Reading, leaf_hash: LeafHash) -> Any:
    """The entry whose leaf hash stands in an `Audit-Entry` header. Raises `not_found` also for what the caller may not see."""
    digest = bytes.fromhex(leaf_hash) if len(leaf_hash) == 64 else unb64(leaf_hash)
    row = session.scalars(_visible(caller).where(AuditEntry.leaf_hash == digest)).one_or_none()
    if row is None:
        raise ExchangeError("not_found")
    return _show(row, caller)


def _visible(caller: Principal) -> Select[AuditEntry]:
    if AUDITOR in caller.roles:
        return select(AuditEntry)
    own = caller.organization_id
    return select(AuditEntry).where(or_(AuditEntry.organization == own, AuditEntry.provider == own, AuditEntry.consumer == own))


def _matching(caller: Principal, search: Search) -> Select[AuditEntry]:
    statement = _visible(caller)
    for name in ("actor", "organization", "dataset", "contract", "purpose", "kind", "decision"):
        wanted = getattr(search, name)
        if wanted is not None:
            statement = statement.where(getattr(AuditEntry, name) == wanted)
    if search.since is not None:
        statement = statement.where(AuditEntry.at >= search.since)
    if search.until is not None:
        statement = statement.where(AuditEntry.at < search.until)
    return statement


def _show(row: AuditEntry, caller: Principal) -> dict[str, Any]:
    # The index is the entry's place in the Merkle tree, once there is one.
    item = {
        "index": None,
        "at": rfc3339(row.at),
        "kind": row.kind,
        "entry": orjson.loads(row.entry),
        "salt": b64(row.salt),
        "leaf_hash": b64(row.leaf_hash),
    }
    # A consumer could count from the positions what was withheld from it.
    if row.opening is not None and (AUDITOR in caller.roles or caller.organization_id == row.provider):
        item["opening"] = orjson.loads(row.opening)
    return item
