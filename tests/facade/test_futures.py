"""`DeliveryFuture`, `wait` and `as_completed`: as in `concurrent.futures`, except that a record cannot be cancelled."""

from __future__ import annotations

import gc
import queue
import threading
import time
import weakref
from typing import Any

import pytest
from facade_support import SOON_S, MakeProducer, MakeTopic

import penstock
from penstock import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    KafkaError,
    KafkaProducer,
    KafkaTimeoutError,
    RecordMetadata,
    errors,
)
from penstock.devbroker import Faults

HELD_MS = 400
"""The delay of a delayed answer: long enough for everything that must happen before it."""


def test_a_result_is_the_metadata_of_the_record(producer: KafkaProducer[Any, Any], topic: str) -> None:
    first = producer.send(topic, b"value", key=b"k", timestamp=12345).result(10)
    assert first == penstock.RecordMetadata(topic, 0, 0, 12345, 1, 5)
    second = producer.send(topic, None).result(10)
    assert (second.offset, second.serialized_key_size, second.serialized_value_size) == (1, -1, -1)
    assert abs(second.timestamp - time.time() * 1000) < 60_000


def test_under_log_append_time_the_timestamp_is_the_brokers(
    producer: KafkaProducer[Any, Any], new_topic: MakeTopic
) -> None:
    topic = new_topic(message_timestamp_type="LogAppendTime")
    assert producer.send(topic, b"value", timestamp=12345).result(10).timestamp > 1_700_000_000_000


def test_a_future_is_running_until_it_is_done_and_is_never_cancelled(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)
    future = producer.send(topic, b"value")
    assert future.running()
    assert not future.done()
    assert "being sent" in repr(future)
    assert future.cancel() is False
    assert future.cancelled() is False
    assert future.exception(10) is None
    assert future.done()
    assert not future.running()
    assert future.cancel() is False
    assert "offset 0" in repr(future)


def test_waiting_for_a_pending_record_raises_the_builtin_timeout(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)
    future = producer.send(topic, b"value")
    for ask in (future.result, future.exception):
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError, match="still being sent") as caught:
                ask(timeout)
            assert not isinstance(caught.value, penstock.KafkaError)
            assert f"after {max(timeout, 0)} s" in str(caught.value)
    assert future.result(10).offset == 0


def test_an_expired_record_raises_the_kafka_error(new_producer: MakeProducer, topic: str, faults: Faults) -> None:
    producer = new_producer(request_timeout_ms=100, delivery_timeout_ms=300, linger_ms=0)
    faults.add("Produce", topic=topic, drop="silent", times=100)
    future = producer.send(topic, b"value")
    with pytest.raises(KafkaTimeoutError) as caught:
        future.result(10)
    assert future.exception() is caught.value
    assert isinstance(caught.value, TimeoutError)
    assert "failed" in repr(future)


def test_each_failed_record_has_its_own_error_object(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0, times=100)
    futures = [producer.send(topic, b"value") for _ in range(3)]
    held = [future.exception(10) for future in futures]
    assert len({id(error) for error in held}) == 3
    assert all(future.exception() is error for future, error in zip(futures, held, strict=True))
    gone = [weakref.ref(error) for error in held if error is not None]
    del held
    assert all(gone[at]() is futures[at].exception() for at in range(3))
    del futures[1]
    gc.collect()
    assert [error() is None for error in gone] == [False, True, False]
    del futures
    gc.collect()
    assert [error() for error in gone] == [None, None, None]


@pytest.mark.parametrize("timeout", [float("nan"), "soon"])
def test_an_invalid_timeout_is_refused(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults, timeout: Any
) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)
    with pytest.raises((ValueError, TypeError)):
        producer.send(topic, b"value").result(timeout)


def test_an_endless_timeout_waits(producer: KafkaProducer[Any, Any], topic: str) -> None:
    assert producer.send(topic, b"value").result(float("inf")).offset == 0
    assert producer.send(topic, b"value").result(1e300).offset == 1


def test_a_failure_is_the_same_object_each_time(producer: KafkaProducer[Any, Any], topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0)
    future = producer.send(topic, b"value")
    error = future.exception(10)
    assert isinstance(error, errors.TopicAuthorizationError)
    with pytest.raises(errors.TopicAuthorizationError) as caught:
        future.result()
    assert caught.value is error


# ------------------------------------------------------------------------------------------------------ add_done_callback


def test_a_done_callback_added_before_runs_once_on_the_callback_thread(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)
    future = producer.send(topic, b"value")
    seen: list[tuple[Any, str]] = []
    future.add_done_callback(lambda done: seen.append((done, threading.current_thread().name)))
    producer.flush(10)
    assert seen == [(future, "penstock-callbacks")]


def test_a_done_callback_added_later_runs_at_once_on_this_thread(producer: KafkaProducer[Any, Any], topic: str) -> None:
    future = producer.send(topic, b"value")
    future.result(10)
    seen: list[tuple[Any, str]] = []
    future.add_done_callback(lambda done: seen.append((done, threading.current_thread().name)))
    assert seen == [(future, threading.current_thread().name)]


def test_done_callbacks_run_in_the_order_in_which_they_were_added(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)
    future = producer.send(topic, b"value")
    seen: list[int] = []
    for number in range(5):
        future.add_done_callback(lambda _, number=number: seen.append(number))
    producer.flush(10)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("before", [True, False])
