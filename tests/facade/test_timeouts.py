"""The texts of timeout errors: place, attempts, broker and hint.

Each text is here as a whole, as a user reads it.
"""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from facade_support import SOON_S, Gate, MakeProducer, MakeTopic, closed_port, silent_server

from penstock import BufferExhaustedError, KafkaProducer, KafkaTimeoutError, errors
from penstock.devbroker import DevCluster, Faults

NOT_ENOUGH_REPLICAS = errors.NotEnoughReplicasError.code or 0


def says(error: BaseException | None, text: str) -> bool:
    """Whether the error has this text, in which # stands for a number."""
    pattern = re.escape(text).replace(r"\#", r"\d+")
    assert re.fullmatch(pattern, str(error)), f"\n{error}\nis not\n{text}"
    return True


def short_lived(new_producer: MakeProducer, **options: Any) -> KafkaProducer[Any, Any]:
    """A producer with short timeouts."""
    return new_producer(delivery_timeout_ms=600, request_timeout_ms=600, linger_ms=0, **options)


# ------------------------------------------------------------------------------------------------------------- metadata


def test_without_a_broker_the_metadata_timeout_lists_each_address(new_producer: MakeProducer) -> None:
    with closed_port() as address:
        producer = new_producer(bootstrap_servers=address, max_block_ms=300)
        with pytest.raises(KafkaTimeoutError) as raised:
            producer.send("orders", b"value")
    assert says(
        raised.value,
        f"topic orders is not in the cluster's metadata after max.block.ms = 300 ms; no broker reachable: {address}:"
        " Connection refused (os error #) (topic orders, 0 attempts, stage: metadata, not persisted)."
        " Check that bootstrap.servers names the right cluster and that its brokers can be reached from here.",
    )


def test_the_metadata_timeout_reports_a_silent_server(new_producer: MakeProducer) -> None:
    with silent_server() as address:
        producer = new_producer(bootstrap_servers=address, max_block_ms=300)
        with pytest.raises(KafkaTimeoutError) as raised:
            producer.send("orders", b"value")
    assert f"no broker reachable: {address}: connected, but has not answered yet" in str(raised.value)


def test_the_metadata_timeout_of_an_absent_topic_suggests_to_create_it(new_producer: MakeProducer) -> None:
    producer = new_producer(max_block_ms=300)
    with pytest.raises(KafkaTimeoutError) as raised:
        producer.send("absent", b"value")
    assert says(
        raised.value,
        "topic absent is not in the cluster's metadata after max.block.ms = 300 ms; the last metadata answer:"
        " UNKNOWN_TOPIC_OR_PARTITION (error 3) (topic absent, 0 attempts, stage: metadata, not persisted)."
        " Create the topic, or check its name; the brokers answer, but do not know it.",
    )
    assert isinstance(raised.value.cause, errors.UnknownTopicOrPartitionError)


def test_the_timeout_of_an_absent_partition_has_the_partition_count(
    new_producer: MakeProducer, new_topic: MakeTopic
) -> None:
    topic = new_topic(3)
    producer = new_producer(max_block_ms=300)
    with pytest.raises(KafkaTimeoutError) as raised:
        producer.send(topic, b"value", partition=7)
    assert says(
        raised.value,
        f"partition 7 of topic {topic} does not exist: it has 3 partitions (0 to 2); waited max.block.ms = 300 ms"
        f" (topic {topic}, partition 7, 0 attempts, stage: metadata, not persisted)."
        " Send to a partition that exists, or add partitions to the topic.",
    )


# --------------------------------------------------------------------------------------------------------------- buffer


def _fill(producer: KafkaProducer[Any, Any], topic: str) -> BufferExhaustedError:
    """Two batches of a thousand bytes fill the buffer; the error of the third."""
    for _ in range(2):
        producer.send(topic, bytes(900))
    with pytest.raises(BufferExhaustedError) as raised:
        producer.send(topic, bytes(900))
    return raised.value


def test_the_buffer_timeout_describes_the_oldest_record(new_producer: MakeProducer, topic: str, faults: Faults) -> None:
    producer = new_producer(
        buffer_memory=2_000, batch_size=1_000, max_block_ms=400, retry_backoff_ms=10, retry_backoff_max_ms=20
    )
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, error=NOT_ENOUGH_REPLICAS, times=10_000)
    error = _fill(producer, topic)
    assert says(
        error,
        "no buffer space for 1000 bytes within max.block.ms = 400 ms: 2000 of buffer.memory = 2000 bytes are in use by"
        f" records that are not acknowledged yet; the oldest is # ms old and sent # times (broker #, topic {topic},"
        f" partition 0); its last error was NOT_ENOUGH_REPLICAS: a scripted fault"
        f" (topic {topic}, 0 attempts, stage: buffer, not persisted)."
        " Send more slowly, raise buffer.memory or max.block.ms, or find out why the brokers are slow.",
    )
    assert isinstance(error.cause, errors.NotEnoughReplicasError)


def test_the_buffer_timeout_reports_slow_callbacks(new_producer: MakeProducer, topic: str) -> None:
    gate = Gate()
    producer = new_producer(buffer_memory=3_000, batch_size=1_000, max_block_ms=400)
    # The first one's memory is free again while its callback runs; the next callbacks wait for it.
    producer.send(topic, bytes(900), callback=gate)
    assert gate.entered.wait(SOON_S)
    for _ in range(3):
        producer.send(topic, bytes(900), callback=lambda *_: None).result(SOON_S)
    with pytest.raises(BufferExhaustedError) as raised:
        producer.send(topic, bytes(900))
    gate.open.set()
    assert says(
        raised.value,
        "no buffer space for 1000 bytes within max.block.ms = 400 ms: 3000 of buffer.memory = 3000 bytes belong to"
        f" records whose callbacks have not run yet (topic {topic}, 0 attempts, stage: buffer, not persisted)."
        " Make the callbacks faster, or have another thread do their work; or raise buffer.memory or max.block.ms.",
    )


