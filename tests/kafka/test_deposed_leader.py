"""The answer of a real leader that has appended a batch, waits for its followers, and is deposed."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import kafka_wire
import pytest
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer
from penstock.errors import NotLeaderOrFollowerError
from penstock.protocol import versions
from penstock.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from support.judges import read_with_kafka_python

TOPIC = "deposed"
TIMEOUT_S = 60
LATEST = -1
DEBUGGER = -2
"""A replica id for which a broker returns the end of its log, not only of the replicated part."""


@pytest.fixture
def cluster() -> Iterator[KafkaCluster]:
    # A silent follower stays in sync for longer than the test takes.
    patient = {"broker.session.timeout.ms": 90_000, "replica.lag.time.max.ms": 90_000}
    with KafkaCluster(nodes=3, heap_mb=320, config=patient, short_lived=True) as three:
        three.create_topic(TOPIC, 1, 3, {"min.insync.replicas": "2"})
        yield three


def log_end(address: tuple[str, int]) -> int:
    """How many records the leader at that address has appended, replicated or not."""
    asked = (ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=LATEST),)
    topics = (ListOffsetsTopic(name=TOPIC, partitions=asked),)
    frame = versions.encode_request(ListOffsetsRequest(replica_id=DEBUGGER, topics=topics), 1, 1, "test")
    with socket.create_connection(address, TIMEOUT_S) as connection, connection.makefile("rb") as stream:
        connection.sendall(len(frame).to_bytes(4, "big") + frame)
        answer = stream.read(int.from_bytes(stream.read(4), "big"))
    _, response = versions.decode_response(ListOffsetsResponse, 1, answer)
    return response.topics[0].partitions[0].offset


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_a_record_refused_by_a_deposed_leader_may_be_in_the_log(cluster: KafkaCluster) -> None:
    """Its answer is NOT_LEADER_OR_FOLLOWER, and its successor has the record: it must not be reported as "not persisted"."""
    with KafkaProducer(
        bootstrap_servers=cluster.bootstrap_servers, enable_idempotence=False, acks="all", retries=0, linger_ms=0
    ) as producer:
        producer.send(TOPIC, b"first").result(TIMEOUT_S)
        leader = cluster.leaders(TOPIC)[0]
        address = cluster.nodes[leader].address
        controller = kafka_wire.active_controller(address)
        silent = next(node for node in cluster.nodes if node not in (leader, controller))
        successor = next(node for node in cluster.nodes if node not in (leader, silent))
        # The leader waits for a follower that is silent and still in sync; the other one has the record.
        cluster.pause(silent)
        try:
            future = producer.send(TOPIC, b"second")
            while log_end(address) < 2:
                assert not future.done(), future
            kafka_wire.reassign(address, TOPIC, {0: [successor, leader, silent]})
            kafka_wire.elect_preferred_leaders(address, TOPIC, [0])
            error = future.exception(TIMEOUT_S)
        finally:
            cluster.resume(silent)
        assert isinstance(error, NotLeaderOrFollowerError)
        assert error.possibly_persisted
        read = read_with_kafka_python(cluster.bootstrap_servers, TOPIC, 2, TIMEOUT_S)
        assert [record.value for record in read] == [b"first", b"second"]
