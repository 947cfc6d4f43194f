"""Plug-ins and read-outs: serializers, configuration, partitioners, interceptors, metrics."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driven import FACADES
from facade_support import SOON_S, Log, MakeProducer, MakeTopic

from penstock import (
    IntegerSerializer,
    JSONSerializer,
    KafkaProducer,
    KafkaTimeoutError,
    ProducerConfig,
    ProducerInterceptor,
    ProducerRecord,
    RoundRobinPartitioner,
    StringSerializer,
    errors,
)
from penstock.devbroker import Faults, RunningCluster
from penstock.facade.lifecycle import Lifecycle
from penstock.metrics import NOT_APPLICABLE

# ----------------------------------------------------------------------------------------- serializers and configuration


def test_serializers_turn_keys_and_values_into_bytes(new_producer: MakeProducer, topic: str, log: Log) -> None:
    producer = new_producer(key_serializer=IntegerSerializer(), value_serializer=JSONSerializer)
    metadata = producer.send(topic, {"größe": [1, None]}, key=258).result(SOON_S)
    (record,) = log.records(topic)
    assert record.key == b"\x00\x00\x01\x02"
    assert record.value == '{"größe":[1,null]}'.encode()
    assert (metadata.serialized_key_size, metadata.serialized_value_size) == (4, len(record.value))


def test_a_plain_function_takes_the_value_and_an_object_gets_topic_and_headers_too(
    new_producer: MakeProducer, topic: str, log: Log
) -> None:
    seen: list[Any] = []

    class Noting:
        def serialize(self, topic: str, headers: Any, data: Any) -> bytes:
            seen.append((topic, headers, data))
            return b"noted"

    producer = new_producer(key_serializer=lambda key: str(key).encode(), value_serializer=Noting())
    producer.send(topic, 1.5, key=7, headers={"h": b"1"}).result(SOON_S)
    assert seen == [(topic, (("h", b"1"),), 1.5)]
    assert [(record.key, record.value) for record in log.records(topic)] == [(b"7", b"noted")]


def test_none_is_a_tombstone_for_every_serializer(new_producer: MakeProducer, topic: str, log: Log) -> None:
    def never(value: Any) -> bytes:
        raise AssertionError("not for None")

    new_producer(key_serializer=never, value_serializer=never).send(topic, None).result(SOON_S)
    assert log.values(topic) == [None]


def test_keywords_override_the_mapping(cluster: RunningCluster) -> None:
    config = {"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 7, "client.id": "from the mapping"}
    with KafkaProducer(config, client_id="from the keyword") as producer:
        assert producer.config["client.id"] == "from the keyword"
        assert producer.config["linger.ms"] == 7
        assert "from the keyword" in repr(producer)


def test_a_properties_file_configures_a_producer(cluster: RunningCluster, topic: str, log: Log, tmp_path: Path) -> None:
    file = tmp_path / "producer.properties"
    file.write_text(
        f"bootstrap.servers = {cluster.bootstrap_servers}\n"
        "acks=all\n"
        "# Java's classes have their equals here\n"
        "key.serializer=org.apache.kafka.common.serialization.IntegerSerializer\n"
        "value.serializer=org.apache.kafka.common.serialization.StringSerializer\n"
    )
    with KafkaProducer(ProducerConfig.from_properties(file)) as producer:
        producer.send(topic, "text", key=1)
    assert [(record.key, record.value) for record in log.records(topic)] == [(b"\x00\x00\x00\x01", b"text")]


# ----------------------------------------------------------------------------------------------------------- partitioners


class _Last:
    """Chooses the last partition, and records its arguments."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.configured: Any = None
        self.closed = 0

    def configure(self, configs: Any) -> None:
        self.configured = configs["client.id"]

    def partition(self, topic: str, key: Any, key_bytes: Any, value: Any, value_bytes: Any, cluster: Any) -> int:
        self.seen.append((topic, key, key_bytes, value, value_bytes, cluster.available_partitions(topic)))
        return max(cluster.partitions_for_topic(topic))

    def close(self) -> None:
        self.closed += 1


