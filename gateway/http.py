"""What every call of the control plane has in common: strict documents, times and durations, pages, ETags."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import isodate
from fastapi import Header, Query, Request, Response
from fastapi.dependencies.models import Dependant
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from gateway.database import rfc3339
from gateway.errors import ExchangeError, Invalid

Row = TypeVar("Row")

RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII)


class Document(BaseModel):
    """A document of the wire: unknown members are refused, and no type is guessed."""

    model_config = ConfigDict(extra="forbid", strict=True)


def parse_time(value: object) -> datetime:
    """A time in UTC from its RFC 3339 text. Raises `ValueError`."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not RFC3339.fullmatch(value):
        raise ValueError("must be a time as in RFC 3339, for example 2026-11-23T12:00:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except OverflowError as error:  # the first or last day of the calendar, in a zone that lies beyond it
        raise ValueError("lies outside the calendar") from error


def check_period(value: str) -> str:
    """A positive ISO 8601 duration of fixed length (no years or months). Raises `ValueError`."""
    try:
        length = isodate.parse_duration(value)
        if not isinstance(length, timedelta):
            raise ValueError("years and months have no fixed length")  # noqa: TRY004 - one answer for all that is no such duration
        fixed = length.total_seconds() > 0
    except (isodate.ISO8601Error, AttributeError, OverflowError, ValueError) as error:
        raise ValueError("must be an ISO 8601 duration of days, hours, minutes or seconds, for example P30D or PT15M") from error
    if not fixed:
        raise ValueError("must be longer than nothing")
    return value


def parse_period(value: str) -> timedelta:
    """The length of a period that `check_period` has taken."""
    length = isodate.parse_duration(value)
    assert isinstance(length, timedelta)
    return length


Time = Annotated[datetime, BeforeValidator(parse_time), PlainSerializer(rfc3339, return_type=str)]
Period = Annotated[str, AfterValidator(check_period)]
Limit = Annotated[int, Query(ge=1, le=500, description="How many items at most.")]
After = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f]*$", description="The `next` of the page before.")]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="The ETag that a read gave.")]


def _query_names(dependant: Dependant) -> Iterator[str]:
    """The query parameters of a call, those of its dependencies and of documents of parameters included."""
    for field in dependant.query_params:
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (member.alias or name for name, member in kind.model_fields.items())
        else:
            yield field.alias
    for other in dependant.dependencies:
        yield from _query_names(other)


async def refuse_unknown_query(request: Request) -> None:
    """A dependency of every route: a query parameter that the call does not have is a 422, never ignored."""
    if not request.scope["query_string"]:
        return
    unknown = sorted(set(request.query_params) - set(_query_names(request.scope["route"].dependant)))
    if unknown:
        raise Invalid([{"pointer": f"?{name[:64]}", "detail": "is not a parameter of this call"} for name in unknown])


async def refuse_other_media_types(request: Request) -> None:
    """A dependency of every route: a body of a call that takes JSON must say that it is JSON. Raises `unsupported_media_type`."""
    headers, route = request.headers, request.scope["route"]
    if getattr(route, "body_field", None) is None or ("transfer-encoding" not in headers and headers.get("content-length", "0") == "0"):
        return
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise ExchangeError("unsupported_media_type", "This call takes a JSON document.", headers={"Accept": "application/json"})


def page(
    session: Session,
    statement: Select[Row],
    key: InstrumentedAttribute[str],
    show: Callable[[Row], Any],
    *,
    limit: int,
    after: str | None,
    request: Request,
    response: Response,
) -> dict[str, Any]:
    """`{"items": [...], "next": ... | null}` ordered by identifier, with `Link: rel="next"` (RFC 8288)."""
    if after is not None:
        statement = statement.where(key > after)
    rows: Sequence[Row] = session.execute(statement.order_by(key).limit(limit + 1)).scalars().all()
    following = getattr(rows[limit - 1], key.key) if len(rows) > limit else None
    if following is not None:
        issuer = request.app.state.settings.issuer
        url = request.url.include_query_params(after=following)
        response.headers["Link"] = f'<{issuer}{url.path}?{url.query}>; rel="next"'
    return {"items": [show(row) for row in rows[:limit]], "next": following}


def etag(version: int) -> str:
    """The strong ETag of a stored document's version (RFC 9110 section 8.8.3)."""
    return f'"{version}"'


def require_match(given: str | None, version: int) -> None:
    """Raises `precondition_required` (428) without `If-Match`, `stale` (412) if the document has changed since."""
    if given is None:
        raise ExchangeError("precondition_required")
    if given != "*" and etag(version) not in [tag.strip() for tag in given.split(",")]:
        raise ExchangeError("stale")
