"""Delivery through scripted faults: retries, lost answers, moves, throttling; acknowledged records arrive once, in order."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from facade_support import SOON_S, Log, MakeProducer, MakeTopic, in_thread, numbered

from penstock import (
    BufferExhaustedError,
    KafkaProducer,
    KafkaTimeoutError,
    RecordTooLargeError,
    errors,
    wait,
)
from penstock.devbroker import Faults, RunningCluster

RETRIABLE = [
    errors.NotLeaderOrFollowerError,
    errors.UnknownTopicOrPartitionError,
    errors.LeaderNotAvailableError,
    errors.NotEnoughReplicasError,
    errors.CorruptRecordError,
    errors.NetworkError,
    errors.KafkaStorageError,
    errors.FencedLeaderEpochError,
    errors.UnknownTopicIdError,
]


def _send_all(producer: KafkaProducer[Any, Any], topic: str, values: list[bytes], **options: Any) -> None:
    futures = [producer.send(topic, value, **options) for value in values]
    assert [future.result(SOON_S).offset for future in futures] == list(range(len(values)))


@pytest.mark.parametrize("error", RETRIABLE, ids=lambda error: str(error.name))
def test_after_a_retriable_error_every_record_arrives_once_and_in_order(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, error: type[errors.ApiError]
) -> None:
    producer = new_producer(batch_size=100, retry_backoff_ms=5, retry_backoff_max_ms=20)
    values = numbered(200)
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, error=error.code or 0, times=3)
    _send_all(producer, topic, values)
    assert log.values(topic) == values
    assert producer.metrics()["producer-metrics"]["record-retry-total"] > 0


@pytest.mark.parametrize("error", [errors.NotEnoughReplicasAfterAppendError, errors.KafkaTimeoutError])
def test_an_error_after_the_append_does_not_append_twice(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, error: type[errors.ApiError]
) -> None:
    producer = new_producer(batch_size=100, retry_backoff_ms=5, retry_backoff_max_ms=20)
    values = numbered(200)
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, error=error.code or 0, after_append=True, times=3)
    _send_all(producer, topic, values)
    assert log.values(topic) == values


@pytest.mark.parametrize("trouble", [{"drop": "close"}, {"close": True}], ids=["after the append", "before the append"])
def test_after_a_lost_connection_every_record_arrives_once_and_in_order(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, trouble: dict[str, Any]
) -> None:
    producer = new_producer(batch_size=100, retry_backoff_ms=5, reconnect_backoff_ms=5, reconnect_backoff_max_ms=20)
    values = numbered(200)
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, times=3, **trouble)
    _send_all(producer, topic, values)
    assert log.values(topic) == values


def test_after_a_missing_answer_every_record_arrives_once(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log
) -> None:
    producer = new_producer(batch_size=100, request_timeout_ms=300, linger_ms=0)
    values = numbered(200)
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, drop="silent")
    _send_all(producer, topic, values)
    assert log.values(topic) == values


@pytest.mark.parametrize(
    "error", [errors.TopicAuthorizationError, errors.InvalidRecordError, errors.InvalidRequiredAcksError]
)
def test_a_permanent_error_fails_one_record_with_its_class(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults, log: Log, error: type[errors.ApiError]
) -> None:
    faults.add("Produce", topic=topic, error=error.code or 0)
    failed = producer.send(topic, b"refused").exception(SOON_S)
    assert type(failed) is error
    assert (failed.topic, failed.partition, failed.attempts) == (topic, 0, 1)
    assert failed.broker in (1, 2, 3)
    assert failed.possibly_persisted is False
    assert producer.send(topic, b"fine").result(SOON_S).offset == 0
    assert log.values(topic) == [b"fine"]


def test_a_fenced_producer_fails_pending_and_later_records(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    faults.add("Produce", topic=topic, error=errors.ProducerFencedError.code or 0)
    failed = producer.send(topic, b"refused").exception(SOON_S)
    with pytest.raises(errors.ProducerFencedError) as caught:
        producer.send(topic, b"later")
    for error in (failed, caught.value):
        assert type(error) is errors.ProducerFencedError
        assert str(error).count("PRODUCER_FENCED") == 1
        assert "Run one producer per transactional.id" not in str(error)


def test_a_record_too_large_for_the_broker_fails_alone(
    new_producer: MakeProducer, new_topic: MakeTopic, log: Log
) -> None:
    topic = new_topic(max_message_bytes="2000")
    producer = new_producer(linger_ms=60_000)
    small = [producer.send(topic, bytes(200)) for _ in range(30)]
    large = producer.send(topic, bytes(5000))
    last = producer.send(topic, b"last")
    large.add_done_callback(lambda _: None)
    producer.flush(SOON_S)
    assert isinstance(large.exception(0), RecordTooLargeError)
    assert [future.result(SOON_S).offset for future in small] == list(range(30))
    assert last.result(SOON_S).offset == 30
    assert log.count(topic) == 31


def test_with_retries_zero_the_first_error_fails_the_record(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer = new_producer(retries=0, enable_idempotence=False)
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0)
    error = producer.send(topic, b"value").exception(SOON_S)
    assert isinstance(error, errors.NotEnoughReplicasError)
    assert error.attempts == 1
    assert "retries=0" in str(error)


def test_an_expired_record_has_stage_attempts_broker_and_last_error(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log
) -> None:
    producer = new_producer(
        delivery_timeout_ms=600, request_timeout_ms=500, linger_ms=0, retry_backoff_ms=20, retry_backoff_max_ms=50
    )
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0, times=1000)
    began = time.monotonic()
    error = producer.send(topic, b"value").exception(SOON_S)
    assert 0.5 < time.monotonic() - began < 3
    assert isinstance(error, KafkaTimeoutError)
    assert isinstance(error.cause, errors.NotEnoughReplicasError)
    assert error.attempts > 1
    assert error.broker in (1, 2, 3)
    assert error.stage in ("retry", "in flight")
    assert "NOT_ENOUGH_REPLICAS" in str(error)
    assert f"{error.attempts} attempts" in str(error)
    faults.clear()
    assert producer.send(topic, b"next").result(SOON_S).offset == 0
    assert log.values(topic) == [b"next"]


def test_a_record_that_expired_in_flight_may_be_persisted(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer = new_producer(delivery_timeout_ms=400, request_timeout_ms=400, linger_ms=0)
    faults.add("Produce", topic=topic, drop="silent", times=1000)
    error = producer.send(topic, b"value").exception(SOON_S)
    assert isinstance(error, KafkaTimeoutError)
    assert error.possibly_persisted is True
    assert "possibly persisted" in str(error)


def test_a_throttled_producer_stops_sending_for_the_throttle_time(
    new_producer: MakeProducer, topic: str, faults: Faults, cluster: RunningCluster
) -> None:
    producer = new_producer(linger_ms=0)
    faults.add("Produce", topic=topic, throttle_time_ms=400)
    began = time.monotonic()
    producer.send(topic, b"first").result(SOON_S)
    assert time.monotonic() - began < 0.39, "the answer itself is not delayed"
    producer.send(topic, b"second").result(SOON_S)
    assert time.monotonic() - began >= 0.39
    assert producer.metrics()["producer-metrics"]["produce-throttle-time-max"] == 400


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_without_idempotence_every_acks_delivers_in_order(
    new_producer: MakeProducer, topic: str, log: Log, acks: str, cluster: RunningCluster, faults: Faults
) -> None:
    producer = new_producer(acks=acks, enable_idempotence=False, batch_size=100)
    futures = [producer.send(topic, value) for value in numbered(300)]
    producer.flush(SOON_S)
    offsets = [future.result(0).offset for future in futures]
    assert offsets == ([-1] * 300 if acks == "0" else list(range(300)))
    assert cluster.requests.count("InitProducerId") == 0
    producer.close()
    # With acks=0 there is no answer: a request behind them on the leader's connection does not show their arrival either.
    deadline = time.monotonic() + SOON_S
    while log.count(topic) < 300 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert log.values(topic) == numbered(300)


def test_records_follow_a_leader_that_moves(
    new_producer: MakeProducer, topic: str, cluster: RunningCluster, log: Log
) -> None:
    producer = new_producer(batch_size=100, retry_backoff_ms=5)
    futures = []
    for number, value in enumerate(numbered(600)):
        if number % 100 == 50:
            (leader, _) = cluster.leaders(topic)[0]
            cluster.move_leader(topic, 0, leader % 3 + 1)
        futures.append(producer.send(topic, value))
    assert [future.result(SOON_S).offset for future in futures] == list(range(600))
    assert log.values(topic) == numbered(600)


def test_linger_gathers_records_into_one_request(
    new_producer: MakeProducer, topic: str, cluster: RunningCluster, faults: Faults
) -> None:
    producer = new_producer(linger_ms=200)
    producer.partitions_for(topic)
    began = time.monotonic()
    futures = [producer.send(topic, b"value") for _ in range(100)]
    assert wait(futures, SOON_S).not_done == set()
    assert time.monotonic() - began >= 0.2
    assert cluster.requests.count("Produce") == 1


def test_a_send_to_a_new_partition_refreshes_the_metadata(
    producer: KafkaProducer[Any, Any], topic: str, cluster: RunningCluster, log: Log
) -> None:
    producer.send(topic, b"0", partition=0).result(SOON_S)
    cluster.add_partitions(topic, 3)
    assert producer.send(topic, b"2", partition=2).result(SOON_S).partition == 2
    assert [info.partition for info in producer.partitions_for(topic)] == [0, 1, 2]


def test_partitions_for_returns_leaders_and_replicas(
    producer: KafkaProducer[Any, Any], new_topic: MakeTopic, cluster: RunningCluster
) -> None:
    topic = new_topic(3)
    leaders = {partition: leader for partition, (leader, _) in cluster.leaders(topic).items()}
    infos = producer.partitions_for(topic)
    assert {info.partition: info.leader and info.leader.id for info in infos} == leaders
    assert all(len(info.replicas) == 3 for info in infos)


def test_several_topics_and_partitions_at_once(
    producer: KafkaProducer[Any, Any], new_topic: MakeTopic, log: Log
) -> None:
    topics = [new_topic(4) for _ in range(5)]
    for number in range(1000):
        producer.send(topics[number % 5], b"%d" % number, partition=number // 5 % 4)
    producer.flush(SOON_S)
    for place, topic in enumerate(topics):
        expected: dict[int, list[bytes]] = {partition: [] for partition in range(4)}
        for number in range(place, 1000, 5):
            expected[number // 5 % 4].append(b"%d" % number)
        assert log.by_partition(topic) == expected


def test_two_producers_do_not_affect_each_other(new_producer: MakeProducer, topic: str, log: Log) -> None:
    one, two = new_producer(client_id="one"), new_producer(client_id="two")
    for number in range(300):
        one.send(topic, b"one %d" % number)
        two.send(topic, b"two %d" % number)
    one.close()
    two.flush(SOON_S)
    values = log.values(topic)
    for name in (b"one", b"two"):
        assert [value for value in values if value and value.startswith(name)] == numbered(300, f"{name.decode()} ")


def test_a_tombstone_an_empty_value_and_headers_arrive_unchanged(
    producer: KafkaProducer[Any, Any], topic: str, log: Log
) -> None:
    producer.send(topic, None, key=b"", headers=[("a", None), ("a", b""), ("ü", b"\xff")], timestamp=5)
    producer.send(topic, b"", key=None)
    producer.send(topic, bytearray(b"array"), key=memoryview(b"view"))
    producer.flush(SOON_S)
    first, second, third = log.records(topic)
    assert (first.key, first.value, first.timestamp) == (b"", None, 5)
    assert first.headers == (("a", None), ("a", b""), ("ü", b"\xff"))
    assert (second.key, second.value, second.headers) == (None, b"", ())
    assert (third.key, third.value) == (b"view", b"array")


# ---------------------------------------------------------------------------------------------------------- backpressure


def test_a_full_buffer_blocks_send_until_max_block_ms(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log
) -> None:
    producer = new_producer(buffer_memory=10_000, batch_size=1000, max_block_ms=200, linger_ms=0)
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, delay_ms=1200)
    for _ in range(10):
        producer.send(topic, bytes(900))
    began = time.monotonic()
    with pytest.raises(BufferExhaustedError) as caught:
        producer.send(topic, bytes(900))
    assert time.monotonic() - began >= 0.2
    message = str(caught.value)
    assert "max.block.ms = 200 ms" in message
    assert "buffer.memory = 10000" in message
    producer.flush(SOON_S)
    producer.send(topic, b"room again").result(SOON_S)
    producer.flush(SOON_S)  # a future resolves first, its batch's memory is released after it
    assert log.count(topic) == 11
    metrics = producer.metrics()["producer-metrics"]
    assert metrics["buffer-exhausted-total"] == 1
    assert metrics["buffer-available-bytes"] == metrics["buffer-total-bytes"] == 10_000
    assert metrics["bufferpool-wait-time-ns-total"] >= 200e6


def test_a_full_buffer_blocks_send_only_until_memory_is_free(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log
) -> None:
    producer = new_producer(buffer_memory=5000, batch_size=1000)
    faults.add("Produce", topic=topic, delay_ms=100, times=3)
    values = [b"%03d" % number + bytes(700) for number in range(100)]
    for value in values:
        producer.send(topic, value)
    producer.flush(SOON_S)
    assert log.values(topic) == values


@pytest.mark.parametrize("memory", [20_000, 32 << 20], ids=["little memory", "much memory"])
def test_sixteen_threads_at_once_deliver_everything_once_and_in_order_per_thread(
    new_producer: MakeProducer, new_topic: MakeTopic, log: Log, memory: int
) -> None:
    topic = new_topic(4)
    producer = new_producer(buffer_memory=memory, batch_size=1000)

    def send(name: int) -> None:
        for number in range(250):
            producer.send(topic, b"%d %d" % (name, number), partition=number % 4)

    threads = [in_thread(lambda name=name: send(name)) for name in range(16)]
    for thread, _ in threads:
        thread.join(60)
    assert [outcome for _, outcome in threads] == [[None]] * 16
    producer.flush(SOON_S)
    found = log.by_partition(topic)
    for name in range(16):
        for partition in range(4):
            mine = [value for value in found[partition] if value and value.startswith(b"%d " % name)]
            assert mine == [b"%d %d" % (name, number) for number in range(partition, 250, 4)]
