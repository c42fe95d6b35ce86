"""Publish: from a provider's request to acknowledged, audited positions, in seven steps."""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from prometheus_client import Counter

from gateway.access.decision import Decision
from gateway.access.facts import Question
from gateway.audit.published import Published
from gateway.audit.record import Entry, Ranges, Receipt
from gateway.catalog.directory import DatasetView
from gateway.catalog.schemas import steps_of, value_at
from gateway.errors import ExchangeError, Refused
from gateway.identity.principal import Principal
from gateway.streams.events import check, check_size, encode
from gateway.streams.live import Streams
from gateway.streams.log import MAX_BATCH_BYTES, MAX_BATCH_RECORDS, LogUnavailable, Position, TopicGone, bytes_of
from gateway.streams.sealing import seal_fields
from gateway.streams.subjects import replace_subjects

published = Counter("exchange_events_published_total", "Events that the log acknowledged, by dataset.", ["dataset"])


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What the log took, and the receipt of its audit entry; both empty where the call only validated."""

    accepted: int
    positions: Sequence[Position]
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class _Part:
    """What one append takes: the indexes of its events in the request, and its records."""

    partition: int
    indexes: Sequence[int]
    records: list[tuple[bytes, bytes]]


async def publish(
    streams: Streams, caller: Principal, dataset: DatasetView, events: list[dict[str, Any]], *, validate_only: bool
) -> Acknowledged:
    """Check, prepare, append, record. Nothing is appended unless every event fits. `events` is emptied on the way.

    Raises `policy_denied`, `event_does_not_fit`, `subject_attribute_personal`, `body_too_large`, `sealing_unavailable`,
    `partly_appended`, `log_unavailable`, `audit_unavailable`. After the last two what was sent may stand in the log; `source` and `id`
    tell a repeated event.
    """
    # (1) the caller's organization owns the dataset, and (2) policy lets this client publish
    decision = await _decide(streams, caller, dataset)
    # (3) every event fits
    check(events, dataset)
    # (4) whoever it is about becomes an sref, and what is to be sealed is sealed under that person's key
    await replace_subjects(streams, dataset, events)
    await seal_fields(streams.subject_keys, dataset, events)
    parts = _cut(streams, dataset, events)
    count = len(events)
    events.clear()  # before the wait: the next request builds its events in the same memory, while it is warm
    if validate_only:
        return Acknowledged(0, (), None)
    async with streams.gate.publishing():
        # (5) the log
        positions = await _append(streams, dataset, parts, count)
        # (6) the audit entry, durable before (7) the answer
        receipt = await _record(streams, caller, dataset, decision, positions)
    published.labels(dataset.slug).inc(count)
    return Acknowledged(count, positions, receipt)


async def _decide(streams: Streams, caller: Principal, dataset: DatasetView) -> Decision:
    question = Question("publish", caller, dataset, None, None)
    decision = streams.access.kept(question)
    if decision is None:
        decision = await streams.decided(question)
    if not decision.allow:
        raise Refused(decision.id, decision.reasons)
    return decision


def _cut(streams: Streams, dataset: DatasetView, events: list[dict[str, Any]]) -> list[_Part]:
    """The records of each partition, in the order of the request, in parts that the log takes whole."""
    for event in events:
        event.pop("dataschema", None)
        event["schemaversion"] = dataset.current
    values = encode(events)
    keys = _keys(streams, dataset, events)
    check_size(keys, values)
    records = list(zip(keys, values, strict=True))
    if dataset.partitions == 1:
        return list(_parts(0, range(len(records)), records))
    by_partition: dict[int, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        by_partition[zlib.crc32(key) % dataset.partitions].append(index)
    return [part for partition, indexes in by_partition.items() for part in _parts(partition, indexes, records)]


def _parts(partition: int, indexes: Sequence[int], records: list[tuple[bytes, bytes]]) -> Iterator[_Part]:
    """These records of the request, divided where the log would not take them in one append."""
    whole = [records[index] for index in indexes]
    if len(whole) <= MAX_BATCH_RECORDS and bytes_of(whole) <= MAX_BATCH_BYTES:  # nearly always
        yield _Part(partition, indexes, whole)
        return
    first, size = 0, 0
    for end, record in enumerate(whole):
        length = bytes_of([record])
        if first < end and (size + length > MAX_BATCH_BYTES or end - first == MAX_BATCH_RECORDS):
            yield _Part(partition, indexes[first:end], whole[first:end])
            first, size = end, 0
        size += length
    yield _Part(partition, indexes[first:], whole[first:])


def _keys(streams: Streams, dataset: DatasetView, events: list[dict[str, Any]]) -> list[bytes]:
    """The partition key of each event: `partitionkey`, else the value at the dataset's key pointer, else `source`.

    In a dataset about people a key that the publisher made up could name one: it is hashed under the exchange's key.
    """
    at_pointer = _reader(dataset.key_pointer)
    about_people = dataset.subject_pointer is not None or bool(dataset.personal_pointers)
    keys: list[bytes] = []
    for event in events:
        made_up = event.get("partitionkey")
        if made_up is None:
            keys.append(at_pointer(event).encode())
        elif about_people:
            keys.append(streams.keys.secret("subject_index").mac(b"partition key", str(made_up).encode())[:16].hex().encode())
        else:
            keys.append(str(made_up).encode())
    return keys


def _reader(pointer: str | None) -> Callable[[dict[str, Any]], str]:
    """What gives an event's key by the dataset's key pointer (RFC 6901); `source` where there is no plain value at it."""
    if not pointer:
        return itemgetter("source")
    path = steps_of(pointer)

    def read(event: dict[str, Any]) -> str:
        value = value_at(event["data"], path)
        return str(value) if isinstance(value, (str, int, float)) else event["source"]

    return read


async def _append(streams: Streams, dataset: DatasetView, parts: list[_Part], count: int) -> list[Position]:
    """Append the parts: those of one partition in order, partitions at once. Raises `log_unavailable`, `partly_appended`."""
    by_partition: dict[int, list[_Part]] = defaultdict(list)
    for part in parts:
        by_partition[part.partition].append(part)
    done: list[tuple[_Part, Position]] = []
    failures: list[BaseException] = []

    async def append_in_order(of_partition: list[_Part]) -> None:
        for part in of_partition:
            try:
                done.append((part, await streams.log.append(dataset.topic, part.partition, part.records, topic_id=dataset.topic_id)))
            except (LogUnavailable, TopicGone) as error:
                failures.append(error)
                return

    if len(parts) == 1:
        await append_in_order(parts)
    else:
        await asyncio.gather(*map(append_in_order, by_partition.values()))
    if not failures:
        return [position for _, position in done]
    streams.gate.something_may_lack_its_entry()
    if not done:
        raise ExchangeError("log_unavailable", headers={"Retry-After": "2"}) from failures[0]
    stands = {index for part, _ in done for index in part.indexes}
    raise ExchangeError(
        "partly_appended",
        f"{len(stands)} of {count} events are appended.",
        headers={"Retry-After": "2"},
        positions=[shown(position) for _, position in done],
        errors=[{"pointer": f"/{index}", "detail": "was not acknowledged; send it again"} for index in range(count) if index not in stands],
    ) from failures[0]


async def _record(streams: Streams, caller: Principal, dataset: DatasetView, decision: Decision, positions: list[Position]) -> Receipt:
    """One entry that names the positions. Parts of a partition stand in one span; what others put between is named twice."""
    grant: dict[int, tuple[int, int]] = {}
    for position in positions:
        first, after = grant.get(position.partition, (position.first, 0))
        grant[position.partition] = (min(first, position.first), max(after, position.first + position.count))
    entry = Entry(
        kind="publish",
        action="publish",
        actor=caller.actor,
        organization=caller.organization_id,
        dataset=dataset.slug,
        decision=decision.id,
        revision=decision.revision,
        change=streams.changes.applied,
        ranges=Ranges(grant, {partition: after - 1 for partition, (_, after) in grant.items()}),
        provider=dataset.owner_id,
    )
    named = [
        Published(dataset.topic_id or "", position.partition, position.first, position.first + position.count) for position in positions
    ]
    try:
        return await streams.audit.release(entry, named)
    except ExchangeError:
        streams.gate.something_may_lack_its_entry()
        raise


def shown(position: Position) -> dict[str, int]:
    """A position as the wire shows it."""
    return {"partition": position.partition, "first": position.first, "count": position.count}
