"""Produce in every version that Penstock and Kafka 4.4 support; and brokers that support only older versions."""

from __future__ import annotations

import dataclasses

import pytest
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer, ProducerRecord
from penstock.control.peers import Peer
from penstock.devbroker import DevCluster
from penstock.devbroker.handlers import HANDLERS, api_versions
from penstock.protocol.message import Api
from penstock.protocol.messages import index
from support.fixtures import TopicFactory
from support.judges import read_with_confluent, read_with_kafka_python
from support.sent import Sent, check

TIMEOUT_S = 30
VERSIONS = range(3, 14)
PARTITIONS = 3

RELEASES = {
    # Kafka's release: the newest versions of its APIs, from its own ApiVersions.
    "2.1": {"Produce": 7, "Fetch": 10, "Metadata": 7, "ApiVersions": 2, "InitProducerId": 1, "ListOffsets": 4},
    "2.4": {"Produce": 8, "Fetch": 11, "Metadata": 9, "ApiVersions": 3, "InitProducerId": 2, "ListOffsets": 5},
    "2.8": {"Produce": 9, "Fetch": 12, "Metadata": 11, "ApiVersions": 3, "InitProducerId": 4, "ListOffsets": 6},
    "3.7": {"Produce": 10, "Fetch": 16, "Metadata": 12, "ApiVersions": 3, "InitProducerId": 5, "ListOffsets": 8},
    "4.0": {"Produce": 12, "Fetch": 17, "Metadata": 13, "ApiVersions": 4, "InitProducerId": 5, "ListOffsets": 10},
}


def produce(bootstrap: str, topic: str, acks: str) -> list[Sent]:
    """Some batches for each partition, with all features of records."""
    with KafkaProducer(
        bootstrap_servers=bootstrap, acks=acks, enable_idempotence=acks == "all", linger_ms=5, batch_size=2_000
    ) as producer:
        records = [
            ProducerRecord(
                topic, b"%d" % n, key=b"k%d" % n, partition=n % PARTITIONS, headers=[("h", None), ("n", b"")]
            )
            for n in range(600)
        ]
        futures = [producer.send(record) for record in records]
        return [(record, future.result(TIMEOUT_S)) for record, future in zip(records, futures, strict=True)]


@pytest.fixture
def produce_version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """No newer Produce than this is negotiated."""
    version: int = request.param
    negotiate = Peer.negotiate

    def no_newer(peer: Peer, api: Api) -> int:
        return min(negotiate(peer, api), version) if api is index.PRODUCE else negotiate(peer, api)

    monkeypatch.setattr(Peer, "negotiate", no_newer)
    return version


@pytest.mark.parametrize("acks", ["all", "1"])
@pytest.mark.parametrize("produce_version", VERSIONS, indirect=True)
def test_real_kafka_accepts_every_version(
    produce_version: int, acks: str, kafka: KafkaCluster, kafka_topic: TopicFactory
) -> None:
    topic = kafka_topic(PARTITIONS)
    sent = produce(kafka.bootstrap_servers, topic, acks)
    check(sent, read_with_confluent(kafka.bootstrap_servers, topic, len(sent)), ordered=acks == "all")


@pytest.mark.parametrize("produce_version", VERSIONS, indirect=True)
def test_the_forced_version_is_sent(produce_version: int) -> None:
    """The version of the test above is the one that is sent: the embedded broker lists the versions of its requests."""
    with DevCluster.running() as cluster:
        cluster.create_topic("t", partitions=PARTITIONS)
        sent = produce(cluster.bootstrap_servers, "t", "all")
        assert {request.version for request in cluster.requests.latest("Produce")} == {produce_version}
        check(sent, read_with_confluent(cluster.bootstrap_servers, "t", len(sent)))


@pytest.mark.parametrize("release", RELEASES)
def test_older_brokers(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All APIs as old as in that release: ApiVersions falls back (KIP-511), topics are sent by name, leaders come late."""
    limits = RELEASES[release]
    for key, handler in list(HANDLERS.items()):
        if handler.api.name in limits:
            older = dataclasses.replace(handler, max_version=limits[handler.api.name])
            monkeypatch.setitem(HANDLERS, key, older)
            if handler is api_versions.API:  # the dispatcher handles it separately (KIP-511)
                monkeypatch.setattr(api_versions, "API", older)
    with DevCluster.running(nodes=3) as cluster:
        cluster.create_topic("t", partitions=PARTITIONS)
        sent = produce(cluster.bootstrap_servers, "t", "all")
        cluster.move_leaders({("t", number): leader % 3 + 1 for number, (leader, _) in cluster.leaders("t").items()})
        sent += produce(cluster.bootstrap_servers, "t", "1")
        seen = {api: {request.version for request in cluster.requests.latest(api)} for api in ("Produce", "Metadata")}
        assert seen == {api: {limits[api]} for api in seen}
        check(sent, read_with_kafka_python(cluster.bootstrap_servers, "t", len(sent)))
