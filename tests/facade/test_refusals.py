"""Temporary refusals of a cluster: of a topic, of an identity. They affect only their subject and end with their cause."""

from __future__ import annotations

from typing import Any

import pytest
from facade_support import SOON_S, Log, MakeProducer

from penstock import KafkaProducer, errors
from penstock.devbroker import Faults, RunningCluster


def test_a_denied_topic_is_requested_again_by_the_next_send(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    faults.add("Metadata", topic=topic, error=29)
    with pytest.raises(errors.TopicAuthorizationError):
        producer.send(topic, b"denied")
    assert producer.send(topic, b"granted").result(SOON_S).offset == 0


def test_a_topic_that_stays_denied_fails_each_send(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    faults.add("Metadata", topic=topic, error=29, times=1000)
    for _ in range(3):
        with pytest.raises(errors.TopicAuthorizationError):
            producer.send(topic, b"denied")


@pytest.mark.parametrize("code", [3, 5, 29], ids=["unknown", "without leader", "denied"])
def test_a_topic_in_use_survives_a_metadata_error(
    new_producer: MakeProducer, topic: str, faults: Faults, cluster: RunningCluster, code: int
) -> None:
    """The answer after the error equals the one before it, and still ends the error."""
    producer = new_producer(retry_backoff_ms=5, retry_backoff_max_ms=20, max_block_ms=5_000)
    assert producer.send(topic, b"before").result(SOON_S).offset == 0
    asked = cluster.requests.count("Metadata")
    faults.add("Metadata", topic=topic, error=code)
    faults.add("Produce", topic=topic, error=6)  # causes a metadata request
    assert producer.send(topic, b"meanwhile").result(SOON_S).offset == 1
    cluster.requests.wait_for("Metadata", asked + 2)
    assert not faults.pending
    assert producer.send(topic, b"after").result(SOON_S).offset == 2


def test_a_refused_identity_fails_buffered_records_and_the_producer_recovers(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log
) -> None:
    faults.add("InitProducerId", error=31, times=1000)
    producer = new_producer(retry_backoff_ms=5, retry_backoff_max_ms=20)
    refused = producer.send(topic, b"refused").exception(SOON_S)
    assert type(refused) is errors.ClusterAuthorizationError
    assert (refused.possibly_persisted, refused.stage) == (False, "linger")
    faults.clear()
    while (error := producer.send(topic, b"granted").exception(SOON_S)) is not None:
        assert type(error) is errors.ClusterAuthorizationError, "a refusal that was still in flight"
    assert log.values(topic) == [b"granted"]
