"""Without errors no Python runs per batch: the control thread sleeps, and the GIL does not matter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer
from support.fixtures import TopicFactory
from support.judges import LOG_APPEND_TIME, read_with_confluent

TIMEOUT_S = 60
VALUE = b"v" * 100

Record = Callable[[str, object], None]


def wakeups_of(producer: KafkaProducer[bytes, bytes], topic: str, count: int) -> int:
    """How often the control thread woke up while `count` records were sent and acknowledged."""
    assert producer._life is not None
    before = producer._life.runtime.wakeups
    send = producer.send
    for _ in range(count):
        send(topic, VALUE)
    producer.flush(TIMEOUT_S)
    return producer._life.runtime.wakeups - before


def test_ten_times_the_records_cause_no_more_control_wake_ups(
    kafka: KafkaCluster, kafka_topic: TopicFactory, record_property: Record
) -> None:
    topic = kafka_topic(4, config={"retention.bytes": str(256 << 20)})
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all", linger_ms=5) as producer:
        wakeups_of(producer, topic, 1_000)  # connections, metadata and identity exist now
        few = wakeups_of(producer, topic, 100_000)
        many = wakeups_of(producer, topic, 1_000_000)
        metrics = producer.metrics()["producer-metrics"]
    record_property("wakeups_100k", few)
    record_property("wakeups_1m", many)
    print(f"\ncontrol thread: {few} wake-ups over 10^5 records, {many} over 10^6")
    assert abs(many - few) < 20
    assert metrics["record-send-total"] == 1_101_000
    assert metrics["record-error-total"] == 0


def test_a_library_that_holds_the_gil_does_not_stop_delivery(
    kafka: KafkaCluster, kafka_topic: TopicFactory, record_property: Record
) -> None:
    """Records that were buffered when the hold began were appended, by Kafka's clock, before it ended.

    They are sent in several requests, so that answers were read and processed as well.
    """
    partitions, count = 20, 20_000
    topic = kafka_topic(partitions, config={"message.timestamp.type": LOG_APPEND_TIME})
    script = Path(__file__).with_name("gil_hold.py")
    arguments = [kafka.bootstrap_servers, topic, str(partitions), str(count)]
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["silence"] > 1.9, "the GIL was not held: the test shows nothing"
    assert (result["before"], result["after"]) == (0, count)
    read = [r for r in read_with_confluent(kafka.bootstrap_servers, topic, partitions + count) if r.value != b"first"]
    assert sorted(int(record.value or b"") for record in read) == list(range(count))
    assert {record.timestamp_type for record in read} == {LOG_APPEND_TIME}
    first, last = min(record.timestamp for record in read), max(record.timestamp for record in read)
    figures = f"appended {first - result['began']} to {last - result['began']} ms after the GIL was taken"
    record_property("gil_hold", figures)
    print(f"\n{count} records {figures}, for {result['ended'] - result['began']} ms")
    assert result["began"] <= first <= last <= result["ended"]


@pytest.mark.parametrize("linger_ms", [0, 5])
def test_an_idle_producer_sleeps(linger_ms: int, kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    """One record at a time, each acknowledged before the next: the thread does not wake up for each."""
    topic = kafka_topic()
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=linger_ms) as producer:
        producer.send(topic, VALUE).result(TIMEOUT_S)
        assert producer._life is not None
        before = producer._life.runtime.wakeups
        for _ in range(100):
            producer.send(topic, VALUE).result(TIMEOUT_S)
        assert producer._life.runtime.wakeups - before < 10