def test_a_custom_partitioner_is_configured_used_and_closed(new_producer: MakeProducer, new_topic: MakeTopic) -> None:
    topic, last = new_topic(3), _Last()
    producer = new_producer(
        partitioner_class=last, client_id="me", key_serializer=StringSerializer(), value_serializer=StringSerializer()
    )
    assert producer.send(topic, "v", key="k").result(SOON_S).partition == 2
    assert producer.send(topic, "v", partition=1).result(SOON_S).partition == 1
    assert last.seen == [(topic, "k", b"k", "v", b"v", (0, 1, 2))]
    assert last.configured == "me"
    producer.close()
    producer.close()
    assert last.closed == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (3, ValueError),
        (-1, ValueError),
        (np.int64(3), ValueError),
        (10**30, ValueError),
        ("0", TypeError),
        (None, TypeError),
        (0.0, TypeError),
        (np.float64(0), TypeError),
    ],
)
def test_an_invalid_result_of_a_partitioner_is_an_error(
    new_producer: MakeProducer, new_topic: MakeTopic, log: Log, answer: Any, kind: type[Exception]
) -> None:
    class Wrong:
        def partition(self, *_: Any) -> Any:
            return answer

    topic = new_topic(3)
    with pytest.raises(kind, match="partitioner"):
        new_producer(partitioner_class=Wrong).send(topic, b"value")
    assert log.count(topic) == 0


def test_a_partitioner_may_return_a_number_of_numpys(new_producer: MakeProducer, new_topic: MakeTopic) -> None:
    class Second:
        def partition(self, *_: Any) -> np.int64:
            return np.int64(1)

    topic, producer = new_topic(3), new_producer(partitioner_class=Second)
    assert producer.send(topic, b"value").result(SOON_S).partition == 1
    assert list(producer.send_many(topic, [b"one", b"two"]).partitions) == [1, 1]


def test_send_raises_the_error_of_a_partitioner(new_producer: MakeProducer, topic: str) -> None:
    class Failing:
        def partition(self, *_: Any) -> int:
            raise LookupError("no idea")

    with pytest.raises(LookupError, match="no idea"):
        new_producer(partitioner_class=Failing()).send(topic, b"value")


def test_round_robin_alternates_for_every_key(new_producer: MakeProducer, new_topic: MakeTopic) -> None:
    topic = new_topic(3)
    producer = new_producer(partitioner_class=RoundRobinPartitioner)
    futures = [producer.send(topic, b"value", key=b"the same") for _ in range(9)]
    assert [future.result(SOON_S).partition for future in futures] == [0, 1, 2] * 3


def test_the_same_key_goes_to_the_same_partition_and_records_without_one_stick(
    producer: KafkaProducer[Any, Any], new_topic: MakeTopic
) -> None:
    topic = new_topic(8)
    keyed = [producer.send(topic, b"value", key=b"%d" % (number % 20)) for number in range(200)]
    places = [future.result(SOON_S).partition for future in keyed]
    assert places == places[:20] * 10
    assert len(set(places)) > 4
    bare = [producer.send(topic, b"value") for _ in range(50)]
    assert len({future.result(SOON_S).partition for future in bare}) == 1


# ------------------------------------------------------------------------------------------------------------ interceptors


class _Noting(ProducerInterceptor):
    def __init__(self, name: bytes = b"noting") -> None:
        self.name = name
        self.outcomes: list[Any] = []
        self.closed = 0

    def on_send(self, record: ProducerRecord[Any, Any], /) -> ProducerRecord[Any, Any]:
        return record.replace(headers=(*record.headers, ("by", self.name)))

    def on_acknowledgement(self, metadata: Any, error: Any, headers: Any, /) -> None:
        self.outcomes.append((metadata and metadata.offset, error, tuple(headers)))

    def close(self) -> None:
        self.closed += 1


