"""Single events at a steady rate, and when each arrives: through the exchange, and through Kafka's own clients.

Plan: does (publish, subscribe, produce, consume), events, first, rate; address, path, token or bootstrap, topic, partitions.
Result: times, by event in order, in seconds on the monotonic clock, which all processes of a machine share. An event's time at the
sender is the one at which it was due, so that a sender that is held up does not hide it.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.benchmarks.load.control import BUFFER_BYTES, Answers, connect, get, post, read_plan, tell, wait_for_go
from tests.benchmarks.material import compact, events
from tests.dpop import Presenter

MEDIA_TYPE = "application/cloudevents+json"
CONNECTIONS = 8
IDENTIFIER = re.compile(rb'"id":"(\d{12})"')
LONGEST_MARKER = 32


def publish(plan: dict[str, Any]) -> None:
    """Each event in a request of its own, over whichever connection is free."""
    requests = [post(plan["path"], plan["token"], MEDIA_TYPE, compact(event)) for event in events(plan["events"], first=plan["first"])]
    selector = selectors.DefaultSelector()
    free: deque[socket.socket] = deque()
    for _ in range(CONNECTIONS):
        connection = connect(plan["address"])
        selector.register(connection, selectors.EVENT_READ, Answers(connection))
        free.append(connection)
    wait_for_go()
    times: list[float] = []
    due: deque[bytes] = deque()
    for moment, request in zip(_moments(plan), requests, strict=True):
        while (left := moment - time.monotonic()) > 0:
            _take_answers(selector, free, left)
            _send(due, free)
        times.append(moment)
        due.append(request)
        _send(due, free)
    while due or len(free) < CONNECTIONS:
        _take_answers(selector, free, None)
        _send(due, free)
    tell({"times": times})


def _send(due: deque[bytes], free: deque[socket.socket]) -> None:
    while due and free:
        free.popleft().sendall(due.popleft())


def _take_answers(selector: selectors.BaseSelector, free: deque[socket.socket], patience: float | None) -> None:
    for key, _ in selector.select(patience):
        if key.data.receive():
            key.data.next()
            free.append(key.fileobj)  # type: ignore[arg-type]


def subscribe(plan: dict[str, Any]) -> None:
    """One stream of server-sent events, from its latest on."""
    connection = connect(plan["address"])
    connection.sendall(get(f"{plan['path']}?cursor=latest", Presenter(plan["token"]), "text/event-stream"))
    head = connection.recv(BUFFER_BYTES)
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head.decode("utf-8", "replace"))
    arrived: dict[int, float] = {}
    kept = b""
    wait_for_go()
    while len(arrived) < plan["events"]:
        got = connection.recv(BUFFER_BYTES)
        now = time.monotonic()
        if not got:
            raise ConnectionError(f"the stream ended after {len(arrived)} events")
        kept += got
        for found in IDENTIFIER.finditer(kept):
            arrived.setdefault(int(found[1]), now)
        kept = kept[-LONGEST_MARKER:]
    tell({"times": [arrived[plan["first"] + number] for number in range(plan["events"])]})


def produce(plan: dict[str, Any]) -> None:
    """`KafkaProducer.send`, which sends at once what it is given."""
    values = [compact(event) for event in events(plan["events"], first=plan["first"])]
    producer = KafkaProducer(bootstrap_servers=plan["bootstrap"], acks="all")
    producer.partitions_for(plan["topic"])
    wait_for_go()
    times = []
    for moment, value in zip(_moments(plan), values, strict=True):
        times.append(moment)
        time.sleep(max(0.0, moment - time.monotonic()))
        producer.send(plan["topic"], value)
    producer.flush(30)
    tell({"times": times})


def consume(plan: dict[str, Any]) -> None:
    """`KafkaConsumer.poll` of all partitions, from their end on."""
    consumer = KafkaConsumer(bootstrap_servers=plan["bootstrap"], enable_auto_commit=False)
    partitions = [TopicPartition(plan["topic"], number) for number in range(plan["partitions"])]
    consumer.assign(partitions)
    consumer.seek_to_end()
    for partition in partitions:
        consumer.position(partition)
    consumer.poll(timeout_ms=100)
    arrived: dict[int, float] = {}
    wait_for_go()
    while len(arrived) < plan["events"]:
        polled = consumer.poll(timeout_ms=1000)
        now = time.monotonic()
        for records in polled.values():
            for record in records:
                if found := IDENTIFIER.search(record.value):
                    arrived[int(found[1])] = now
    tell({"times": [arrived[plan["first"] + number] for number in range(plan["events"])]})


def _moments(plan: dict[str, Any]) -> Iterator[float]:
    """When each event is due."""
    began = time.monotonic() + 0.05
    return (began + number / plan["rate"] for number in range(plan["events"]))


if __name__ == "__main__":
    asked = read_plan()
    {"publish": publish, "subscribe": subscribe, "produce": produce, "consume": consume}[asked["does"]](asked)
