"""The auditor's search, and proofs. An auditor finds every entry, an organization those in which it is actor, provider or consumer.

Proofs and leaves are public: they say of an entry no more than kind, time and commitment, and go to whoever may search at all.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, Select, and_, literal_column, or_, select, true, union
from sqlalchemy.orm import Session

from gateway.audit.models import COMMONEST, SEARCHED, AuditEntry, AuditLeaf, AuditPending
from gateway.audit.note import Checkpoint
from gateway.audit.proofs import TEXT, newest, path_of, prove, prove_consistency, shown
from gateway.audit.tiles import Tiles
from gateway.database import Reading, rfc3339
from gateway.errors import ExchangeError, Invalid
from gateway.http import Limit, Time
from gateway.identity.principal import Allow, Principal
from gateway.keys import b64, unb64

router = APIRouter(prefix="/v1/audit", tags=["audit"])

AUDITOR = "auditor"
OUT_OF_ORDER = timedelta(minutes=10)
"""More than by which an entry's time may be before that of a lower number: clocks of replicas, and how long a transaction takes."""
Caller = Annotated[Principal, Allow("audit:read")]
Name = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
Number = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="The `next` of the page before.")]
LeafHash = Annotated[
    str,
    Path(pattern=r"^([0-9a-f]{64}|[A-Za-z0-9_-]{43})$", description="The hash in `Audit-Entry`, as base64url without padding or as hex."),
]
MOST = 2**53 - 1
Index = Annotated[int, Path(ge=0, le=MOST, description="The entry's place in the log.")]


async def _tiles(request: Request) -> Tiles:
    tiles: Tiles = request.app.state.tiles
    return tiles


LogTiles = Annotated[Tiles, Depends(_tiles)]
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


CHECKPOINT = """exchange.example/audit
2
rbl5vPHj6WiFRZd7rjBY/2M2u9KxnEwlfAujo3o6Wtg=

— exchange.example/audit Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""
LEAF = '{"at":"2026-11-23T12:00:00.250Z","commitment":"3hBZFlCmJYDcBfDSHLVYJUOcCfuUhA2Zk2o5zCO0z0g","kind":"decision","v":1}'
PROOF = ["PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw="]
PROVED: dict[str, Any] = {"index": 1, "leaf": LEAF, "proof": PROOF, "checkpoint": CHECKPOINT}
CONSISTENT: dict[str, Any] = {"from": 1, "to": 2, "proof": PROOF, "checkpoint": CHECKPOINT}
AS_TEXT = f"c2sp.org/tlog-proof@v1\nindex 1\n{PROOF[0]}\n\n{CHECKPOINT}"


class Opening(BaseModel):
    """What `ranges` commits to, by partition: the span granted (its first offset, the one after its last), the last position that left."""

    grant: dict[str, tuple[int, int]]
    last: dict[str, int]
    salt: str


class Item(BaseModel):
    """An entry with what proves it: SHA-256(salt || canonical entry) is the commitment of the leaf with this hash.

    `index` is the leaf's place in the tree, null until it has one; `proof` leads from it to the checkpoint's root (RFC 6962 section
    2.1.1), null until it is published, within a second or two. Both are in standard base64.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [SHOWN]})

    index: int | None
    at: str
    kind: str
    entry: dict[str, Any]
    salt: str
    leaf_hash: str
    opening: Opening | None = None
    proof: list[str] | None = None


class Page(BaseModel):
    """Entries in the order in which they were written, and the checkpoint that their proofs lead to; null before the first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [SHOWN], "next": None, "checkpoint": CHECKPOINT}]})

    items: list[Item]
    next: str | None
    checkpoint: str | None


class Inclusion(BaseModel):
    """That a leaf is in the log. `leaf` is its text, of which `leaf_hash` is SHA-256(0x00 || leaf)."""

    model_config = ConfigDict(json_schema_extra={"examples": [PROVED | {"leaf_hash": SHOWN["leaf_hash"]}]})

    index: int
    leaf_hash: str
    leaf: str
    proof: list[str]
    checkpoint: str


class Found(Item):
    """The entry of a receipt, its leaf and its checkpoint. Where retention has deleted the entry, what is public is left of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [SHOWN | {"index": 1, "leaf": LEAF, "proof": PROOF, "checkpoint": CHECKPOINT}]}
    )

    entry: dict[str, Any] = {}
    salt: str = ""
    leaf: str = ""
    checkpoint: str | None = None


