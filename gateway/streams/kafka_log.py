"""The event log on Apache Kafka 4.1 or later, on kafka-python's protocol messages. The only file that imports `kafka`.

Connections carry one kind of work each, because a broker answers the requests of a connection in order: a fetch that waits for events
would hold up whatever stands behind it. Appending is in `kafka_append`, the record batch in `record_batch`.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kafka import errors as kafka_errors
from kafka.protocol.admin import CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse
from kafka.protocol.consumer import FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse
from kafka.protocol.metadata import MetadataRequest, MetadataResponse
from kafka.protocol.producer import InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse
from kafka.record.memory_records import MemoryRecords

from gateway.streams.kafka_append import Appender, Batch, Outcome
from gateway.streams.kafka_connection import DEADLINE_S, Address, ConnectionGone, Connections, NotConnected, Retriable, trying
from gateway.streams.log import (
    MAX_BATCH_BYTES,
    Fetched,
    LogUnavailable,
    OffsetOutOfRange,
    Position,
    Record,
    Topic,
    TopicGone,
    batch_bytes,
)
from gateway.streams.record_batch import CorruptBatch, decode_from
from gateway.streams.shared import Shared

_ANSWER_S = 5.0
_LONGEST_WAIT_MS = 5000
_POLLING_MS = 100
_EARLIEST, _LATEST = -2, -1


@dataclass(frozen=True, slots=True)
class _Known:
    """A topic, the node that leads each partition (-1: none now), and the monotonic time at which that was true."""

    topic: Topic
    leaders: dict[int, int]
    seen: float


def _raise_for(code: int) -> None:
    if code:
        error = kafka_errors.for_code(code)
        raise Retriable(error.__name__) if error.retriable else LogUnavailable(error.__name__)


class _Cluster:
    """The brokers: connections to them, what is known of topics, and the requests that appending makes."""

    def __init__(self, bootstrap: Sequence[Address]) -> None:
        self._bootstrap = list(bootstrap)
        self._nodes: dict[int, Address] = {}
        self._topics: dict[str, _Known] = {}
        self._look_ups = Shared[str, _Known]()
        self._connections = Connections()

    def close(self) -> None:
        self._look_ups.cancel()
        self._connections.close()

    def address(self, node: int) -> Address:
        if node not in self._nodes:
            raise Retriable("no leader")
        return self._nodes[node]

    async def call(self, address: Address, work: str, request: Any, response: Any, timeout_s: float = _ANSWER_S) -> Any:
        """Ask over the connection for this kind of work. Raises `ConnectionGone`."""
        connection = await self._connections.shared(address, work)
        return response.decode(await connection.call(_frame(request), timeout_s=timeout_s), version=request.API_VERSION)

    async def call_any(self, request: Any, response: Any) -> Any:
        """Ask whichever broker answers. Raises `ConnectionGone`."""
        error = ConnectionGone("no broker is known")
        for address in dict.fromkeys([*self._nodes.values(), *self._bootstrap]):
            try:
                return await self.call(address, "control", request, response)
            except ConnectionGone as gone:
                error = gone
        raise error

    async def fetch(self, address: Address, request: Any, deadline: float) -> Any:
        """The answer to a fetch, which the broker may hold back until the monotonic time `deadline`. Raises `ConnectionGone`."""
        left_ms = max(0, min(_LONGEST_WAIT_MS, int((deadline - time.monotonic()) * 1000)))
        async with self._connections.own(address) if left_ms else nullcontext() as connection:
            if connection is not None:
                request.max_wait_ms = left_ms
                frame = await connection.call(_frame(request), timeout_s=left_ms / 1000 + _ANSWER_S)
                return FetchResponse.decode(frame, version=request.API_VERSION)
        answer = await self.call(address, "fetch", request, FetchResponse)
        if left_ms and not answer.responses[0].partitions[0].records:  # every connection that may wait does so: ask again and again
            await asyncio.sleep(min(_POLLING_MS, left_ms) / 1000)
        return answer

    # Topics.

    async def known(self, name: str, topic_id: str | None = None, newer_than: float = 0.0) -> _Known:
        """Raises `TopicGone`, `ConnectionGone`, `Retriable`."""
        known = self._topics.get(name)
        if known is None or known.seen < newer_than or topic_id not in (None, known.topic.id):
            known = await self._look_ups.ask(name, lambda: self._look_up(name))
        if topic_id not in (None, known.topic.id):
            raise TopicGone(name)
        return known

    async def _look_up(self, name: str) -> _Known:
        asked = time.monotonic()
        wanted = MetadataRequest.MetadataRequestTopic(topic_id=UUID(int=0), name=name)
        request = MetadataRequest(topics=[wanted], allow_auto_topic_creation=False, version=12)
        answer = await self.call_any(request, MetadataResponse)
        self._nodes = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
        topic = answer.topics[0]
        if topic.error_code == kafka_errors.UnknownTopicOrPartitionError.errno:
            self._topics.pop(name, None)
            raise TopicGone(name)
        _raise_for(topic.error_code)
        leaders = {partition.partition_index: partition.leader_id for partition in topic.partitions}
        known = self._topics[name] = _Known(Topic(name, str(topic.topic_id), len(leaders)), leaders, asked)
        return known

    # What appending needs (kafka_append.Brokers).

    async def new_producer(self) -> tuple[int, int]:
        async def attempt(_: float) -> tuple[int, int]:
            request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1, version=4)
            answer = await self.call_any(request, InitProducerIdResponse)
            _raise_for(answer.error_code)
            return answer.producer_id, answer.producer_epoch

        return await trying(attempt)

    async def leader(self, topic: str, topic_id: str, partition: int, newer_than: float) -> int:
        try:
            return (await self.known(topic, topic_id, newer_than)).leaders.get(partition, -1)
        except (ConnectionGone, Retriable) as error:
            raise LogUnavailable(str(error)) from error

    def produce(self, node: int, batches: Sequence[Batch], timeout_s: float) -> Awaitable[list[tuple[Outcome, int, str]]]:
        topics: defaultdict[str, list[Any]] = defaultdict(list)
        data = ProduceRequest.TopicProduceData
        for batch in batches:
            topics[batch.lane.topic_id].append(data.PartitionProduceData(index=batch.lane.partition, records=batch.encoded))
        request = ProduceRequest(
            transactional_id=None,
            acks=-1,
            timeout_ms=int(timeout_s * 800),  # the broker's patience ends before ours
            topic_data=[data(topic_id=UUID(topic_id), partition_data=partitions) for topic_id, partitions in topics.items()],
            version=13,
        )
        connection = self._connections.opened(self._nodes.get(node), "produce")
        sent = connection.answered(connection.send(_frame(request)), timeout_s=timeout_s) if connection else None

        async def outcomes() -> list[tuple[Outcome, int, str]]:
            try:
                if sent is None:
                    answer = await self.call(self.address(node), "produce", request, ProduceResponse, timeout_s)
                else:
                    answer = ProduceResponse.decode(await sent, version=request.API_VERSION)
            except (NotConnected, Retriable) as error:
                return [(Outcome.NOT_APPENDED, -1, str(error))] * len(batches)
            except ConnectionGone as error:
                return [(Outcome.UNKNOWN, -1, str(error))] * len(batches)
            results = {(str(topic.topic_id), result.index): result for topic in answer.responses for result in topic.partition_responses}
            return [_outcome(results[batch.lane.topic_id, batch.lane.partition]) for batch in batches]

        return outcomes()


def _frame(request: Any) -> Callable[[int], bytearray]:
    def message(correlation: int) -> bytearray:
        request.with_header(correlation_id=correlation, client_id="civic-exchange")
        frame: bytearray = request.encode(framed=True, header=True)
        return frame

    return message


_UNKNOWN_NUMBERING = (
    kafka_errors.OutOfOrderSequenceNumberError,
    kafka_errors.UnknownProducerIdError,
    kafka_errors.InvalidProducerEpochError,
    kafka_errors.ProducerFencedError,
)
# The leader may have written the batch before it found that it could not answer for it.
_PERHAPS_APPENDED = (
    kafka_errors.UnknownError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.NotEnoughReplicasAfterAppendError,
    kafka_errors.KafkaStorageError,
)


def _outcome(result: Any) -> tuple[Outcome, int, str]:
    """What the answer of the broker means for a batch."""
    if not result.error_code:
        return Outcome.APPENDED, result.base_offset, ""
    error = kafka_errors.for_code(result.error_code)
    if error is kafka_errors.DuplicateSequenceNumberError:
        outcome = Outcome.LOST
    elif error in _UNKNOWN_NUMBERING:
        outcome = Outcome.OUT_OF_SEQUENCE
    elif error in _PERHAPS_APPENDED:
        outcome = Outcome.UNKNOWN
    else:
        outcome = Outcome.NOT_APPENDED if error.retriable else Outcome.REFUSED
    return outcome, -1, error.__name__


def _decode_unusual(buffer: bytes) -> Iterable[Record]:
    """Batches of other producers: compressed, with headers, with timestamps of their own. Control batches hold no events."""
    for batch in MemoryRecords(buffer):
        if not batch.validate_crc():
            raise CorruptBatch("checksum of a batch")
        if not getattr(batch, "is_control_batch", False):
            yield from ((record.offset, record.timestamp, record.key, record.value or b"") for record in batch)


class KafkaLog:
    """`EventLog` on Kafka. `bootstrap` is `host:port`, several with commas; the listener is plaintext and private to the exchange."""

    def __init__(self, bootstrap: str) -> None:
        parts = [address.strip().rpartition(":") for address in bootstrap.split(",")]
        if not all(host and port.isdigit() for host, _, port in parts):
            raise ValueError(f"not host:port: {bootstrap}")
        self._bootstrap = [(host.strip("[]"), int(port)) for host, _, port in parts]

    async def start(self) -> None:
        self._cluster = _Cluster(self._bootstrap)
        self._appender = Appender(self._cluster)
        self._earliest = Shared[tuple[str, int], int]()

    async def stop(self) -> None:
        await self._appender.drain(DEADLINE_S / 2)
        self._cluster.close()

    async def ensure_topic(self, name: str, *, partitions: int, retention_ms: int | None) -> Topic:
        configs = {
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_BATCH_BYTES + 64 * 1024),
            "retention.ms": str(-1 if retention_ms is None else retention_ms),
        }
        creatable = CreateTopicsRequest.CreatableTopic
        topic = creatable(
            name=name,
            num_partitions=partitions,
            replication_factor=-1,
            assignments=[],
            configs=[creatable.CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
        )

        async def create(_: float) -> None:
            request = CreateTopicsRequest(topics=[topic], timeout_ms=int(_ANSWER_S * 1000), version=7)
            answer = await self._cluster.call_any(request, CreateTopicsResponse)
            if answer.topics[0].error_code != kafka_errors.TopicAlreadyExistsError.errno:
                _raise_for(answer.topics[0].error_code)

        async def led(_: float) -> Topic:
            known = await self._cluster.known(name, newer_than=time.monotonic())
            if -1 in known.leaders.values():
                raise Retriable("no leader yet")
            return known.topic

        try:
            return await trying(led)
        except TopicGone:
            await trying(create)
        deadline = time.monotonic() + DEADLINE_S
        while True:  # until the broker that we ask has heard of it
            try:
                return await trying(led)
            except TopicGone as error:
                if time.monotonic() > deadline:
                    raise LogUnavailable(f"{name} was created and does not appear") from error
            await asyncio.sleep(0.02)

    async def topic(self, name: str) -> Topic:
        return (await self._known(name, None, time.monotonic() - 1)).topic

    async def delete_topic(self, name: str) -> None:
        async def delete(_: float) -> None:
            state = DeleteTopicsRequest.DeleteTopicState(name=name, topic_id=UUID(int=0))
            request = DeleteTopicsRequest(topics=[state], timeout_ms=int(_ANSWER_S * 1000), version=6)
            answer = await self._cluster.call_any(request, DeleteTopicsResponse)
            if answer.responses[0].error_code != kafka_errors.UnknownTopicOrPartitionError.errno:
                _raise_for(answer.responses[0].error_code)

        async def still_there(_: float) -> None:
            self._appender.forget((await self._cluster.known(name, newer_than=time.monotonic())).topic.id)
            raise Retriable(f"{name} was deleted and is still there")

        await trying(delete)
        try:
            await trying(still_there)
        except TopicGone:
            return

    async def append(
        self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes]], *, topic_id: str | None = None
    ) -> Position:
        size, known = batch_bytes(records), await self._known(topic, topic_id)
        return await self._appender.append(topic, known.topic.id, partition, _leader(known, partition), records, size)

    async def fetch(self, topic: str, partition: int, offset: int, *, max_bytes: int, wait_ms: int, topic_id: str | None = None) -> Fetched:
        deadline = time.monotonic() + wait_ms / 1000

        async def attempt(failed: float) -> tuple[Fetched, int]:
            known = await self._cluster.known(topic, topic_id, failed)
            address = self._cluster.address(_leader(known, partition))
            request = _fetch_request(UUID(known.topic.id), partition, offset, max_bytes)
            until = min(deadline, failed + 1) if failed else deadline  # after a failure a short wait tells whether the broker is back
            return _fetched(await self._cluster.fetch(address, request, until), offset)

        while True:
            try:
                fetched, offset = await trying(attempt)
            except kafka_errors.OffsetOutOfRangeError as error:
                raise OffsetOutOfRange(*await self.bounds(topic, partition)) from error
            if fetched.records or time.monotonic() >= deadline:
                return fetched

    async def earliest(self, topic: str, partition: int) -> int:
        # A hundred subscribers that come at once, as after a restart, would ask a hundred times for each partition.
        return await self._earliest.ask((topic, partition), lambda: self._offset(topic, partition, _EARLIEST))

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        earliest, end = await asyncio.gather(self._offset(topic, partition, _EARLIEST), self._offset(topic, partition, _LATEST))
        return earliest, end

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        offset = await self._offset(topic, partition, max(0, timestamp_ms))
        return offset if offset >= 0 else await self._offset(topic, partition, _LATEST)

    async def ping(self) -> None:
        request = MetadataRequest(topics=[], allow_auto_topic_creation=False, version=12)
        try:
            async with asyncio.timeout(1):
                await self._cluster.call_any(request, MetadataResponse)
        except (ConnectionGone, TimeoutError) as error:
            raise LogUnavailable(str(error) or "no answer within a second") from error

    async def _known(self, topic: str, topic_id: str | None, newer_than: float = 0.0) -> _Known:
        async def attempt(failed: float) -> _Known:
            return await self._cluster.known(topic, topic_id, max(failed, newer_than))

        return await trying(attempt)

    async def _offset(self, topic: str, partition: int, timestamp: int) -> int:
        async def attempt(failed: float) -> int:
            known = await self._cluster.known(topic, None, failed)
            asked = ListOffsetsRequest.ListOffsetsTopic
            wanted = asked.ListOffsetsPartition(partition_index=partition, timestamp=timestamp)
            request = ListOffsetsRequest(replica_id=-1, topics=[asked(name=topic, partitions=[wanted])], version=7)
            address = self._cluster.address(_leader(known, partition))
            result = (await self._cluster.call(address, "fetch", request, ListOffsetsResponse)).topics[0].partitions[0]
            _raise_for(result.error_code)
            return int(result.offset)

        return await trying(attempt)


def _leader(known: _Known, partition: int) -> int:
    if partition not in known.leaders:
        raise ValueError(f"{known.topic.name} has no partition {partition}")
    return known.leaders[partition]


def _fetch_request(topic_id: UUID, partition: int, offset: int, max_bytes: int) -> Any:
    topic = FetchRequest.FetchTopic
    wanted = topic.FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=max_bytes)
    topics = [topic(topic_id=topic_id, partitions=[wanted])]
    return FetchRequest(max_wait_ms=0, min_bytes=1, max_bytes=max_bytes, topics=topics, version=13)


def _fetched(answer: Any, offset: int) -> tuple[Fetched, int]:
    """The records of an answer, and the offset from which to go on. Raises `Retriable`, `OffsetOutOfRangeError`, `LogUnavailable`."""
    _raise_for(answer.error_code)
    result = answer.responses[0].partitions[0]
    if result.error_code == kafka_errors.OffsetOutOfRangeError.errno:
        raise kafka_errors.OffsetOutOfRangeError
    _raise_for(result.error_code)
    try:
        records, reached = decode_from(bytes(result.records or b""), offset, _decode_unusual)
    except CorruptBatch as error:
        raise LogUnavailable(str(error)) from error
    return Fetched(records, result.log_start_offset, result.high_watermark), reached
