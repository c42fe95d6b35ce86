"""The feed of the caller's organization over HTTP, as CloudEvents, and the acknowledgement of what asks for one."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from gateway.audit.record import Entry, record
from gateway.database import Database, Transaction, now, rfc3339
from gateway.errors import ExchangeError
from gateway.http import Time
from gateway.idempotency import IdempotentRoute
from gateway.identity.principal import Allow, Principal
from gateway.keys import Keys
from gateway.notices.feed import LiveFeed, newest, read_after
from gateway.notices.models import Notice
from gateway.streams.cursor import Cursor, Cursors

router = APIRouter(prefix="/v1/notices", tags=["notices"], route_class=IdempotentRoute)

MEDIA_TYPE = "application/cloudevents-batch+json"
Reader = Annotated[Principal, Allow("contracts:read")]
Writer = Annotated[Principal, Allow("contracts:write")]
NoticeId = Annotated[str, Path(pattern=r"^ntf_[0-9a-z]{26}$", examples=["ntf_01kaqv8f7e9n3p5r7t9w1y3a5c"])]

NOTICE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "ntf_01kaqv8f7e9n3p5r7t9w1y3a5c",
    "source": "https://exchange.example",
    "type": "contract.suspended",
    "time": "2026-11-23T12:00:00.250Z",
    "datacontenttype": "application/json",
    "data": {
        "contract": "con_01kaqv8f7e9n3p5r7t9w1y3a5c",
        "dataset": "port-credit-footfall",
        "purpose": "transit-planning",
        "provider": "org_01kaqv8f7e9n3p5r7t9w1y3a5c",
        "consumer": "org_01kaqv8f7e9n3p5r7t9w1y3a5d",
        "state": "suspended",
        "reason": "Counters are replaced.",
    },
}


class Acknowledged(BaseModel):
    """A notice that was acknowledged, and when it first was."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "ntf_01kaqv8f7e9n3p5r7t9w1y3a5c", "acknowledged_at": "2026-11-24T09:00:00Z"}]}
    )

    id: str
    acknowledged_at: Time


@router.get(
    "",
    summary="What my organization is told",
    response_class=JSONResponse,
    responses={200: {"content": {MEDIA_TYPE: {"example": [NOTICE]}}}},
)
async def read_notices(
    request: Request,
    caller: Reader,
    feed: LiveFeed,
    cursor: Annotated[str, Query(max_length=4096, description="`earliest`, `latest`, or a cursor that an answer gave.")] = "earliest",
    wait: Annotated[float, Query(ge=0, le=30, description="Seconds to wait for the first notice.")] = 0,
) -> JSONResponse:
    """The next hundred at most, oldest first, with `Next-Cursor` and `Link: rel="next"`; empty after `wait` seconds.

    A notice with `mustacknowledgeby` is to be acknowledged by then.
    """
    state = request.app.state
    database: Database = state.database
    mine = _Feeds(state.keys, caller.organization_id)
    if cursor == "latest":
        return _page(request, mine, [], await run_in_threadpool(_newest, database, mine.organization))
    n = 0 if cursor == "earliest" else mine.opened(cursor, kept=timedelta(days=state.settings.notices_days))
    notices = await run_in_threadpool(_read, database, mine.organization, n)
    if not notices and wait:
        await feed.wait_beyond(mine.organization, n, wait)
        notices = await run_in_threadpool(_read, database, mine.organization, n)
    return _page(request, mine, notices, notices[-1].n if notices else n)


@router.post("/{notice_id}/acknowledge", summary="Acknowledge a notice", response_model=Acknowledged)
def acknowledge_notice(notice_id: NoticeId, caller: Writer, session: Transaction) -> Any:
    """Say that what the notice asks for is done. Repeating it gives the first answer; what came too late stays as it is."""
    mine = select(Notice).where(Notice.id == notice_id, Notice.organization_id == caller.organization_id)
    notice = session.scalar(mine.with_for_update())
    if notice is None:
        raise ExchangeError("not_found")
    if notice.acknowledged_at is None:
        notice.acknowledged_at, notice.acknowledged_by = now(), caller.actor
        record(
            session,
            Entry(
                kind="notice",
                action="acknowledged",
                actor=caller.actor,
                organization=caller.organization_id,
                dataset=notice.data.get("dataset"),
                contract=notice.data.get("contract"),
                detail={"notice": notice.id, "type": notice.type},
                provider=notice.data.get("provider"),
                consumer=caller.organization_id,
            ),
        )
    return {"id": notice.id, "acknowledged_at": notice.acknowledged_at}


class _Feeds:
    """The cursors of one organization's feed: nobody else's are taken."""

    def __init__(self, keys: Keys, organization: str) -> None:
        self.organization = organization
        self._what = f"notices {organization}"
        self._cursors = Cursors(keys.secret("cursor"))

    def sealed(self, n: int) -> str:
        return self._cursors.seal(Cursor(self._what, "", {0: n}))

    def opened(self, text: str, *, kept: timedelta) -> int:
        """Raises `cursor_invalid`; and `cursor_expired` if what came after it may have been deleted since."""
        cursor = self._cursors.open(text, self._what)
        if cursor.sealed_at < (now() - kept).timestamp():
            raise ExchangeError("cursor_expired", "Notices after this cursor may have been deleted.", earliest_cursor=self.sealed(0))
        return cursor.offsets[0]


def _read(database: Database, organization: str, n: int) -> list[Notice]:
    with database.reading() as session:
        return list(read_after(session, organization, n))


def _newest(database: Database, organization: str) -> int:
    with database.reading() as session:
        return newest(session, organization)


def _page(request: Request, mine: _Feeds, notices: list[Notice], n: int) -> JSONResponse:
    issuer, cursor = request.app.state.settings.issuer, mine.sealed(n)
    headers = {"Next-Cursor": cursor, "Link": f'<{issuer}/v1/notices?cursor={cursor}>; rel="next"'}
    return JSONResponse([_show(notice, issuer) for notice in notices], headers=headers, media_type=MEDIA_TYPE)


def _show(notice: Notice, issuer: str) -> dict[str, Any]:
    """CloudEvents JSON Event Format 1.0.2; names of attributes have small letters only."""
    moments = {"mustacknowledgeby": notice.must_acknowledge_by, "acknowledgedat": notice.acknowledged_at}
    return {
        "specversion": "1.0",
        "id": notice.id,
        "source": issuer,
        "type": notice.type,
        "time": rfc3339(notice.at),
        "datacontenttype": "application/json",
        **{name: rfc3339(moment) for name, moment in moments.items() if moment is not None},
        "data": notice.data,
    }
