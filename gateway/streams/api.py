"""The stream plane's calls: publish to a dataset, read under a contract, read an open dataset."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response, Security
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from gateway.catalog.directory import DatasetView
from gateway.errors import ExchangeError
from gateway.idempotency import IdempotentRoute
from gateway.identity.principal import Allow, Anybody, Principal, Rule
from gateway.limits import network_of
from gateway.streams import examples
from gateway.streams.events import BATCH, parse
from gateway.streams.live import Streams
from gateway.streams.publish import publish, shown
from gateway.streams.reading import Reading
from gateway.streams.responses import Lines, Page, ServerSentEvents, Stream


class _Publishing(IdempotentRoute):
    """Publishing is called thousands of times a second: without a query its few arguments are handed over here, by the same rule of
    access, which costs a fraction of having them solved. Everything else goes the framework's way.
    """

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] or scope["method"] != "POST":
            await super().answer(scope, receive, send)
            return
        request = Request(scope, receive)
        caller = await _may_publish(request, None)
        response = await publish_events(scope["path_params"]["slug"], request, caller, request.app.state.streams)
        await response(scope, receive, send)


_may_publish = Rule(("events:publish",))
router = APIRouter(tags=["streams"])
publishing = APIRouter(tags=["streams"], route_class=_Publishing)

SSE = ServerSentEvents.media_type
NDJSON = Lines.media_type
OFFERED = (BATCH, NDJSON, SSE)
MOST_PAGE_BYTES = 16 * 1024 * 1024


async def _streams(request: Request) -> Streams:
    streams: Streams = request.app.state.streams
    return streams


LiveStreams = Annotated[Streams, Depends(_streams)]
CursorParameter = Annotated[
    str, Query(max_length=4096, description="`earliest`, `latest`, an RFC 3339 time, or a cursor that an answer gave.")
]
LimitBytes = Annotated[
    int, Query(ge=1, le=MOST_PAGE_BYTES, description="About how many bytes of events a page has at most; at least one event.")
]
Wait = Annotated[float, Query(ge=0, le=30, description="Seconds to wait for the first event.")]
Partitions = Annotated[
    str | None, Query(pattern=r"^[0-9]{1,4}(,[0-9]{1,4}){0,255}$", description="Only these partitions, for example `0,1`.")
]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", max_length=4096, description="The cursor to resume from, as EventSource sends it.")
]


@publishing.post(
    "/v1/datasets/{slug}/events",
    status_code=201,
    summary="Publish events",
    openapi_extra=examples.PUBLISH,
    responses=examples.PUBLISHED,
)
async def publish_events(
    slug: str,
    request: Request,
    caller: Annotated[Principal, Security(_may_publish, scopes=["events:publish"])],
    streams: LiveStreams,
    *,
    validate_only: Annotated[bool, Query(description="Check everything and append nothing.")] = False,
) -> Response:
    """Publish one event or a batch to a dataset that the caller's organization owns: all are appended, or none.

    `positions` say where the events stand, and `Audit-Entry` is the receipt of the entry that says so.
    """
    dataset = _visible(streams, slug, caller)
    events = parse(request.headers, await _body(request))
    done = await publish(streams, caller, dataset, events, validate_only=validate_only)
    body = {"accepted": done.accepted, "positions": [shown(position) for position in done.positions]}
    if done.receipt is None:
        return JSONResponse(body, status_code=200)
    return JSONResponse(body, status_code=201, headers={"Audit-Entry": done.receipt.header})


async def _body(request: Request) -> bytes:
    """The body, which the request does not keep: it is let go once it is parsed, before the wait for the log."""
    return b"".join([chunk async for chunk in request.stream()])


@router.get("/v1/contracts/{contract}/events", summary="Read the events of a contract", response_class=Response, responses=examples.READ)
async def read_contract(
    contract: str,
    request: Request,
    caller: Annotated[Principal, Allow("events:read")],
    streams: LiveStreams,
    cursor: CursorParameter = "earliest",
    limit_bytes: LimitBytes = 4 * 1024 * 1024,
    wait: Wait = 0,
    partitions: Partitions = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Read what this contract may see: a page (`application/cloudevents-batch+json`), lines (`application/x-ndjson`) or a stream
    (`text/event-stream`). Consent is judged at delivery, also when reading again.
    """
    found = streams.contracts.get(contract)
    if found is None or found.consumer_id != caller.organization_id:
        raise ExchangeError("not_found")
    dataset = streams.catalog.get(found.dataset_slug)
    if dataset is None:
        raise ExchangeError("not_found")
    place = streams.open.one_more(found.id, streams.settings.streams_per_contract)
    asked = _Asked(cursor=last_event_id or cursor, limit_bytes=limit_bytes, wait=wait, partitions=partitions)
    return await _read(request, Reading(streams, dataset, found, caller), place, asked, {})