def test_an_exception_in_a_done_callback_is_logged(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults, caplog: pytest.LogCaptureFixture, before: bool
) -> None:
    def fail(_: object) -> None:
        raise ValueError("on purpose")

    seen: list[Any] = []
    if before:
        faults.add("Produce", topic=topic, delay_ms=HELD_MS)
    future = producer.send(topic, b"value")
    if not before:
        future.result(10)
    future.add_done_callback(fail)
    future.add_done_callback(seen.append)
    producer.flush(10)
    assert seen == [future]
    assert [record.levelname for record in caplog.records if "a callback raised" in record.getMessage()] == ["ERROR"]
    assert "on purpose" in caplog.text


def test_a_done_callback_must_be_callable(producer: KafkaProducer[Any, Any], topic: str) -> None:
    with pytest.raises(TypeError, match="not callable"):
        producer.send(topic, b"value").add_done_callback(5)


# ----------------------------------------------------------------------------------------------------- wait, as_completed


@pytest.fixture
def two_topics(new_topic: MakeTopic) -> tuple[str, str]:
    return new_topic(), new_topic()


def test_wait_returns_when_all_are_done(producer: KafkaProducer[Any, Any], topic: str) -> None:
    futures = [producer.send(topic, b"value") for _ in range(50)]
    done, not_done = penstock.wait(futures, 10)
    assert done == set(futures)
    assert not_done == set()


def test_wait_returns_with_the_first_that_is_done(
    new_producer: MakeProducer, two_topics: tuple[str, str], faults: Faults
) -> None:
    slow, fast = (new_producer().send(two_topics[0], b"warm"), new_producer().send(two_topics[1], b"warm"))
    penstock.wait([slow, fast])
    faults.add("Produce", topic=two_topics[0], delay_ms=HELD_MS)
    slow = new_producer().send(two_topics[0], b"value")
    fast = new_producer().send(two_topics[1], b"value")
    result = penstock.wait([slow, fast], return_when=FIRST_COMPLETED)
    assert result.done == {fast}
    assert result.not_done == {slow}
    assert penstock.wait([slow, fast], 10).done == {slow, fast}


def test_wait_for_an_exception_returns_with_it_or_when_all_are_done(
    new_producer: MakeProducer, two_topics: tuple[str, str], faults: Faults
) -> None:
    faults.add("Produce", topic=two_topics[0], delay_ms=HELD_MS)
    faults.add("Produce", topic=two_topics[1], error=errors.TopicAuthorizationError.code or 0)
    slow = new_producer().send(two_topics[0], b"value")
    failing = new_producer().send(two_topics[1], b"value")
    assert penstock.wait([slow, failing], return_when=FIRST_EXCEPTION) == ({failing}, {slow})
    assert penstock.wait([slow], return_when=FIRST_EXCEPTION) == ({slow}, set())


@pytest.mark.parametrize("return_when", [ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION])
def test_wait_returns_the_done_futures_after_its_timeout(
    new_producer: MakeProducer, two_topics: tuple[str, str], faults: Faults, return_when: str
) -> None:
    faults.add("Produce", topic=two_topics[0], delay_ms=HELD_MS)
    slow = new_producer().send(two_topics[0], b"value")
    assert penstock.wait([slow], 0.02, return_when=return_when) == (set(), {slow})
    fast = new_producer().send(two_topics[1], b"value")
    fast.result(10)
    done, _ = penstock.wait([slow, fast], 0, return_when=return_when)
    assert fast in done


@pytest.mark.parametrize("return_when", [ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION])
def test_wait_for_nothing_returns_at_once(return_when: str) -> None:
    assert penstock.wait([], return_when=return_when) == (set(), set())


def test_wait_refuses_invalid_arguments() -> None:
    with pytest.raises(ValueError, match="return_when"):
        penstock.wait([], return_when="SOMETIMES")


def test_as_completed_yields_each_once_in_the_order_of_their_ends(
    new_producer: MakeProducer, two_topics: tuple[str, str], faults: Faults
) -> None:
    faults.add("Produce", topic=two_topics[0], delay_ms=HELD_MS)
    slow = new_producer().send(two_topics[0], b"value")
    fast = new_producer().send(two_topics[1], b"value")
    assert list(penstock.as_completed([slow, fast, slow], 10)) == [fast, slow]
    assert set(penstock.as_completed([slow, fast])) == {fast, slow}
    assert list(penstock.as_completed([])) == []


def test_as_completed_raises_after_its_timeout(producer: KafkaProducer[Any, Any], topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)
    future = producer.send(topic, b"value")
    with pytest.raises(TimeoutError, match=r"1 \(of 1\) futures unfinished"):
        list(penstock.as_completed([future], 0.02))
    assert future.result(SOON_S)


def test_a_future_outlives_its_producer(new_producer: MakeProducer, topic: str) -> None:
    producer = new_producer()
    future = producer.send(topic, b"value")
    producer.close()
    assert future.result().offset == 0
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    assert seen == [future]


def test_waiting_for_the_first_inside_a_callback_is_refused(producer: KafkaProducer[bytes, bytes], topic: str) -> None:
    refused: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def callback(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        calls = (lambda: penstock.wait([future], return_when=FIRST_COMPLETED), lambda: penstock.as_completed([future]))
        for call in calls:
            try:
                call()
            except KafkaError as raised:
                refused.put(raised)

    future = producer.send(topic, b"first")
    future.result(10)
    producer.send(topic, b"second", callback=callback)
    producer.flush()
    assert "inside a callback" in str(refused.get(timeout=10))
    assert "inside a callback" in str(refused.get(timeout=10))
