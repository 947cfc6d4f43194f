"""The inputs that the producer refuses, when, and with which text: the library's rows of the table "Bad input"."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from facade_support import Log, MakeProducer, MakeTopic, closed_port

from penstock import (
    BufferExhaustedError,
    ConfigError,
    IntegerSerializer,
    InvalidTopicError,
    JSONSerializer,
    KafkaError,
    KafkaProducer,
    KafkaTimeoutError,
    ProducerClosedError,
    ProducerRecord,
    RecordTooLargeError,
    SerializationError,
    StringSerializer,
    errors,
)
from penstock.devbroker import Faults, RunningCluster

# ---------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bootstrap_server": "localhost:9092"}, "bootstrap_servers"),
        ({"bootstrap_servers": "localhost:9092", "linger": 5}, "linger.ms"),
        ({"bootstrap_servers": "localhost:9092", "linger_ms": "soon"}, "linger.ms"),
        ({"bootstrap_servers": "localhost:9092", "linger_ms": -1}, "linger.ms"),
        ({"bootstrap_servers": "localhost:9092", "acks": "2"}, "acks"),
        ({"bootstrap_servers": "localhost:9092", "acks": "1", "enable_idempotence": True}, "acks"),
        ({"bootstrap_servers": "localhost:9092", "retries": 0, "enable_idempotence": True}, "retries"),
        ({"bootstrap_servers": "localhost:9092", "max_in_flight_requests_per_connection": 6}, "max.in.flight"),
        ({"bootstrap_servers": "localhost:9092", "delivery_timeout_ms": 30_000, "linger_ms": 1}, "delivery.timeout.ms"),
        ({"bootstrap_servers": "localhost"}, "bootstrap.servers"),
        ({"bootstrap_servers": "localhost:port"}, "bootstrap.servers"),
        ({"bootstrap_servers": "nowhere.invalid:9092"}, "nowhere.invalid:9092"),
        ({"bootstrap_servers": ""}, "bootstrap.servers"),
        ({}, "bootstrap.servers"),
        ({"bootstrap_servers": "localhost:9092", "compression_type": "brotli"}, "compression.type"),
        ({"bootstrap_servers": "localhost:9092", "compression_lz4_level": 18}, "compression.lz4.level"),
        ({"bootstrap_servers": "localhost:9092", "partitioner_class": 5}, "partitioner.class"),
        ({"bootstrap_servers": "localhost:9092", "interceptor_classes": [object()]}, "interceptor.classes"),
        ({"bootstrap_servers": "localhost:9092", "value_serializer": 7}, "value.serializer"),
        ({"bootstrap_servers": "localhost:9092", "client_id": "x" * 32_768}, "client.id"),
        ({"bootstrap_servers": "localhost:9092", "client_id": "\ud800"}, "client.id"),
    ],
)
def test_a_wrong_configuration_is_refused_before_any_thread_starts(options: dict[str, Any], message: str) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ConfigError) as caught:
        KafkaProducer(**options)
    assert message in str(caught.value)
    assert set(threading.enumerate()) <= before


def test_a_setting_name_of_librdkafka_is_answered_with_javas_name() -> None:
    with pytest.raises(ConfigError, match=r"buffer\.memory"):
        KafkaProducer({"bootstrap.servers": "localhost:9092", "queue.buffering.max.kbytes": 1000})


def test_a_configuration_error_is_a_value_error_and_carries_the_setting() -> None:
    with pytest.raises(ValueError, match="acks") as caught:
        KafkaProducer(bootstrap_servers="localhost:9092", acks="several")
    assert isinstance(caught.value, ConfigError)
    assert caught.value.setting == "acks"


# ----------------------------------------------------------------------------------------------- keys, values, names


def test_text_without_a_serializer_is_refused_with_topic_type_and_setting(
    producer: KafkaProducer[Any, Any], topic: str, log: Log
) -> None:
    with pytest.raises(SerializationError) as caught:
        producer.send(topic, "text")
    message = str(caught.value)
    assert topic in message
    assert "str" in message
    assert "value.serializer" in message
    assert caught.value.hint == "Give value_serializer=StringSerializer()."
    with pytest.raises(SerializationError, match=r"key\.serializer"):
        producer.send(topic, b"value", key="text")
    producer.flush()
    assert log.count(topic) == 0


@pytest.mark.parametrize(
    ("serializer", "value"),
    [
        (StringSerializer(), b"bytes"),
        (StringSerializer(), 5),
        (StringSerializer(), "\ud800"),
        (IntegerSerializer(), "5"),
        (IntegerSerializer(), 1 << 31),
        (JSONSerializer(), float("nan")),
        (JSONSerializer(), object()),
        (lambda value: value.no_such_attribute, "x"),
        (lambda value: 12, "x"),
        (lambda value: "text", "x"),
        (None, 5),
        (None, ["a"]),
    ],
)
def test_the_wrong_type_for_a_serializer_names_topic_and_setting(
    new_producer: MakeProducer, topic: str, log: Log, serializer: Any, value: Any
) -> None:
    producer = new_producer(value_serializer=serializer)
    with pytest.raises(SerializationError) as caught:
        producer.send(topic, value)
    assert topic in str(caught.value)
    assert "value.serializer" in str(caught.value)
    assert caught.value.setting == "value.serializer"
    producer.flush()
    assert log.count(topic) == 0


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 250, "a b", "größe", "a/b", "tab\t", "\ud800"])
def test_an_illegal_topic_is_refused_at_once(
    producer: KafkaProducer[Any, Any], cluster: RunningCluster, name: str
) -> None:
    with pytest.raises(InvalidTopicError) as caught:
        producer.send(name, b"value")
    assert caught.value.topic == name.replace("\ud800", "\ufffd" * 3)  # a lone surrogate is no text
    assert len(str(caught.value)) < 400
    with pytest.raises(InvalidTopicError):
        ProducerRecord(name, b"value")
    with pytest.raises(InvalidTopicError):
        producer.partitions_for(name)


@pytest.mark.parametrize("wrong", [None, b"bytes", 5, ["topic"]])
def test_a_topic_that_is_not_a_str_is_refused(producer: KafkaProducer[Any, Any], wrong: Any) -> None:
    with pytest.raises(TypeError, match="topic name"):
        producer.send(wrong, b"value")


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"partition": -1}, ValueError),
        ({"partition": 1 << 31}, ValueError),
        ({"partition": "0"}, TypeError),
        ({"partition": True}, TypeError),
        ({"partition": 0.0}, TypeError),
        ({"partition": np.float64(0)}, TypeError),
        ({"partition": np.int64(-1)}, ValueError),
        ({"timestamp": -1}, ValueError),
        ({"timestamp": 1 << 63}, ValueError),
        ({"timestamp": 1.5}, TypeError),
        ({"timestamp": True}, TypeError),
        ({"timestamp": datetime(2026, 1, 1)}, ValueError),
        ({"timestamp": datetime(1960, 1, 1, tzinfo=UTC)}, ValueError),
        ({"headers": "name"}, TypeError),
        ({"headers": b"name"}, TypeError),
        ({"headers": 5}, TypeError),
        ({"headers": ["ab"]}, TypeError),
        ({"headers": [("name", "text")]}, TypeError),
        ({"headers": [("name", 5)]}, TypeError),
        ({"headers": [("name", [1])]}, TypeError),
        ({"headers": [(bytearray(b"name"), b"value")]}, TypeError),
        ({"headers": [(b"name", b"value")]}, TypeError),
        ({"headers": [("name", b"value", b"more")]}, TypeError),
        ({"headers": [None]}, TypeError),
        ({"headers": {"name": "text"}}, TypeError),
        ({"headers": {1: b"value"}}, TypeError),
    ],
)
def test_a_wrong_partition_timestamp_or_header_is_refused_at_once_and_nothing_is_sent(
    producer: KafkaProducer[Any, Any], topic: str, log: Log, wrong: dict[str, Any], kind: type[Exception]
) -> None:
    calls: list[object] = []
    name = next(iter(wrong))
    with pytest.raises(kind, match=name):
        producer.send(topic, b"value", callback=lambda *outcome: calls.append(outcome), **wrong)
    with pytest.raises(kind, match=name):
        ProducerRecord(topic, b"value", **wrong)
    producer.flush()
    assert log.count(topic) == 0
    assert calls == []


def test_a_header_name_that_is_not_unicode_is_refused(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    with pytest.raises(ValueError):
        producer.send(topic, b"value", headers=[("\ud800", b"")])
    producer.send(topic, b"fine").result(10)
    assert log.values(topic) == [b"fine"]


def test_a_callback_that_cannot_be_called_is_refused(producer: KafkaProducer[Any, Any], topic: str) -> None:
    with pytest.raises(TypeError, match="callback"):
        producer.send(topic, b"value", callback="soon")


def test_send_of_a_record_object_accepts_only_a_callback(producer: KafkaProducer[Any, Any], topic: str) -> None:
    with pytest.raises(TypeError, match="no other argument"):
        producer.send(ProducerRecord(topic, b"value"), key=b"key")


# --------------------------------------------------------------------------------------- absent topics and partitions


class _OnRecord(logging.Handler):
    """Calls a function when a line is logged."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action

    def emit(self, record: logging.LogRecord) -> None:
        self._action()