# --------------------------------------------------------------------------------------------------------------- linger


def test_the_timeout_of_a_queued_record_describes_the_unanswered_batch(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer = short_lived(new_producer, batch_size=1_000, penstock_batch_growth_max_bytes=0)
    faults.add("Produce", topic=topic, drop="silent", times=100)
    first, second = producer.send(topic, bytes(900)), producer.send(topic, bytes(900))  # a batch each
    assert says(
        second.exception(SOON_S),
        "not delivered: after # ms the record was still waiting in the buffer, never sent: the batch before it was sent"
        f" # ms ago and is not answered yet (topic {topic}, partition 0, broker #, 0 attempts, stage: linger, not persisted)."
        " Check that the partition has a leader and that the brokers keep up, or raise delivery.timeout.ms.",
    )
    first.exception(SOON_S)


def test_the_timeout_of_a_queued_record_has_the_error_of_the_retried_batch(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    backoff = {"retry_backoff_ms": 10_000, "retry_backoff_max_ms": 10_000}
    producer = short_lived(new_producer, batch_size=1_000, penstock_batch_growth_max_bytes=0, **backoff)
    faults.add("Produce", topic=topic, error=NOT_ENOUGH_REPLICAS, times=100)
    first, second = producer.send(topic, bytes(900)), producer.send(topic, bytes(900))  # a batch each
    error = second.exception(SOON_S)
    assert says(
        error,
        "not delivered: after # ms the record was still waiting in the buffer, never sent; the last error was"
        " NOT_ENOUGH_REPLICAS: met by the batch before it, after 1 attempt: a scripted fault"
        f" (topic {topic}, partition 0, broker #, 0 attempts, stage: linger, not persisted)."
        " Check that the partition has a leader and that the brokers keep up, or raise delivery.timeout.ms.",
    )
    assert isinstance(error, KafkaTimeoutError)
    assert isinstance(error.cause, errors.NotEnoughReplicasError)
    first.exception(SOON_S)


def test_the_timeout_reports_an_unreachable_advertised_address(new_producer: MakeProducer) -> None:
    # The bootstrap address works and the one in the metadata does not: the most common mistake in setups.
    with DevCluster.running(advertised_host="127.0.0.2") as cluster:
        cluster.create_topic("orders")
        port = cluster.bootstrap_servers.rpartition(":")[2]
        producer = short_lived(new_producer, bootstrap_servers=f"127.0.0.1:{port}")
        error = producer.send("orders", b"value").exception(SOON_S)
    assert says(
        error,
        "not delivered: after # ms the record was still waiting in the buffer, never sent: broker 1 cannot be reached at the"
        f" address that it advertises (advertised.listeners): 127.0.0.2:{port}: Connection refused (os error #)"
        " (topic orders, partition 0, broker 1, 0 attempts, stage: linger, not persisted)."
        " Check that the partition has a leader and that the brokers keep up, or raise delivery.timeout.ms.",
    )


# ---------------------------------------------------------------------------------------------------- in flight, retry


def test_the_timeout_of_an_unanswered_record_has_the_time_since_its_send(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer = short_lived(new_producer)
    faults.add("Produce", topic=topic, drop="silent", times=100)
    error = producer.send(topic, b"value").exception(SOON_S)
    assert says(
        error,
        "not delivered: after # ms the record was still waiting for the broker's answer: sent # ms ago, not answered yet"
        f" (topic {topic}, partition 0, broker #, 1 attempt, stage: in flight, possibly persisted)."
        " Check the network and the brokers' load, or raise request.timeout.ms and delivery.timeout.ms.",
    )


def test_the_timeout_of_a_retried_record_has_the_last_error(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer = short_lived(new_producer, retry_backoff_ms=10_000, retry_backoff_max_ms=10_000)
    faults.add("Produce", topic=topic, error=NOT_ENOUGH_REPLICAS, times=100)
    error = producer.send(topic, b"value").exception(SOON_S)
    assert says(
        error,
        "not delivered: after # ms the record was still waiting to be sent again; the last error was NOT_ENOUGH_REPLICAS:"
        f" a scripted fault (topic {topic}, partition 0, broker #, 1 attempt, stage: retry, not persisted)."
        " Remove the cause of the last error, or raise delivery.timeout.ms.",
    )
    assert isinstance(error, KafkaTimeoutError)
    assert isinstance(error.cause, errors.NotEnoughReplicasError)
    assert (error.attempts, error.stage, error.topic, error.partition) == (1, "retry", topic, 0)


# ---------------------------------------------------------------------------------------------- unnoticed failures


def test_unnoticed_failures_are_logged_once_with_their_count(
    new_producer: MakeProducer, topic: str, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    producer = new_producer(client_id="forgetful")
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0, times=100)
    for _ in range(3):
        producer.send(topic, b"without a future")
    seen = producer.send(topic, b"seen")
    assert seen.exception(SOON_S)
    closers = [threading.Thread(target=producer.close) for _ in range(4)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(SOON_S)
    producer.close()
    lines = [record.getMessage() for record in caplog.records if "not delivered" in record.getMessage()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("forgetful: 3 records were not delivered; the first error: TOPIC_AUTHORIZATION_FAILED")


def test_failures_that_flush_has_raised_are_not_logged_again(
    new_producer: MakeProducer, topic: str, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    producer = new_producer()
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0)
    producer.send(topic, b"value")
    with pytest.raises(errors.DeliveryError):
        producer.flush(SOON_S)
    producer.close()
    assert "not delivered" not in caplog.text