@router.get("/v1/datasets/{slug}/events", summary="Read an open dataset", response_class=Response, responses=examples.READ)
async def read_open(
    slug: str,
    request: Request,
    caller: Anybody,
    streams: LiveStreams,
    cursor: CursorParameter = "earliest",
    limit_bytes: LimitBytes = 4 * 1024 * 1024,
    wait: Wait = 0,
    partitions: Partitions = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Read an `open` dataset, with or without a token; any other needs a contract. Formats as for a contract."""
    dataset = _visible(streams, slug, caller)
    address = network_of(request)
    headers = {"Access-Control-Allow-Origin": "*"}
    place: AbstractContextManager[None] = nullcontext()
    if caller is None:
        headers |= streams.anonymous.count(address)
        place = streams.open.one_more(("address", address), streams.settings.anonymous_streams)
    asked = _Asked(cursor=last_event_id or cursor, limit_bytes=limit_bytes, wait=wait, partitions=partitions)
    return await _read(request, Reading(streams, dataset, None, caller), place, asked, headers)


@dataclass(frozen=True, slots=True)
class _Asked:
    """How the reader wants its events."""

    cursor: str
    limit_bytes: int
    wait: float
    partitions: str | None


async def _read(
    request: Request, reading: Reading, place: AbstractContextManager[None], asked: _Asked, headers: dict[str, str]
) -> Response:
    media_type = _negotiate(request.headers.get("accept", "*/*"))
    await reading.permit()
    partitions = [int(partition) for partition in asked.partitions.split(",")] if asked.partitions else None
    await reading.start(asked.cursor, partitions)
    if media_type == SSE:
        return Stream(reading, ServerSentEvents(), place, idle=None, headers=headers)
    if media_type == NDJSON:
        return Stream(reading, Lines(), place, idle=asked.wait, headers=headers)
    # `latest` asks where the end is, and is told at once.
    wait = 0 if asked.cursor == "latest" else asked.wait
    return Page(reading, limit_bytes=asked.limit_bytes, wait=wait, headers=headers)


def _visible(streams: Streams, slug: str, caller: Principal | None) -> DatasetView:
    dataset = streams.catalog.get(slug)
    if dataset is None or (dataset.classification == "sensitive" and (caller is None or caller.organization_id != dataset.owner_id)):
        raise ExchangeError("not_found")
    return dataset


def _negotiate(accept: str) -> str:
    """The best of what is offered (RFC 9110 section 12.5.1). Raises `not_acceptable`."""
    best, best_quality = "", 0.0
    for wanted in accept.split(","):
        name, *parameters = (part.strip() for part in wanted.split(";"))
        quality = _quality(parameters)
        match = BATCH if name in {"*/*", "application/*", "application/json", ""} else name.lower()
        if match in OFFERED and quality > best_quality:
            best, best_quality = match, quality
    if not best:
        raise ExchangeError("not_acceptable", f"Events are given as {', '.join(OFFERED)}.")
    return best


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
