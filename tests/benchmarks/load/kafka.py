"""The peers: kafka-python's own producer and consumer, each in a loop of its own process.

Plan: does ("produce" or "consume"), bootstrap, topic, partitions, events. Result: seconds, events.
"""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.benchmarks.load.control import read_plan, tell, wait_for_go
from tests.benchmarks.material import compact, events

BATCH_BYTES = 128 * 1024
FETCH_BYTES = 8 * 1024 * 1024
DISTINCT = 2000


def produce(plan: dict[str, Any]) -> None:
    """`send` every event, and wait until all are acknowledged."""
    values = [compact(event) for event in events(DISTINCT)]
    producer = KafkaProducer(bootstrap_servers=plan["bootstrap"], batch_size=BATCH_BYTES, acks="all", **plan.get("options", {}))
    last = producer.send(plan["topic"], values[0])
    before = last.get(30).offset
    send, topic, count = producer.send, plan["topic"], plan["events"]
    wait_for_go()
    began = time.monotonic()
    for number in range(count):
        last = send(topic, values[number % DISTINCT])
    producer.flush(60)
    seconds = time.monotonic() - began
    # The producer is idempotent and the topic has one partition: nothing is acknowledged before what was sent before it.
    if last.get(1).offset != before + count:
        raise ConnectionError("not every event was acknowledged")
    tell({"seconds": seconds, "events": count})


def consume(plan: dict[str, Any]) -> None:
    """`poll` every event of the topic from its beginning."""
    consumer = KafkaConsumer(
        bootstrap_servers=plan["bootstrap"],
        enable_auto_commit=False,
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=FETCH_BYTES // plan["partitions"],
        max_poll_records=10_000,
        **plan.get("options", {}),
    )
    partitions = [TopicPartition(plan["topic"], number) for number in range(plan["partitions"])]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    for partition in partitions:
        consumer.position(partition)
    wait_for_go()
    began = time.monotonic()
    got = 0
    while got < plan["events"]:
        got += sum(map(len, consumer.poll(timeout_ms=1000).values()))
    tell({"seconds": time.monotonic() - began, "events": got})


if __name__ == "__main__":
    asked = read_plan()
    produce(asked) if asked["does"] == "produce" else consume(asked)
