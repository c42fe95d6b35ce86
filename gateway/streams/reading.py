"""A reading: who reads what, from where, and what it is allowed to see right now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import isodate

from gateway.access.decide import refusal_code
from gateway.access.decision import Decision
from gateway.access.facts import Question
from gateway.catalog.directory import DatasetView
from gateway.contracts.directory import ContractView
from gateway.database import now
from gateway.errors import ExchangeError, Refused
from gateway.http import parse_time
from gateway.identity.principal import Principal
from gateway.streams.cursor import Cursor
from gateway.streams.limits import Bucket
from gateway.streams.log import OffsetOutOfRange, TopicGone
from gateway.streams.views import View

if TYPE_CHECKING:
    from gateway.streams.live import Streams


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return int(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Permit:
    """What a reading may see until its decision ends: the decision, its view, and how fast."""

    decision: Decision
    view: View
    bucket: Bucket | None


class Reading:
    """One reader's place: the contract or the open dataset, and the offset of the next record to examine of each partition."""

    def __init__(self, streams: Streams, dataset: DatasetView, contract: ContractView | None, caller: Principal | None) -> None:
        self.streams = streams
        self.caller = caller
        self.slug = dataset.slug
        self.owner_id = dataset.owner_id
        self.contract_id = contract.id if contract else None
        self.offsets: dict[int, int] = {}
        self.partitions: tuple[int, ...] = ()
        self._turn = 0
        self._permit: Permit | None = None
        self._stamp = -1

    @property
    def path(self) -> str:
        """The path that it reads."""
        return f"/v1/contracts/{self.contract_id}/events" if self.contract_id else f"/v1/datasets/{self.slug}/events"

    @property
    def last_decision(self) -> Decision | None:
        """The decision that it was last permitted by."""
        return self._permit.decision if self._permit else None

    @property
    def what(self) -> str:
        """What its cursors are bound to."""
        return self.contract_id or self.slug

    @property
    def dataset(self) -> DatasetView:
        """The dataset as it is now. Raises `not_found` once it is gone."""
        found = self.streams.catalog.get(self.slug)
        if found is None:
            raise ExchangeError("not_found")
        return found

    @property
    def contract(self) -> ContractView | None:
        return self.streams.contracts.get(self.contract_id) if self.contract_id else None

    async def permit(self) -> Permit:
        """What it may see now: the decision in memory, or a new one.

        Nothing is asked while no forbidding change was applied and the decision's `until` has not come.
        Raises `policy_denied`, `contract_not_in_force`, `strong_client_required`, `token_expired`, `token_invalid` of one that
        was revoked, `policy_unavailable`.
        """
        permit = self._permit
        if self.caller is not None and self.caller.expires_at <= now():
            raise ExchangeError("token_expired")
        if permit is not None and self._stamp == self.streams.stamp.value and permit.decision.until > now():
            return permit
        stamp = self.streams.stamp.value
        if self.caller is not None:
            self.streams.access.people.require_unrevoked(self.caller.token_id)
        dataset, contract = self.dataset, self.contract
        question = Question("receive", self.caller, dataset, contract.purpose if contract else None, contract)
        decision = self.streams.access.kept(question)
        if decision is None:
            decision = await self.streams.decided(question)
        if not decision.allow:
            raise _refusal(decision, contract)
        self._permit = self.streams.permit(decision, dataset, contract)
        self._stamp = stamp
        return self._permit

    async def start(self, cursor: str, partitions: Sequence[int] | None) -> None:
        """Stand where `cursor` says: `earliest`, `latest`, an RFC 3339 time, or an opaque cursor.

        Never before the earliest record that this contract may see. Raises `cursor_invalid`, `cursor_expired` (of a topic
        made again), `log_unavailable`, `invalid_body` for partitions that the dataset does not have.
        """
        dataset = self.dataset
        self.partitions = self._checked(partitions, dataset)
        earliest_ms = self._earliest_ms()
        opened = None
        if cursor not in {"earliest", "latest"} and not _is_time(cursor):
            opened = self.streams.cursors.open(cursor, self.what)
            if opened.topic_id != dataset.topic_id:
                raise ExchangeError("cursor_expired", earliest_cursor=await self._earliest_cursor(dataset, earliest_ms))
            self.offsets.update(opened.offsets)
            self._turn = opened.turn
        await self._require_topic(dataset, expired=opened is not None)
        # Whether the log still has the offset of an opaque cursor is for the first fetch to say.
        unknown = [partition for partition in self.partitions if opened is None or partition not in opened.offsets]
        self.offsets.update(await self._offsets(dataset, unknown, cursor if opened is None else "earliest", earliest_ms))

    def in_turn(self) -> tuple[int, ...]:
        """Its partitions, each of them first in turn, from page to page too: one that is always full keeps nobody from the others."""
        first = self._turn % len(self.partitions)
        self._turn = first + 1
        return self.partitions[first:] + self.partitions[:first]

    def cursor(self) -> str:
        """The cursor of where it stands."""
        return self.streams.cursors.seal(Cursor(self.what, self.dataset.topic_id or "", self.offsets, self._turn))

    def _checked(self, partitions: Sequence[int] | None, dataset: DatasetView) -> tuple[int, ...]:
        if partitions is None:
            return tuple(range(dataset.partitions))
        if not partitions or max(partitions) >= dataset.partitions:
            raise ExchangeError("invalid_body", f"The dataset has the partitions 0 to {dataset.partitions - 1}.")
        return tuple(sorted(set(partitions)))

    async def _require_topic(self, dataset: DatasetView, *, expired: bool) -> None:
        """An offset means nothing in a topic that was deleted, and made again under its name by somebody else."""
        try:
            if (await self.streams.log.topic(dataset.topic)).id == dataset.topic_id:
                return
        except TopicGone:
            pass
        raise (
            ExchangeError("cursor_expired")
            if expired
            else ExchangeError("log_unavailable", "The topic of this dataset is gone.", headers={"Retry-After": "30"})
        )

    def _earliest_ms(self) -> int:
        """The append time, in milliseconds, of the first record that it may see: 0 is all of them."""
        contract = self.contract
        if contract is None or contract.history == "all":
            return 0
        back = timedelta() if contract.history == "none" else isodate.parse_duration(contract.history)
        return max(0, milliseconds(contract.valid_from) - back // timedelta(milliseconds=1))  # a history may be longer than the calendar

    async def _offsets(self, dataset: DatasetView, partitions: Sequence[int], cursor: str, earliest_ms: int) -> dict[int, int]:
        found = await asyncio.gather(*(self._offset(dataset, partition, cursor, earliest_ms) for partition in partitions))
        return dict(zip(partitions, found, strict=True))

    async def _offset(self, dataset: DatasetView, partition: int, cursor: str, earliest_ms: int) -> int:
        log = self.streams.log
        if cursor == "latest":
            return (await log.bounds(dataset.topic, partition))[1]
        wanted_ms = earliest_ms if cursor == "earliest" else max(earliest_ms, milliseconds(parse_time(cursor)))
        if wanted_ms <= 0:
            return await log.earliest(dataset.topic, partition)
        return await log.offset_at(dataset.topic, partition, wanted_ms)

    async def _earliest_cursor(self, dataset: DatasetView, earliest_ms: int) -> str:
        offsets = await self._offsets(dataset, range(dataset.partitions), "earliest", earliest_ms)
        return self.streams.cursors.seal(Cursor(self.what, dataset.topic_id or "", offsets))

    async def lost_its_place(self, error: OffsetOutOfRange, offset: int) -> ExchangeError:
        """The problem of a reader whose next offset the log no longer has."""
        if offset > error.end:
            return ExchangeError("log_went_back")
        return ExchangeError("cursor_expired", earliest_cursor=await self._earliest_cursor(self.dataset, self._earliest_ms()))


def _is_time(cursor: str) -> bool:
    try:
        parse_time(cursor)
    except ValueError:
        return False
    return True


def _refusal(decision: Decision, contract: ContractView | None) -> ExchangeError:
    code = refusal_code(decision.codes)
    refused = Refused(decision.id, decision.reasons, code)
    if contract is not None and contract.state != "active":
        refused.members |= {"contract_state": contract.state, "ended_reason": contract.ended_reason}
    return refused