class Consistency(BaseModel):
    """That the log of `to` entries begins with that of `from` (RFC 6962 section 2.1.2)."""

    model_config = ConfigDict(json_schema_extra={"examples": [CONSISTENT]}, populate_by_name=True)

    from_: Annotated[int, Field(alias="from")]
    to: int
    proof: list[str]
    checkpoint: str


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
    tiles: LogTiles,
    request: Request,
    response: Response,
    limit: Limit = 50,
    after: Number = None,
) -> Any:
    """Entries that fit every parameter, oldest first; pages are stable while entries are added."""
    rows = session.execute(_page(caller, search, int(after or 0), limit + 1)).all()
    following = str(rows[limit - 1][0].number) if len(rows) > limit else None
    if following is not None:
        url = request.url.include_query_params(after=following)
        response.headers["Link"] = f'<{request.app.state.settings.issuer}{url.path}?{url.query}>; rel="next"'
    checkpoint = _newest_if_whole(tiles)
    items = [_show(row, caller, index, tiles, checkpoint) for row, index in rows[:limit]]
    return {"items": items, "next": following, "checkpoint": checkpoint.note.decode() if checkpoint else None}


@router.get("/entries/by-hash/{leaf_hash}", summary="The entry of a receipt", response_model=Found, response_model_exclude_unset=True)
def entry_by_hash(caller: Caller, session: Reading, tiles: LogTiles, leaf_hash: LeafHash) -> Any:
    """The entry whose leaf hash stands in an `Audit-Entry` header, and where in the log it is. Raises `not_found` also for what the
    caller may not see.
    """
    digest = bytes.fromhex(leaf_hash) if len(leaf_hash) == 64 else unb64(leaf_hash)
    checkpoint = _newest_if_whole(tiles)
    leaf, row = _find(session, caller, digest)
    if leaf is None and row is None:  # between two looks it may have got its place
        leaf, row = _find(session, caller, digest)
    if row is None:
        return _left(session, tiles, checkpoint, leaf)
    found = _show(row, caller, leaf.index if leaf else None, tiles, checkpoint)
    return found | {"leaf": row.leaf.decode(), "checkpoint": checkpoint.note.decode() if checkpoint else None}


@router.get(
    "/entries/{index}/proof",
    summary="That an entry is in the log",
    response_model=Inclusion,
    responses={200: {"content": {TEXT: {"schema": {"type": "string"}, "example": AS_TEXT}}}},
)
def entry_proof(
    _caller: Caller, tiles: LogTiles, index: Index, accept: Annotated[str, Header(description="`text/plain`: as C2SP tlog-proof.")] = ""
) -> Any:
    """The leaf of this index and its proof against the newest checkpoint. Raises `not_found` for what is not published yet."""
    checkpoint = newest(tiles)
    if checkpoint is None or index >= checkpoint.size:
        raise ExchangeError("not_found")
    inclusion = prove(tiles, checkpoint, index)
    if TEXT in accept and "json" not in accept:
        return Response(inclusion.text(), media_type=TEXT)
    return inclusion.document()


@router.get("/consistency", summary="That the log continues what it was", response_model=Consistency)
def consistency(
    _caller: Caller,
    tiles: LogTiles,
    old: Annotated[int, Query(alias="from", ge=0, le=MOST, description="The size that the log had.")],
    new: Annotated[int | None, Query(alias="to", ge=0, le=MOST, description="A later one; by default the newest.")] = None,
) -> Any:
    """Raises `not_found` before the first checkpoint; `invalid_body` for sizes that are not in order, or that the log has not reached."""
    checkpoint = newest(tiles)
    if checkpoint is None:
        raise ExchangeError("not_found")
    after = checkpoint.size if new is None else new
    if after > checkpoint.size:
        raise Invalid([{"pointer": "?to", "detail": f"the log has {checkpoint.size} entries"}])
    if old > after:
        raise Invalid([{"pointer": "?from", "detail": "is after `to`"}])
    proof = prove_consistency(tiles, checkpoint, old, after)
    return {"from": old, "to": after, "proof": shown(proof), "checkpoint": checkpoint.note.decode()}