def test_an_absent_topic_is_waited_for_up_to_max_block_ms(new_producer: MakeProducer, faults: Faults) -> None:
    producer = new_producer(max_block_ms=300)
    began = time.monotonic()
    with pytest.raises(KafkaTimeoutError) as caught:
        producer.send("no-such-topic", b"value")
    assert 0.3 <= time.monotonic() - began < 5
    message = str(caught.value)
    assert "no-such-topic" in message
    assert "max.block.ms = 300" in message
    assert "UNKNOWN_TOPIC_OR_PARTITION" in message
    assert caught.value.topic == "no-such-topic"
    assert caught.value.stage == "metadata"
    assert isinstance(caught.value, TimeoutError)


def test_the_error_of_an_absent_partition_has_the_partition_count(
    new_producer: MakeProducer, new_topic: MakeTopic
) -> None:
    topic = new_topic(3)
    producer = new_producer(max_block_ms=300)
    with pytest.raises(KafkaTimeoutError) as caught:
        producer.send(topic, b"value", partition=3)
    message = str(caught.value)
    assert f"partition 3 of topic {topic}" in message
    assert "3 partitions (0 to 2)" in message
    assert (caught.value.topic, caught.value.partition) == (topic, 3)
    assert caught.value.hint == "Send to a partition that exists, or add partitions to the topic."
    producer.send(topic, b"value", partition=2).result(10)


