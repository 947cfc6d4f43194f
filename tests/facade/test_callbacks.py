"""Callbacks of `send`: exactly once if it returned, never if it raised, in order per partition, on their own thread."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from facade_support import SOON_S, Gate, Log, MakeProducer, MakeTopic

from penstock import (
    BufferExhaustedError,
    KafkaError,
    KafkaProducer,
    KafkaTimeoutError,
    ProducerClosedError,
    ProducerRecord,
    RecordMetadata,
    errors,
)
from penstock.devbroker import Faults

Outcome = tuple[RecordMetadata | None, KafkaError | None]


def test_a_callback_runs_once_per_record_with_its_metadata(producer: KafkaProducer[Any, Any], topic: str) -> None:
    seen: list[Outcome] = []
    futures = [
        producer.send(topic, b"%d" % number, callback=lambda *outcome: seen.append(outcome)) for number in range(500)
    ]
    producer.flush()
    assert [metadata for metadata, _ in seen] == [future.result() for future in futures]
    assert all(error is None for _, error in seen)


def test_send_of_a_record_object_accepts_a_callback(producer: KafkaProducer[Any, Any], topic: str) -> None:
    seen: list[Outcome] = []
    producer.send(ProducerRecord(topic, b"value"), callback=lambda *outcome: seen.append(outcome))
    producer.flush()
    assert [metadata.offset for metadata, _ in seen if metadata] == [0]


def test_flush_returns_only_after_the_callbacks_have_run(producer: KafkaProducer[Any, Any], topic: str) -> None:
    # Many small flushes: each could overtake the callback of a batch that was resolved at the same moment.
    seen: list[Outcome] = []
    for count in range(1, 401):
        producer.send(topic, b"value", callback=lambda *outcome: seen.append(outcome))
        producer.flush()
        assert len(seen) == count


def test_a_failed_record_has_an_error_and_no_metadata(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0)
    seen: list[Outcome] = []
    future = producer.send(topic, b"value", callback=lambda *outcome: seen.append(outcome))
    producer.flush()
    ((metadata, error),) = seen
    assert metadata is None
    assert isinstance(error, errors.TopicAuthorizationError)
    assert isinstance(future.exception(), errors.TopicAuthorizationError)


def test_callbacks_run_on_their_own_thread(producer: KafkaProducer[Any, Any], topic: str) -> None:
    names: list[str] = []
    producer.send(topic, b"value", callback=lambda *_: names.append(threading.current_thread().name))
    producer.flush()
    assert names == ["penstock-callbacks"]


def test_callbacks_of_a_partition_run_in_the_order_of_the_sends(
    new_producer: MakeProducer, new_topic: MakeTopic, faults: Faults
) -> None:
    topic = new_topic(4)
    producer = new_producer(batch_size=200)
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0, times=5)
    seen: dict[int, list[int]] = {partition: [] for partition in range(4)}
    for number in range(800):
        partition = number % 4
        producer.send(
            topic, bytes(20), partition=partition, callback=lambda *_, p=partition, n=number: seen[p].append(n)
        )
    producer.flush()
    assert seen == {partition: list(range(partition, 800, 4)) for partition in range(4)}


def test_a_raising_callback_is_logged(
    producer: KafkaProducer[Any, Any], topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        raise SystemExit("on purpose")

    seen: list[Outcome] = []
    future = producer.send(topic, b"value", callback=fail)
    producer.send(topic, b"value", callback=lambda *outcome: seen.append(outcome))
    producer.flush()
    assert future.result().offset == 0
    assert len(seen) == 1
    (logged,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "a callback raised" in logged.getMessage()
    assert "on purpose" in caplog.text


def test_a_log_filter_that_raises_does_not_end_the_callback_thread(
    producer: KafkaProducer[Any, Any], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_again(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError("in the filter")

    unraisable: list[object] = []
    monkeypatch.setattr("threading.excepthook", lambda what: unraisable.append(what.exc_value))
    logger = logging.getLogger("penstock.producer")
    logger.addFilter(raise_again)
    try:
        producer.send(topic, b"a", callback=lambda *_: 1 / 0)
        producer.flush(SOON_S)
    finally:
        logger.removeFilter(raise_again)
    assert [str(error) for error in unraisable] == ["in the filter"]
    seen: list[Outcome] = []
    producer.send(topic, b"b", callback=lambda *outcome: seen.append(outcome))
    producer.flush(SOON_S)
    assert len(seen) == 1


def test_a_callback_with_the_wrong_signature_is_logged(
    producer: KafkaProducer[Any, Any], topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    producer.send(topic, b"value", callback=lambda: None)
    producer.flush()
    assert "positional argument" in caplog.text


def test_a_callback_may_send_to_a_new_topic(producer: KafkaProducer[Any, Any], new_topic: MakeTopic, log: Log) -> None:
    first, second = new_topic(), new_topic()
    finished = threading.Event()

    def send_on(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        producer.send(first, b"known topic")
        producer.send(second, b"new topic", callback=lambda *_: finished.set())

    producer.send(first, b"start", callback=send_on)
    assert finished.wait(SOON_S)
    producer.flush()
    assert log.values(first) == [b"start", b"known topic"]
    assert log.values(second) == [b"new topic"]


def test_a_callback_may_wait_for_a_future(producer: KafkaProducer[Any, Any], topic: str) -> None:
    seen: list[int] = []

    def send_and_wait(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        seen.append(producer.send(topic, b"second").result(SOON_S).offset)

    producer.send(topic, b"first", callback=send_and_wait)
    producer.flush()
    assert seen == [1]


def test_a_slow_callback_delays_no_future(producer: KafkaProducer[Any, Any], topic: str) -> None:
    gate = Gate()
    producer.send(topic, b"first", callback=gate)
    assert gate.entered.wait(SOON_S)
    assert producer.send(topic, b"second").result(SOON_S).offset == 1
    gate.open.set()


def test_flush_inside_a_callback_raises_instead_of_waiting_for_itself(
    producer: KafkaProducer[Any, Any], topic: str
) -> None:
    raised: list[BaseException] = []

    def flush(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        try:
            producer.flush()
        except KafkaError as refused:
            raised.append(refused)

    producer.send(topic, b"value", callback=flush)
    producer.flush()
    (error,) = raised
    assert "inside a callback" in str(error)


def test_close_inside_a_callback_does_not_wait_and_fails_the_rest(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer = new_producer(linger_ms=60_000, batch_size=1000)
    seen: list[Outcome] = []
    closed, noted = threading.Event(), threading.Event()

    def note(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        seen.append((metadata, error))
        noted.set()

    def close(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        rest.append(producer.send(topic, b"rest", callback=note))
        producer.close()
        closed.set()

    rest: list[Any] = []
    producer.send(topic, bytes(900), callback=close)
    producer.send(topic, bytes(900), callback=lambda *_: None)  # it fills the first batch
    assert closed.wait(SOON_S)
    assert isinstance(rest[0].exception(SOON_S), ProducerClosedError)
    with pytest.raises(ProducerClosedError):
        producer.send(topic, b"late")
    producer.close()
    assert noted.wait(SOON_S)
    assert [type(error) for _, error in seen] == [ProducerClosedError]


def test_a_callback_never_runs_if_send_raised(new_producer: MakeProducer, topic: str, faults: Faults) -> None:
    seen: list[Outcome] = []
    producer = new_producer(max_block_ms=100, buffer_memory=2000, batch_size=1000)
    producer.send(topic, b"known").result(SOON_S)
    faults.add("Produce", topic=topic, delay_ms=1500)
    for _ in range(2):
        producer.send(topic, bytes(900))
    with pytest.raises(BufferExhaustedError):
        producer.send(topic, bytes(900), callback=lambda *outcome: seen.append(outcome))
    with pytest.raises(KafkaTimeoutError):
        producer.send("absent", b"value", callback=lambda *outcome: seen.append(outcome))
    producer.flush()
    producer.close()
    assert seen == []


def test_callbacks_of_records_that_close_failed_run(new_producer: MakeProducer, topic: str, faults: Faults) -> None:
    producer = new_producer()
    faults.add("Produce", topic=topic, delay_ms=1000)
    done = threading.Event()
    seen: list[Outcome] = []

    def note(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        seen.append((metadata, error))
        done.set()

    producer.send(topic, b"value", callback=note)
    producer.close(0)
    assert done.wait(SOON_S)
    assert [type(error) for _, error in seen] == [ProducerClosedError]


def test_records_of_waiting_callbacks_hold_memory_and_slow_down_send(new_producer: MakeProducer, topic: str) -> None:
    gate = Gate()
    producer = new_producer(buffer_memory=64 * 1024, batch_size=16 * 1024, max_block_ms=500)

    def send_many() -> None:
        for _ in range(100):
            producer.send(topic, b"x" * 10_000, callback=gate)

    with pytest.raises(BufferExhaustedError):
        send_many()
    gate.open.set()
    producer.flush(SOON_S)
    assert producer.metrics()["producer-metrics"]["buffer-available-bytes"] == 64 * 1024


def test_a_callback_may_send_when_the_buffer_is_full(new_producer: MakeProducer, topic: str, log: Log) -> None:
    producer = new_producer(buffer_memory=16 * 1024, batch_size=16 * 1024)
    sent = threading.Event()

    def send_again(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        producer.send(topic, b"again")
        sent.set()

    producer.send(topic, b"first", callback=send_again)
    assert sent.wait(SOON_S)
    producer.flush(SOON_S)
    assert log.values(topic) == [b"first", b"again"]
