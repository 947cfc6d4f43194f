"""Clusters that change: all brokers replaced, a topic recreated, partitions added, frozen and idle connections."""

from __future__ import annotations

import pytest
from facade_support import SOON_S, Log, MakeProducer, MakeTopic, eventually, numbered

from penstock import KafkaProducer, KafkaTimeoutError, errors
from penstock._reader import Reader
from penstock.devbroker import DevCluster, Faults, RunningCluster


def test_when_every_known_broker_is_replaced_it_bootstraps_again() -> None:
    with DevCluster.running(nodes=2) as old, DevCluster.running(nodes=2) as new:
        for cluster in (old, new):
            cluster.create_topic("orders")
        with KafkaProducer(
            bootstrap_servers=[*old.bootstrap_servers.split(","), *new.bootstrap_servers.split(",")],
            reconnect_backoff_ms=5,
            reconnect_backoff_max_ms=20,
        ) as producer:
            # It may have found either of the two first; that one stops.
            producer.send("orders", b"before").result(SOON_S)
            first, second = (old, new) if sum(old.end_offsets("orders").values()) else (new, old)
            first.stop()
            values = numbered(100)
            futures = [producer.send("orders", value) for value in values]
            assert [future.result(SOON_S).offset for future in futures] == list(range(100))
        with Reader(second.bootstrap_servers, "orders", until_end=True) as reader:
            assert [record.value for record in reader] == values


@pytest.mark.parametrize("partitions", [2, 1], ids=["as many partitions", "fewer partitions"])
def test_a_recreated_topic_is_written_to_under_its_new_id(
    new_producer: MakeProducer, new_topic: MakeTopic, cluster: RunningCluster, log: Log, partitions: int
) -> None:
    topic = new_topic(2)
    producer = new_producer(retry_backoff_ms=5, retry_backoff_max_ms=20)
    for partition in (0, 1):
        producer.send(topic, b"gone with the old one", partition=partition).result(SOON_S)
    cluster.delete_topic(topic)
    cluster.create_topic(topic, partitions)
    values = numbered(50)
    futures = [producer.send(topic, value, partition=0) for value in values]
    assert [future.result(SOON_S).offset for future in futures] == list(range(50))
    assert log.values(topic) == values


def test_records_for_a_removed_partition_fail_by_their_deadline_with_a_reason(
    new_producer: MakeProducer, new_topic: MakeTopic, cluster: RunningCluster
) -> None:
    topic = new_topic(2)
    producer = new_producer(
        retry_backoff_ms=5,
        retry_backoff_max_ms=20,
        delivery_timeout_ms=600,
        request_timeout_ms=600,
        linger_ms=0,
        max_block_ms=2_000,
    )
    producer.send(topic, b"gone with the old one", partition=1).result(SOON_S)
    cluster.delete_topic(topic)
    cluster.create_topic(topic, 1)
    # This record's error makes the producer read the new topic's metadata.
    error = producer.send(topic, b"nowhere", partition=1).exception(SOON_S)
    assert isinstance(error, KafkaTimeoutError)
    assert error.possibly_persisted is False
    # The producer has the new metadata now: a later record for that partition is refused by `send`.
    with pytest.raises(KafkaTimeoutError, match=r"partition 1 of topic .* does not exist: it has 1 partition"):
        producer.send(topic, b"nowhere", partition=1)
    assert producer.send(topic, b"somewhere", partition=0).result(SOON_S).offset == 0


def test_records_without_a_key_go_to_added_partitions(
    new_producer: MakeProducer, topic: str, cluster: RunningCluster, log: Log
) -> None:
    producer = new_producer(metadata_max_age_ms=100, batch_size=100, linger_ms=0)
    producer.send(topic, b"first").result(SOON_S)
    cluster.add_partitions(topic, 3)
    eventually(lambda: producer.send(topic, bytes(90)).result(SOON_S).partition == 2)
    assert len(producer.partitions_for(topic)) == 3


def test_a_frozen_broker_delays_its_own_partitions_only(
    new_producer: MakeProducer, new_topic: MakeTopic, cluster: RunningCluster, faults: Faults
) -> None:
    topic = new_topic(3)
    leaders = {partition: leader for partition, (leader, _) in cluster.leaders(topic).items()}
    assert sorted(leaders.values()) == [1, 2, 3]
    producer = new_producer(linger_ms=0, batch_size=1_000)
    for partition in leaders:
        producer.send(topic, b"first", partition=partition).result(SOON_S)
    thaw = faults.add("Produce", node=1, delay_ms=1_500)
    # Five requests are unanswered: everything else for this broker waits.
    frozen = next(partition for partition, leader in leaders.items() if leader == 1)
    held = [producer.send(topic, bytes(900), partition=frozen) for _ in range(8)]
    eventually(lambda: thaw.met)
    for partition in leaders.keys() - {frozen}:
        for _ in range(20):
            producer.send(topic, bytes(900), partition=partition).result(SOON_S)
    assert not held[0].done(), "all of this took less time than one request of the frozen broker"
    for future in held:
        future.result(SOON_S)


def test_idle_connections_are_closed_silently_and_opened_again(
    new_producer: MakeProducer, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    producer = new_producer(connections_max_idle_ms=200, linger_ms=0)
    for number in range(2):
        assert producer.send(topic, b"value").result(SOON_S).offset == number
        eventually(lambda: producer.metrics()["producer-metrics"]["connection-count"] == 0)
    metrics = producer.metrics()["producer-metrics"]
    assert metrics["connection-close-total"] == metrics["connection-creation-total"] >= 3
    assert caplog.text == ""


# --------------------------------------------------------------------------------------------------------------- expiry


@pytest.mark.parametrize("appended", [True, False], ids=["appended", "not appended"])
def test_records_behind_an_expired_one_arrive_once_and_in_order(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, appended: bool
) -> None:
    producer = new_producer(
        delivery_timeout_ms=600, request_timeout_ms=600, linger_ms=0, batch_size=1_000, retry_backoff_ms=5
    )
    producer.send(topic, b"first").result(SOON_S)
    code = 0 if appended else errors.NotEnoughReplicasError.code or 0
    lost = faults.add("Produce", topic=topic, error=code, drop="silent")
    expired = producer.send(topic, b"expired")
    eventually(lambda: lost.met)
    error = expired.exception(SOON_S)
    assert isinstance(error, KafkaTimeoutError)
    assert (error.stage, error.possibly_persisted) == ("in flight", True)
    values = numbered(20)
    for value in values:
        producer.send(topic, value)
    producer.flush(SOON_S)
    assert log.values(topic) == [b"first", *([b"expired"] if appended else []), *values]