def test_the_error_of_an_absent_topic_has_the_requested_partition(new_producer: MakeProducer) -> None:
    with pytest.raises(KafkaTimeoutError) as caught:
        new_producer(max_block_ms=300).send("no-such-topic", b"value", partition=3)
    assert caught.value.partition == 3
    assert "Create the topic" in caught.value.hint


def test_a_topic_without_write_permission_is_an_error_at_once(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    faults.add(api="Metadata", topic=topic, error=errors.TopicAuthorizationError.code or 0)
    producer = new_producer()
    with pytest.raises(errors.TopicAuthorizationError, match=topic):
        producer.send(topic, b"value")
    # Permissions change: the next send requests the topic again and does not repeat the stored error.
    assert producer.send(topic, b"value").result(10).offset == 0


def test_a_wait_for_a_topic_is_logged_once_and_ends_when_the_topic_appears(
    new_producer: MakeProducer, cluster: RunningCluster, caplog: pytest.LogCaptureFixture
) -> None:
    producer = new_producer()
    name = "appears-later"
    # The warning comes after a second: that is when this topic is created.
    handler = _OnRecord(lambda: cluster.create_topic(name))
    logging.getLogger("penstock.producer").addHandler(handler)
    try:
        producer.send(name, b"value").result(10)
    finally:
        logging.getLogger("penstock.producer").removeHandler(handler)
    waits = [record.getMessage() for record in caplog.records if "waits for" in record.getMessage()]
    assert len(waits) == 1
    assert waits[0].startswith("send() waits for")
    assert repr(name) in waits[0]


def test_the_warning_names_the_method_that_waits(
    new_producer: MakeProducer, cluster: RunningCluster, caplog: pytest.LogCaptureFixture
) -> None:
    producer = new_producer()
    name = "appears-later-too"
    handler = _OnRecord(lambda: cluster.create_topic(name))
    logging.getLogger("penstock.producer").addHandler(handler)
    try:
        assert len(producer.partitions_for(name)) == 1
    finally:
        logging.getLogger("penstock.producer").removeHandler(handler)
    (wait,) = [record.getMessage() for record in caplog.records if "waits for" in record.getMessage()]
    assert wait.startswith(f"partitions_for() waits for topic {name!r}")


_RAISE_BOTH = (
    "Send smaller records, or raise max.request.size here and message.max.bytes (max.message.bytes of the topic) on the "
    "broker."
)


@pytest.mark.parametrize(
    ("setting", "extra", "hint"),
    [
        ("max.request.size", {}, _RAISE_BOTH),
        ("buffer.memory", {"max_request_size": 1 << 20}, "Send smaller records, or raise buffer.memory."),
    ],
)
def test_a_too_large_record_is_refused_with_size_limit_and_setting(
    new_producer: MakeProducer, topic: str, log: Log, setting: str, extra: dict[str, Any], hint: str
) -> None:
    calls: list[object] = []
    options = {setting.replace(".", "_"): 50_000, "batch_size": 1000, **extra}
    producer = new_producer(**options)
    with pytest.raises(RecordTooLargeError) as caught:
        producer.send(topic, bytes(60_000), partition=0, callback=lambda *outcome: calls.append(outcome))
    message = str(caught.value)
    assert f"{setting} = 50000" in message
    assert "compression" not in message
    assert "60" in message
    assert (caught.value.topic, caught.value.partition) == (topic, 0)
    assert caught.value.hint == hint
    assert message.count("raise") == 1
    metrics = producer.metrics()["producer-metrics"]
    assert metrics["buffer-available-bytes"] == metrics["buffer-total-bytes"]
    producer.send(topic, b"small").result(10)
    assert log.values(topic) == [b"small"]
    assert calls == []


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize(
    ("setting", "extra"), [("max.request.size", {}), ("buffer.memory", {"max_request_size": 1 << 20})]
)
def test_the_size_limit_counts_bytes_before_compression(
    new_producer: MakeProducer, topic: str, log: Log, codec: str, setting: str, extra: dict[str, Any]
) -> None:
    options = {setting.replace(".", "_"): 50_000, "batch_size": 1000, **extra}
    producer = new_producer(compression_type=codec, **options)
    with pytest.raises(RecordTooLargeError, match=r"counted before compression as in Java\) is larger than") as caught:
        producer.send(topic, bytes(60_000))
    assert f"{setting} = 50000" in str(caught.value)
    assert f"aise {setting}" in caught.value.hint
    # In bulk, too: the first record's error is raised, a later one's is in the result.
    error = producer.send_many(topic, [b"small", bytes(60_000)]).errors[1]
    assert "counted before compression" in str(error)
    assert log.values(topic) == [b"small"]


def test_a_buffer_smaller_than_a_batch_has_its_own_error(new_producer: MakeProducer, topic: str) -> None:
    producer = new_producer(buffer_memory=10_000, batch_size=20_000)
    with pytest.raises(RecordTooLargeError) as caught:
        producer.send(topic, b"small")
    assert "batch.size = 20000" in str(caught.value)
    assert "buffer.memory = 10000" in str(caught.value)
    assert caught.value.hint == "Raise buffer.memory, or lower batch.size."


def test_without_a_broker_send_fails_after_max_block_ms_with_each_address() -> None:
    with closed_port() as first, closed_port() as second:
        producer = KafkaProducer(bootstrap_servers=[first, second], max_block_ms=1000)
        began = time.monotonic()
        with pytest.raises(KafkaTimeoutError) as caught:
            producer.send("topic", b"value")
        assert 1.0 <= time.monotonic() - began < 6
        message = str(caught.value)
        assert first in message
        assert second in message
        assert "refused" in message
        producer.close(0)


def test_with_max_block_ms_of_zero_send_does_not_wait(new_producer: MakeProducer, topic: str) -> None:
    producer = new_producer(max_block_ms=0)
    with pytest.raises(KafkaTimeoutError):
        producer.send(topic, b"value")
    # It has requested the topic, as Java does: a later send finds it (the test's time limit ends the wait).
    future = None
    while future is None:
        with contextlib.suppress(KafkaTimeoutError):
            future = producer.send(topic, b"value")
    assert future.result(10).offset == 0


# -------------------------------------------------------------------------------------------------------- after close


def test_every_method_after_close_raises_producer_closed(producer: KafkaProducer[Any, Any], topic: str) -> None:
    calls: list[object] = []
    producer.close()
    with pytest.raises(ProducerClosedError):
        producer.send(topic, b"value", callback=lambda *outcome: calls.append(outcome))
    with pytest.raises(ProducerClosedError):
        producer.partitions_for(topic)
    assert calls == []
    assert producer.closed
    assert "closed" in repr(producer)


def test_a_producer_closed_by_another_thread_ends_a_send_that_waits(
    new_producer: MakeProducer, cluster: RunningCluster
) -> None:
    producer = new_producer()
    cluster.requests.clear()
    threading_done: list[BaseException] = []

    def send() -> None:
        try:
            producer.send("never-there", b"value")
        except KafkaError as error:
            threading_done.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    cluster.requests.wait_for("Metadata", 2)
    producer.close(0)
    sender.join(5)
    assert [type(error) for error in threading_done] == [ProducerClosedError]


def test_buffer_exhausted_is_a_timeout() -> None:
    assert issubclass(BufferExhaustedError, KafkaTimeoutError)