def test_interceptors_change_the_record_in_order_and_are_notified_of_its_end(
    new_producer: MakeProducer, topic: str, log: Log
) -> None:
    one, two = _Noting(b"one"), _Noting(b"two")
    producer = new_producer(interceptor_classes=[one, two])
    order: list[int] = []
    producer.send(topic, b"value", headers={"own": b"1"}, callback=lambda *_: order.append(len(one.outcomes)))
    producer.flush()
    headers = (("own", b"1"), ("by", b"one"), ("by", b"two"))
    assert [record.headers for record in log.records(topic)] == [headers]
    assert one.outcomes == two.outcomes == [(0, None, headers)]
    assert order == [1], "interceptors are called before the application's callback"
    producer.close()
    assert (one.closed, two.closed) == (1, 1)


@pytest.mark.parametrize("facade", FACADES)
def test_an_interceptor_without_on_acknowledgement_costs_no_callback(
    new_producer: MakeProducer, topic: str, log: Log, facade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Adding:
        def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
            return record.replace(value=b"changed")

    ran, run = [], Lifecycle._run
    monkeypatch.setattr(Lifecycle, "_run", lambda self, calls: (ran.extend(calls[0]), run(self, calls)))
    producer, outcomes = new_producer(interceptor_classes=[Adding()]), list[Any]()
    producer.send(topic, b"1").result(SOON_S)
    producer.send_many(topic, [b"2", b"3"]).raise_for_errors()
    producer.flush()
    assert ran == [], "the callback thread has nothing to call"

    def noted(metadata: Any, error: Any) -> None:
        outcomes.append((metadata.offset, error))

    producer.send(topic, b"4", callback=noted).result(SOON_S)
    producer.flush()
    assert outcomes == [(3, None)]
    assert ran == ([noted] if facade is KafkaProducer else []), "it is called without a wrapper"
    assert log.values(topic) == [b"changed"] * 4


def test_an_interceptor_may_send_the_record_elsewhere(
    new_producer: MakeProducer, new_topic: MakeTopic, log: Log
) -> None:
    first, second = new_topic(), new_topic()

    class Diverting:
        def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
            return record.replace(topic=second, value=b"changed")

    assert new_producer(interceptor_classes=[Diverting()]).send(first, b"value").result(SOON_S).topic == second
    assert (log.values(first), log.values(second)) == ([], [b"changed"])


def test_interceptors_are_notified_of_failures_of_the_record_and_of_send(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    noting = _Noting()
    producer = new_producer(interceptor_classes=[noting], max_block_ms=100)
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0)
    producer.partitions_for(topic)
    error = producer.send(topic, b"value").exception(SOON_S)
    with pytest.raises(KafkaTimeoutError) as caught:
        producer.send("absent", b"value")
    producer.flush()
    headers = (("by", b"noting"),)
    kinds = {(offset, type(error), headers) for offset, error, headers in noting.outcomes}
    assert kinds == {(None, type(error), headers), (None, KafkaTimeoutError, headers)}
    assert caught.value in [error for _, error, _ in noting.outcomes]


@pytest.mark.parametrize("answer", [None, "text", ValueError("on purpose")])
def test_an_interceptor_that_raises_is_logged_once_per_method(
    new_producer: MakeProducer, topic: str, log: Log, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    class Bad:
        def on_send(self, record: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        def on_acknowledgement(self, *_: Any) -> None:
            raise LookupError("at the end too")

        def close(self) -> None:
            raise LookupError("and at the very end")

    noting = _Noting()
    producer = new_producer(interceptor_classes=[Bad(), noting])
    seen: list[Any] = []
    for _ in range(20):
        producer.send(topic, b"value", callback=lambda *outcome: seen.append(outcome))
    producer.flush()
    producer.close()
    assert len(seen) == len(noting.outcomes) == log.count(topic) == 20
    lines = [record.getMessage() for record in caplog.records if "Bad." in record.getMessage()]
    assert len(lines) == 3, "each fault is logged once, not per record"


# ---------------------------------------------------------------------------------------------------------------- metrics

NAMES = [
    [part.strip() for part in line.split("|")]
    for line in (Path(__file__).parent / "data" / "kafka-4.4-producer-metrics.txt").read_text().splitlines()[1:]
    if line.strip()
]


@pytest.fixture(scope="module")
def read_metrics(cluster: RunningCluster) -> dict[str, dict[str, float]]:
    """After 100 records of 10 bytes to a topic of the test, all acknowledged."""
    cluster.create_topic("measured")
    with KafkaProducer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        for _ in range(100):
            producer.send("measured", bytes(10))
        producer.flush()
        return producer.metrics()


@pytest.mark.parametrize(("group", "name", "tags"), NAMES, ids=lambda text: str(text))
def test_every_metric_of_javas_producer_is_in_its_group_with_its_tags(
    read_metrics: dict[str, dict[str, float]], group: str, name: str, tags: str
) -> None:
    found = read_metrics[group]
    if "node-id" in tags:
        assert any(key.startswith(f"{name}{{node-id=node-") for key in found)
    elif "topic" in tags:
        assert f"{name}{{topic=measured}}" in found
    else:
        assert isinstance(found[name], float)
        if math.isnan(found[name]):
            assert name.endswith("-avg")


def test_metrics_that_differ_from_javas_are_listed_with_the_reason() -> None:
    names = {name for _, name, _ in NAMES}
    assert set(NOT_APPLICABLE) <= names
    assert all(NOT_APPLICABLE.values())


def test_metrics_are_plausible_after_known_traffic(read_metrics: dict[str, dict[str, float]]) -> None:
    producer, topics = read_metrics["producer-metrics"], read_metrics["producer-topic-metrics"]
    assert producer["record-send-total"] == topics["record-send-total{topic=measured}"] == 100
    assert producer["record-error-total"] == producer["record-retry-total"] == 0
    assert producer["record-send-rate"] > 0
    assert 10 <= producer["record-size-avg"] <= producer["record-size-max"] < 120
    assert producer["batch-size-max"] >= producer["batch-size-avg"] > 10
    assert 1 <= producer["records-per-request-avg"] <= 100
    assert producer["requests-in-flight"] == 0
    assert producer["request-total"] == producer["response-total"] > 0
    assert producer["buffer-available-bytes"] == producer["buffer-total-bytes"] == 32 << 20
    assert producer["connection-count"] >= 1
    assert producer["request-latency-max"] >= producer["request-latency-avg"] > 0
    assert producer["outgoing-byte-total"] > 1000
    assert producer["flush-time-ns-total"] > 0
    assert 0 <= producer["metadata-age"] < 60
    assert topics["byte-total{topic=measured}"] > 1000
    nodes = read_metrics["producer-node-metrics"]
    by_node = sum(value for key, value in nodes.items() if key.startswith("request-total{"))
    assert by_node == producer["request-total"]
    assert read_metrics["kafka-metrics-count"]["count"] == sum(len(group) for group in read_metrics.values())


def test_errors_and_retries_are_counted(new_producer: MakeProducer, topic: str, faults: Faults) -> None:
    producer = new_producer()
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0)
    producer.send(topic, b"value").result(SOON_S)
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0)
    assert producer.send(topic, b"value").exception(SOON_S)
    metrics = producer.metrics()
    assert metrics["producer-metrics"]["record-retry-total"] == 1
    assert metrics["producer-metrics"]["record-error-total"] == 1
    assert metrics["producer-topic-metrics"][f"record-error-total{{topic={topic}}}"] == 1


def test_metrics_of_a_closed_producer_can_still_be_read(producer: KafkaProducer[Any, Any], topic: str) -> None:
    producer.send(topic, b"value")
    producer.close()
    assert producer.metrics()["producer-metrics"]["record-send-total"] == 1
