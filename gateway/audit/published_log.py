"""The log in public (C2SP tlog-tiles): checkpoint, tiles and entry bundles, for anybody, without a token.

What a plain web server would serve from the same directory, this serves too.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from gateway.audit.tiles import TILE, Tiles, parse_tile_path
from gateway.errors import ExchangeError

router = APIRouter(prefix="/audit", tags=["audit"])

FROM_ANYWHERE = {"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}
FOR_A_MOMENT = FROM_ANYWHERE | {"Cache-Control": "public, max-age=1"}
FOR_EVER = FROM_ANYWHERE | {"Cache-Control": "public, max-age=31536000, immutable"}
BYTES = "application/octet-stream"
EXAMPLE = """exchange.example/audit
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— exchange.example/audit Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""
TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}}}}
LEAF = '{"at":"2026-11-23T12:00:00.250Z","commitment":"3hBZFlCmJYDcBfDSHLVYJUOcCfuUhA2Zk2o5zCO0z0g","kind":"decision","v":1}'
BUNDLE = f"\0{chr(len(LEAF))}{LEAF}"
"""Of one leaf: its length in two bytes, and its text."""
BINARY: dict[int | str, dict[str, Any]] = {200: {"content": {BYTES: {"schema": {"type": "string", "format": "binary"}, "example": BUNDLE}}}}
TilePath = Annotated[
    str,
    Path(
        max_length=60,
        pattern=f"^{TILE.pattern}$".replace("(?:", "("),
        description="`<L>/<N>[.p/<W>]`, or `entries/<N>[.p/<W>]`: level, index in groups of three digits, width of a partial tile.",
        examples=["0/x001/x234/067", "entries/000.p/5"],
    ),
]


@router.get("/checkpoint", summary="The newest checkpoint", response_class=Response, responses=TEXT)
def newest_checkpoint(request: Request) -> Response:
    """The signed tree head: origin, size, root, the log's signature and those of witnesses (C2SP tlog-checkpoint)."""
    note = _tiles(request).checkpoint()
    if note is None:
        raise ExchangeError("not_found")
    return Response(note, headers=FOR_A_MOMENT | {"Content-Type": "text/plain; charset=utf-8"})


@router.get("/tile/{tile:path}", summary="A tile of hashes, or of entries", response_class=Response, responses=BINARY)
def one_tile(tile: TilePath, request: Request) -> Response:
    """256 hashes of the tree, or 256 leaves; fewer at its right edge (C2SP tlog-tiles). A tile never changes."""
    named = parse_tile_path(tile)
    content = _tiles(request).read_tile(*named) if named is not None else None
    if content is None:
        raise ExchangeError("not_found")
    return Response(content, headers=FOR_EVER | {"Content-Type": BYTES})


def _tiles(request: Request) -> Tiles:
    tiles: Tiles = request.app.state.tiles
    return tiles