def _find(session: Session, caller: Principal, digest: bytes) -> tuple[AuditLeaf | None, AuditEntry | None]:
    """The leaf of this hash, None while it has no place, and the entry, None if it is gone or not the caller's to see."""
    leaf = session.scalars(select(AuditLeaf).where(AuditLeaf.leaf_hash == digest)).first()
    # What has no place yet is among few, and no index of the many has to be kept for it while they are written.
    here = AuditEntry.number == leaf.number if leaf else AuditEntry.number.in_(select(AuditPending.number))
    visible = or_(*(and_(true(), *way) for way in _ways_to_see(caller)))
    return leaf, session.scalars(select(AuditEntry).where(here, AuditEntry.leaf_hash == digest, visible)).one_or_none()


def _newest_if_whole(tiles: Tiles) -> Checkpoint | None:
    """Searching goes on where what is published is damaged: only without proofs."""
    with suppress(ExchangeError):
        return newest(tiles)
    return None


def _page(caller: Principal, search: Search, after: int, count: int) -> Select[AuditEntry, int | None]:
    """The first so many entries after this number, and their indexes.

    Each way in which the caller may see an entry is gone by itself: for an "or" of them the database may well read all that it has.
    """
    wanted = [*_filters(search), AuditEntry.number > after]
    ways = [
        select(AuditEntry.number).where(*way, *wanted).order_by(AuditEntry.number).limit(count).subquery() for way in _ways_to_see(caller)
    ]
    numbers = union(*(select(way.c.number) for way in ways)).subquery()
    statement = select(AuditEntry, AuditLeaf.index).join(numbers, numbers.c.number == AuditEntry.number)
    return statement.join(AuditLeaf, AuditLeaf.number == AuditEntry.number, isouter=True).order_by(AuditEntry.number).limit(count)


def _left(session: Session, tiles: Tiles, checkpoint: Checkpoint | None, leaf: AuditLeaf | None) -> dict[str, Any]:
    """What is public of an entry that retention has deleted. Raises `not_found` if that is not why it is not seen."""
    if leaf is None or checkpoint is None or leaf.index >= checkpoint.size or _is_there(session, leaf.number):
        raise ExchangeError("not_found")
    document = prove(tiles, checkpoint, leaf.index).document()
    said = orjson.loads(document["leaf"])
    return document | {"at": said["at"], "kind": said["kind"]}


def _is_there(session: Session, number: int | None) -> bool:
    return number is not None and session.get(AuditEntry, number) is not None


def _ways_to_see(caller: Principal) -> list[list[ColumnElement[bool]]]:
    """What must hold of an entry so that the caller may see it: all of any of these."""
    if AUDITOR in caller.roles:
        return [[]]
    return [[column == caller.organization_id] for column in (AuditEntry.organization, AuditEntry.provider, AuditEntry.consumer)]


def _filters(search: Search) -> list[ColumnElement[bool]]:
    wanted = {name: getattr(search, name) for name in ("kind", *SEARCHED, "decision")}
    found: list[ColumnElement[bool]] = [getattr(AuditEntry, name) == value for name, value in wanted.items() if value is not None]
    if search.kind not in {None, COMMONEST}:
        found.append(AuditEntry.kind != literal_column(f"'{COMMONEST}'"))  # said outright, or the indexes of such kinds are not used
    if search.since is not None:
        # Numbers and times go up together but for seconds: what is long before need not be looked at, page after page.
        near = select(AuditEntry.number).where(AuditEntry.at >= search.since - OUT_OF_ORDER).order_by(AuditEntry.at).limit(1)
        found += [AuditEntry.at >= search.since, AuditEntry.number >= near.scalar_subquery()]
    if search.until is not None:
        found.append(AuditEntry.at < search.until)
    return found


def _show(row: AuditEntry, caller: Principal, index: int | None, tiles: Tiles, checkpoint: Checkpoint | None) -> dict[str, Any]:
    published = index is not None and checkpoint is not None and index < checkpoint.size
    item = {
        "index": index,
        "at": rfc3339(row.at),
        "kind": row.kind,
        "entry": orjson.loads(row.entry),
        "salt": b64(row.salt),
        "leaf_hash": b64(row.leaf_hash),
        "proof": shown(path_of(tiles, checkpoint, index)) if published and checkpoint and index is not None else None,
    }
    # A consumer could count from the positions what was withheld from it.
    if row.opening is not None and (AUDITOR in caller.roles or caller.organization_id == row.provider):
        item["opening"] = orjson.loads(row.opening)
    return item
