"""Tests of the harness and the judges themselves: other tests rely on them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import confluent_kafka
import kafka_artifacts
import kafka_wire
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource
from kafka_cluster import KafkaCluster, KafkaStartError

from support.fixtures import TopicFactory
from support.java import JavaError, JavaJudge, JudgeDiedError, Reencoded
from support.judges import IncompleteReadError, Record, by_partition, read_all, read_with_confluent

HEADERS: list[tuple[str, bytes | None]] = [("source", b"test"), ("source", None), ("leer", b"")]
METADATA_KEY = 3


def produce_with_confluent(bootstrap: str, topic: str, count: int) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for number in range(count):
        producer.produce(
            topic,
            key=None if number % 5 == 0 else b"key-%d" % number,
            value=None if number % 7 == 0 else b"value-%d" % number,
            partition=number % 3,
            timestamp=1_700_000_000_000 + number,
            headers=list(HEADERS) if number % 2 else None,
        )
    assert producer.flush(30) == 0


def expected_records(count: int) -> list[Record]:
    records = [
        Record(
            partition=number % 3,
            offset=number // 3,
            timestamp=1_700_000_000_000 + number,
            timestamp_type="CreateTime",
            key=None if number % 5 == 0 else b"key-%d" % number,
            value=None if number % 7 == 0 else b"value-%d" % number,
            headers=tuple(HEADERS) if number % 2 else (),
        )
        for number in range(count)
    ]
    return sorted(records, key=lambda record: record.partition)


def test_three_foreign_judges_read_the_same_records(
    kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge
) -> None:
    topic = kafka_topic(partitions=3)
    produce_with_confluent(kafka.bootstrap_servers, topic, 100)
    judges: list[Callable[..., list[Record]]] = [read_all, read_with_confluent, java.consume]
    for judge in judges:
        assert judge(kafka.bootstrap_servers, topic, expected=100) == expected_records(100)
        assert judge(kafka.bootstrap_servers, topic) == expected_records(100)


def test_records_of_any_age_are_kept(kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    topic = kafka_topic()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    assert admin.describe_configs([resource])[resource].result(20)["retention.ms"].value == "-1"


def test_a_judge_reports_missing_records(kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge) -> None:
    topic = kafka_topic(partitions=3)
    produce_with_confluent(kafka.bootstrap_servers, topic, 3)
    judges: list[Callable[..., list[Record]]] = [read_all, read_with_confluent, java.consume]

    def found_by(judge: Callable[..., list[Record]]) -> IncompleteReadError:
        with pytest.raises(IncompleteReadError, match="read 3 records") as raised:
            judge(kafka.bootstrap_servers, topic, expected=4, timeout=8)
        return raised.value

    # In parallel: each waits for its whole timeout, which leaves a consumer enough time to start on a busy machine.
    with ThreadPoolExecutor(len(judges)) as pool:
        for found in pool.map(found_by, judges):
            assert by_partition(found.records).keys() == {0, 1, 2}


def test_a_created_topic_exists_for_every_client(kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    topic = kafka_topic(partitions=4, config={"message.timestamp.type": "LogAppendTime"})
    assert kafka.leaders(topic) == {0: 1, 1: 1, 2: 1, 3: 1}
    assert kafka.leaders("absent-topic") == {}
    before = time.time() * 1000
    produce_with_confluent(kafka.bootstrap_servers, topic, 1)
    (record,) = read_all(kafka.bootstrap_servers, topic, expected=1)
    assert record.timestamp_type == "LogAppendTime"
    assert record.timestamp >= before - 1000


def test_java_produces_and_reports_each_records_place(
    kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge
) -> None:
    topic = kafka_topic(partitions=2)
    records: list[dict[str, Any]] = [
        {
            "topic": topic,
            "partition": 1,
            "timestamp": 5,
            "key": b"k",
            "value": None,
            "headers": [("h", b"x"), ("n", None)],
        },
        {"topic": topic, "partition": 1, "value": b"\xff\x00"},
        {"topic": "no such topic", "value": b""},
    ]
    first, second, third = java.produce(kafka.bootstrap_servers, records, {"acks": "all", "max.block.ms": 2000})
    assert isinstance(first, dict)
    assert (first["topic"], first["partition"], first["offset"], first["timestamp"]) == (topic, 1, 0, 5)
    assert (first["serialized_key_size"], first["serialized_value_size"]) == (1, -1)
    assert isinstance(second, dict)
    assert second["offset"] == 1
    assert isinstance(third, JavaError)
    assert third.type.endswith("InvalidTopicException")
    read = read_all(kafka.bootstrap_servers, topic, expected=2)
    assert [(r.key, r.value, r.headers) for r in read] == [
        (b"k", None, (("h", b"x"), ("n", None))),
        (None, b"\xff\x00", ()),
    ]


def test_java_hashes_keys(java: JavaJudge) -> None:
    keys = [b"", b"a", b"\xff\xfe\xfd\xfc\xfb", b"21"]
    hashes = java.murmur2(keys)
    assert hashes[3] == -973932308  # what Kafka's own tests expect
    assert java.to_positive(hashes) == [value & 0x7FFFFFFF for value in hashes]
    assert java.partition_for_key(keys, 7) == [(value & 0x7FFFFFFF) % 7 for value in hashes]


def test_java_serializes_and_reports_errors(java: JavaJudge) -> None:
    items: list[tuple[dict[str, Any], bytes | None]] = [
        ({"serializer": "String", "value": "ä"}, "ä".encode()),
        ({"serializer": "String", "value": "ä", "encoding": "UTF-16BE"}, "ä".encode("utf-16-be")),
        ({"serializer": "ByteArray", "value": "00ff"}, b"\x00\xff"),
        ({"serializer": "Bytes", "value": "00ff"}, b"\x00\xff"),
        ({"serializer": "ByteBuffer", "value": "00ff"}, b"\x00\xff"),
        ({"serializer": "Integer", "value": -2}, struct.pack(">i", -2)),
        ({"serializer": "Short", "value": -2}, struct.pack(">h", -2)),
        ({"serializer": "Long", "value": 2**63 - 1}, struct.pack(">q", 2**63 - 1)),
        ({"serializer": "Float", "value": 0.1}, struct.pack(">f", 0.1)),
        ({"serializer": "Double", "value": "-Infinity"}, struct.pack(">d", float("-inf"))),
        ({"serializer": "Boolean", "value": True}, b"\x01"),
        (
            {"serializer": "UUID", "value": "12345678-1234-5678-1234-567812345678"},
            b"12345678-1234-5678-1234-567812345678",
        ),
        ({"serializer": "Void", "value": None}, None),
        ({"serializer": "Integer", "value": None}, None),
        ({"serializer": "List", "inner": "Integer", "value": [1, None]}, struct.pack(">biiii", 0, 1, 1, 2, 1)),
    ]
    assert java.serialize([item for item, _ in items]) == [expected for _, expected in items]


def test_java_reports_errors_and_continues(java: JavaJudge) -> None:
    void, integer, unknown, fine = java.serialize(
        [
            {"serializer": "Void", "value": "x"},
            {"serializer": "Integer", "value": 2**31},
            {"serializer": "Nonsense", "value": 1},
            {"serializer": "Boolean", "value": False},
        ]
    )
    assert isinstance(void, JavaError)
    assert isinstance(integer, JavaError)
    assert isinstance(unknown, JavaError)
    assert unknown.type == "java.lang.ClassNotFoundException"
    assert fine == b"\x00"
    with pytest.raises(JavaError, match="unknown command 'sing'"):
        java.call("sing")


def test_a_silent_judge_is_ended_and_started_again() -> None:
    with JavaJudge() as judge:
        judge.murmur2([b"a"])
        with pytest.raises(
            JudgeDiedError
        ):  # the port has no listener, and the judge's timeout is shorter than its client's
            judge.call("consume", timeout=0.5, bootstrap="127.0.0.1:1", topic="t", timeout_ms=60_000)
        assert len(judge.murmur2([b"a"])) == 1


def test_java_decodes_batches_and_finds_an_invalid_one(
    kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge
) -> None:
    topic = kafka_topic(partitions=3)
    produce_with_confluent(kafka.bootstrap_servers, topic, 30)
    # The broker's own log is a sequence of batches.
    (segment,) = (kafka.nodes[1].folder / "data" / f"{topic}-1").glob("*.log")
    log = segment.read_bytes()
    damaged = log[:-1] + bytes([log[-1] ^ 1])
    whole, torn, broken, garbage = java.decode_batches([log, log[:-1], damaged, b"\xff" * 100])

    records = [record for batch in whole.batches for record in batch.records]
    expected = [record for record in expected_records(30) if record.partition == 1]
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records] == [
        (r.offset, r.timestamp, r.key, r.value, r.headers) for r in expected
    ]
    assert whole.valid_bytes == whole.size == len(log)
    assert all(batch.valid and batch.magic == 2 and batch.compression == "none" for batch in whole.batches)
    assert len(torn.batches) == len(whole.batches) - 1
    assert not broken.batches[-1].valid
    assert broken.batches[-1].error is not None
    assert garbage.error is not None


def test_java_lists_and_parses_settings(java: JavaJudge) -> None:
    table = {row["name"]: row for row in java.config_table()}
    assert table["linger.ms"] | {"type": "LONG", "default": 5, "importance": "MEDIUM"} == table["linger.ms"]
    assert table["acks"]["default_text"] == "all"
    assert table["key.serializer"]["required"]
    good, typed, bad, unknown = java.config_parse(
        [("linger.ms", " 7 "), ("enable.idempotence", True), ("acks", "2"), ("linger.mss", "1")]
    )
    assert good == 7
    assert typed is True
    assert isinstance(bad, JavaError)
    assert "acks" in bad.message
    assert isinstance(unknown, JavaError)


def test_java_validates_whole_configurations(java: JavaJudge) -> None:
    servers = {"bootstrap.servers": "127.0.0.1:9092"}
    plain, clash = java.producer_config([servers, servers | {"acks": "1", "enable.idempotence": "true"}])
    assert isinstance(plain, dict)
    assert plain["acks"] == "-1"
    assert isinstance(clash, JavaError)
    opened, impatient = java.open_producer([servers, servers | {"delivery.timeout.ms": 1}])
    assert opened is None
    assert isinstance(impatient, JavaError)
    assert impatient.cause is not None
    assert "delivery.timeout.ms" in impatient.cause.message


def test_java_reencodes_messages(java: JavaJudge) -> None:
    asked, short, unknown = java.reencode(
        [
            (METADATA_KEY, 1, True, b"\0\0\0\1\0\1a"),
            (METADATA_KEY, 1, True, b"\0\0\0\1\0\5a"),
            (METADATA_KEY, 99, True, b""),
        ]
    )
    assert isinstance(asked, Reencoded)
    assert (asked.data, asked.left) == (b"\0\0\0\1\0\1a", 0)
    assert asked.json == {"topics": [{"name": "a"}]}
    assert isinstance(short, JavaError)
    assert isinstance(unknown, JavaError)
    assert java.encode([(METADATA_KEY, 1, True, asked.json)]) == [asked.data]
    header = struct.pack(">hhih", METADATA_KEY, 1, 7, -1)
    (again,) = java.reencode([(-1, 1, True, header)])
    assert isinstance(again, Reencoded)
    assert again.data == header
    versions = {row["name"]: row for row in java.api_versions()}
    assert versions["Produce"]["lowest"] == 3


@pytest.mark.kafka
def test_a_node_crashes_hangs_and_returns_with_its_data() -> None:
    with KafkaCluster(config={"num.io.threads": 2}, short_lived=True) as cluster:
        cluster.create_topic("kept")
        servers = cluster.bootstrap_servers
        (node,) = cluster.nodes.values()
        pid = node.pid
        cluster.kill()
        assert not node.running
        with pytest.raises(OSError, match="refused"):
            kafka_wire.api_versions(node.address)
        cluster.restart()
        assert node.pid != pid
        assert cluster.bootstrap_servers == servers
        assert cluster.leaders("kept") == {0: 1}
        cluster.pause()
        with pytest.raises(TimeoutError):
            kafka_wire.api_versions(node.address, timeout_s=0.5)
        cluster.resume()
        assert kafka_wire.api_versions(node.address)
        folder = node.folder
    assert not folder.exists()


@pytest.mark.kafka
def test_a_node_that_cannot_start_shows_its_log() -> None:
    with pytest.raises(KafkaStartError, match="compression"):
        KafkaCluster(config={"compression.type": "no such codec"}).start()


@pytest.mark.kafka
def test_no_broker_outlives_a_killed_test_run() -> None:
    script = (
        "from kafka_cluster import KafkaCluster\n"
        "node = KafkaCluster(short_lived=True).start().nodes[1]\n"
        "print(node.pid, node.folder, flush=True)\n"
        "input()\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(kafka_artifacts.__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        assert is_alive(int(pid))
        starter.kill()
    wait_until(lambda: not is_alive(int(pid)), 15)
    wait_until(lambda: not Path(folder).parent.exists(), 15)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_harness_moves_partitions_and_deletes_topics(kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    """The chaos runs use it with several nodes; here, one node accepts the requests and their answers are read."""
    topic, address = kafka_topic(partitions=2), kafka.nodes[1].address
    kafka_wire.reassign(address, topic, {0: [1], 1: [1]})
    with pytest.raises(kafka_wire.WireError, match="AlterPartitionReassignments"):
        kafka_wire.reassign(address, topic, {0: [7]})
    never_needed = dict.fromkeys(range(2), kafka_wire.ELECTION_NOT_NEEDED)
    assert kafka_wire.elect_preferred_leaders(address, topic, range(2)) == never_needed
    kafka_wire.delete_topic(address, topic)
    deadline = time.monotonic() + 30
    while topic in kafka_wire.metadata(address, [topic]).topics:
        assert time.monotonic() < deadline
    kafka_wire.delete_topic(address, topic)
