"""`send_many` and `send_arrow` with compression: batches that grow, go to the codecs, wait for memory, are split."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from facade_support import Log, MakeProducer, MakeTopic, numbered

from penstock import BulkResult, KafkaProducer
from penstock.devbroker import Faults, RunningCluster
from penstock.protocol.records import CODECS

TEXT = b'{"name": "Ada Lovelace", "occupation": "mathematician"}, ' * 4

# Batches behind a split batch back off, and there are dozens of them.
QUICK = {"retry_backoff_ms": 5, "retry_backoff_max_ms": 20}

Send = Callable[..., BulkResult]


def send_many(
    producer: KafkaProducer[Any, Any], topic: str, values: list[bytes], keys: list[bytes] | None
) -> BulkResult:
    return producer.send_many(topic, values, keys=keys)


def send_arrow(
    producer: KafkaProducer[Any, Any], topic: str, values: list[bytes], keys: list[bytes] | None
) -> BulkResult:
    table = pa.table({"v": values} if keys is None else {"v": values, "k": keys})
    return producer.send_arrow(topic, table, value="v", key=None if keys is None else "k")


pytestmark = [pytest.mark.parametrize("send", [send_many, send_arrow]), pytest.mark.parametrize("codec", CODECS)]


def texts(count: int) -> list[bytes]:
    return [b"%d %s" % (number, TEXT[: number % 200]) for number in range(count)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 0},
        {"batch_size": 100},
        {"buffer_memory": 20_000, "batch_size": 4_000},
        # Less than the first chunk, so that the call itself waits within it.
        {"buffer_memory": 5_000, "batch_size": 5_000},
    ],
    ids=str,
)
def test_bulk_records_are_read_back_in_order(
    send: Send, codec: str, options: dict[str, int], topic: str, new_producer: MakeProducer, log: Log
) -> None:
    producer = new_producer(compression_type=codec, **options)
    sent = texts(600 if options else 6_000)
    result = send(producer, topic, sent, None)
    result.raise_for_errors()
    assert list(result.offsets) == list(range(len(sent)))
    assert log.values(topic) == sent
    metrics = producer.metrics()["producer-metrics"]
    assert metrics["buffer-available-bytes"] == producer.config["buffer.memory"]
    if not options:
        assert metrics["compression-rate-avg"] == 1 if codec == "none" else 0 < metrics["compression-rate-avg"] < 0.6


@pytest.mark.parametrize("options", [{}, {"batch_size": 100}, {"buffer_memory": 20_000, "batch_size": 2_000}], ids=str)
def test_keyed_records_keep_their_partitions_and_order(
    send: Send, codec: str, options: dict[str, int], new_topic: MakeTopic, new_producer: MakeProducer, log: Log
) -> None:
    topic, plain = new_topic(5), new_topic(5)
    sent, keys = texts(1_000), numbered(1_000)
    result = send(new_producer(compression_type=codec, **options), topic, sent, keys)
    result.raise_for_errors()
    expected = new_producer().send_many(plain, sent, keys=keys)
    expected.raise_for_errors()
    assert list(result.partitions) == list(expected.partitions)
    assert list(result.offsets) == list(expected.offsets)
    assert log.by_partition(topic) == log.by_partition(plain)


def test_batches_grow_when_the_topic_compresses_well(
    send: Send, codec: str, topic: str, new_producer: MakeProducer, cluster: RunningCluster, log: Log
) -> None:
    producer = new_producer(compression_type=codec, batch_size=2_000, penstock_batch_growth_max_bytes=0)
    sent = [bytes(100)] * 100
    requests: list[int] = []
    # A full batch lowers the estimate by half a per cent at most. A lone partition has a request for each of its batches.
    for _ in range(60):
        cluster.requests.clear()
        send(producer, topic, sent, None).raise_for_errors()
        requests.append(cluster.requests.count("Produce"))
    assert log.count(topic) == 6_000
    assert requests[0] in (6, 7)
    assert requests[-1] == requests[0] if codec == "none" else requests[-1] <= 2


def test_a_batch_that_is_too_large_is_split(
    send: Send, codec: str, new_topic: MakeTopic, new_producer: MakeProducer, log: Log
) -> None:
    topic = new_topic(max_message_bytes="2000")
    producer = new_producer(compression_type=codec, batch_size=100_000, linger_ms=50, **QUICK)
    sent = [random.Random(number).randbytes(400) for number in range(200)]
    result = send(producer, topic, sent, None)
    called: list[BulkResult] = []
    result.add_done_callback(called.append)
    producer.flush()
    assert called == [result]
    result.raise_for_errors()
    assert list(result.offsets) == list(range(200))
    assert log.values(topic) == sent
    assert producer.metrics()["producer-metrics"]["batch-split-total"] > 0


def test_a_lost_answer_makes_no_duplicate(
    send: Send, codec: str, topic: str, new_producer: MakeProducer, faults: Faults, log: Log
) -> None:
    faults.add(api="Produce", drop="close", times=2)
    producer = new_producer(compression_type=codec, **QUICK)
    sent = texts(3_000)
    send(producer, topic, sent, None).raise_for_errors()
    assert log.values(topic) == sent
