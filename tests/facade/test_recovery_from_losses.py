"""Recovery from lost connections, in small: all records arrive once, with few requests, and no broker is hammered.

`make bench-network ROWS=faults-reset,outage-restart` measures how long it takes, against a real Kafka.
"""

from __future__ import annotations

import time
from random import Random
from typing import Any

import pytest
from facade_support import SOON_S, Log, MakeProducer, MakeTopic, numbered

from penstock.devbroker import Faults, RunningCluster

PARTITIONS = 3


@pytest.mark.parametrize("trouble", [{"drop": "close"}, {"close": True}], ids=["lost answers", "lost requests"])
def test_half_of_all_requests_are_lost(
    new_producer: MakeProducer,
    new_topic: MakeTopic,
    cluster: RunningCluster,
    faults: Faults,
    log: Log,
    trouble: dict[str, Any],
) -> None:
    topic = new_topic(PARTITIONS)
    producer = new_producer(batch_size=2_000, reconnect_backoff_ms=5, reconnect_backoff_max_ms=20)
    producer.partitions_for(topic)
    random, losses = Random(7), 0
    for _ in range(40):
        lost = random.random() < 0.5
        losses += lost
        faults.add("Produce", topic=topic, **(trouble if lost else {}))
    values = numbered(3_000)
    futures = [producer.send(topic, value, partition=number % PARTITIONS) for number, value in enumerate(values)]
    assert [future.result(SOON_S).offset for future in futures] == [number // PARTITIONS for number in range(3_000)]
    assert log.by_partition(topic) == {number: values[number::PARTITIONS] for number in range(PARTITIONS)}
    retries = producer.metrics()["producer-metrics"]["record-retry-total"]
    # A loss costs one batch of each lane, about 83 records, but for the first one, which costs up to five.
    assert retries <= 500 * losses


def test_a_broker_that_drops_each_produce_is_not_hammered(
    new_producer: MakeProducer, topic: str, cluster: RunningCluster, faults: Faults
) -> None:
    producer = new_producer(linger_ms=0, delivery_timeout_ms=2_000, request_timeout_ms=2_000)
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, drop="close", times=1_000)
    began = time.monotonic()
    error = producer.send(topic, b"x").exception(SOON_S)
    assert error is not None
    assert error.possibly_persisted
    # At 0, 50, 150, 350, 750, 1,550 ms, or up to a fifth sooner: the backoff grows although each handshake passes.
    assert cluster.requests.count("Produce") <= 7 + (time.monotonic() - began - 2)
