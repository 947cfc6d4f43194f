"""`flush`, `close` and `with`: which failures they raise, and what happens to pending records."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import pytest
from facade_support import SOON_S, Gate, Log, MakeProducer, MakeTopic, closed_port, in_thread, threads_of_penstock

from penstock import DeliveryError, KafkaError, KafkaProducer, KafkaTimeoutError, ProducerClosedError, errors
from penstock.devbroker import Faults, RunningCluster
from penstock.interceptor import ProducerInterceptor
from penstock.partitioner import RoundRobinPartitioner

REFUSED = errors.TopicAuthorizationError.code or 0

# ---------------------------------------------------------------------------------------------------------------- flush


def test_flush_sends_lingering_records_at_once(new_producer: MakeProducer, topic: str, log: Log) -> None:
    producer = new_producer(linger_ms=60_000)
    future = producer.send(topic, b"value")
    producer.flush(SOON_S)
    assert future.done()
    assert log.values(topic) == [b"value"]
    producer.flush()


@pytest.mark.parametrize("timeout", [-1, -0.001, float("-inf"), float("nan")])
def test_a_negative_timeout_is_refused_by_flush_and_close(
    producer: KafkaProducer[Any, Any], topic: str, timeout: float
) -> None:
    for wait in (producer.flush, producer.close):
        with pytest.raises(ValueError, match="timeout"):
            wait(timeout)
    assert not producer.closed
    producer.send(topic, b"value").result(SOON_S)


def test_flush_raises_for_unnoticed_failures(
    producer: KafkaProducer[Any, Any], new_topic: MakeTopic, faults: Faults
) -> None:
    bad, good = new_topic(), new_topic()
    producer.send(good, b"value").result(SOON_S)
    faults.add("Produce", topic=bad, error=REFUSED)
    producer.partitions_for(bad)
    for _ in range(7):
        producer.send(bad, b"value")
    producer.send(good, b"value")
    with pytest.raises(DeliveryError) as caught:
        producer.flush()
    assert caught.value.count == 7
    assert [type(error) for error in caught.value.errors] == [errors.TopicAuthorizationError]
    assert "7 records were not delivered" in str(caught.value)
    assert bad in str(caught.value)
    assert caught.value.__cause__ is caught.value.errors[0]
    producer.flush()


def test_each_failed_batch_gives_one_of_the_first_five_errors(
    producer: KafkaProducer[Any, Any], new_topic: MakeTopic, faults: Faults
) -> None:
    topic = new_topic(8)
    faults.add("Produce", topic=topic, error=REFUSED, times=8)
    for partition in range(8):
        producer.send(topic, b"value", partition=partition)
    with pytest.raises(DeliveryError) as caught:
        producer.flush()
    assert caught.value.count == 8
    assert len(caught.value.errors) == 5


@pytest.mark.parametrize("asking", ["result", "exception", "done callback", "callback", "timed out"])
def test_flush_does_not_raise_for_noticed_failures(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults, asking: str
) -> None:
    faults.add("Produce", topic=topic, error=REFUSED, delay_ms=50)
    future = producer.send(topic, b"value", callback=(lambda *_: None) if asking == "callback" else None)
    if asking == "result":
        with pytest.raises(KafkaError):
            future.result(SOON_S)
    elif asking == "exception":
        assert future.exception(SOON_S)
    elif asking == "timed out":
        with pytest.raises(TimeoutError):
            future.result(0)
    elif asking == "done callback":
        future.add_done_callback(lambda _: None)
    producer.flush()


def test_flush_counts_only_unnoticed_records_of_a_failed_batch(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer = new_producer(linger_ms=60_000)
    faults.add("Produce", topic=topic, error=REFUSED)
    futures = [producer.send(topic, b"value") for _ in range(100)]
    for future in futures[::2]:
        future.add_done_callback(lambda _: None)
    with pytest.raises(DeliveryError) as caught:
        producer.flush()
    assert caught.value.count == 50


def test_done_does_not_notice_a_failure(producer: KafkaProducer[Any, Any], topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, error=REFUSED)
    future = producer.send(topic, b"value")
    future.done()
    future.running()
    with pytest.raises(DeliveryError):
        producer.flush()


def test_an_interceptor_does_not_notice_a_failure(new_producer: MakeProducer, topic: str, faults: Faults) -> None:
    class Watcher(ProducerInterceptor):
        def on_acknowledgement(self, *_: object) -> None:
            pass

    producer = new_producer(interceptor_classes=[Watcher()])
    faults.add("Produce", topic=topic, error=REFUSED)
    producer.send(topic, b"value")
    with pytest.raises(DeliveryError):
        producer.flush()


def test_flush_raises_a_failure_that_has_just_happened(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults
) -> None:
    producer.send(topic, b"value").result(SOON_S)
    faults.add("Produce", topic=topic, error=REFUSED, times=200)
    for _ in range(200):
        producer.send(topic, b"value")
        with pytest.raises(DeliveryError):
            producer.flush()


def test_a_flush_timeout_reports_pending_records_which_still_arrive(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults, log: Log
) -> None:
    faults.add("Produce", topic=topic, delay_ms=500)
    futures = [producer.send(topic, b"%d" % number) for number in range(3)]
    with pytest.raises(KafkaTimeoutError, match=r"flush\(0\.05\) ran out of time with 3 records"):
        producer.flush(0.05)
    with pytest.raises(KafkaTimeoutError):
        producer.flush(0)
    producer.flush(SOON_S)
    assert [future.result().offset for future in futures] == [0, 1, 2]
    assert log.count(topic) == 3


def test_a_flush_timeout_reports_a_slow_callback(producer: KafkaProducer[Any, Any], topic: str) -> None:
    gate = Gate()
    producer.send(topic, b"value", callback=gate)
    assert gate.entered.wait(SOON_S)
    with pytest.raises(KafkaTimeoutError, match="callbacks"):
        producer.flush(0.05)
    gate.open.set()
    producer.flush(SOON_S)


def test_flush_is_not_prolonged_by_later_sends(
    new_producer: MakeProducer, new_topic: MakeTopic, faults: Faults
) -> None:
    first, second = new_topic(), new_topic()
    # Nothing is sent before the flush: its end is fixed when the first record's callback runs.
    producer = new_producer(linger_ms=60_000)
    producer.partitions_for(first)
    producer.partitions_for(second)
    faults.add("Produce", topic=second, drop="silent", times=1_000)
    gate = Gate()
    producer.send(first, b"before", callback=gate)
    flusher, outcome = in_thread(lambda: producer.flush(SOON_S))
    assert gate.entered.wait(SOON_S)
    stop = threading.Event()

    def keep_sending() -> None:
        while not stop.is_set():
            producer.send(second, b"meanwhile")
            stop.wait(0.001)

    later = producer.send(second, b"meanwhile")
    sender, _ = in_thread(keep_sending)
    gate.open.set()
    flusher.join()
    stop.set()
    sender.join()
    assert outcome == [None]
    assert not later.done()


def test_flush_of_an_empty_buffer_returns_at_once(producer: KafkaProducer[Any, Any]) -> None:
    producer.flush()
    producer.flush(0)


def test_flush_after_close_returns_at_once(producer: KafkaProducer[Any, Any], topic: str) -> None:
    producer.send(topic, b"value")
    producer.close()
    producer.flush()


# ---------------------------------------------------------------------------------------------------------------- close


def test_close_delivers_buffered_records_and_ends_the_threads(cluster: RunningCluster, topic: str, log: Log) -> None:
    before = threads_of_penstock()
    producer = KafkaProducer(bootstrap_servers=cluster.bootstrap_servers, linger_ms=60_000)
    futures = [producer.send(topic, b"%d" % number) for number in range(100)]
    producer.close()
    assert all(future.done() for future in futures)
    assert log.count(topic) == 100
    assert threads_of_penstock() == before
    producer.close()
    producer.close(0)


def test_close_logs_unnoticed_failures(
    new_producer: MakeProducer, topic: str, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    producer = new_producer(client_id="the-closed-one")
    faults.add("Produce", topic=topic, error=REFUSED)
    producer.send(topic, b"value")
    producer.close()
    assert "the-closed-one: 1 record was not delivered" in caplog.text
    assert topic in caplog.text


def test_close_with_zero_fails_records_at_once_as_possibly_persisted(
    new_producer: MakeProducer,
    new_topic: MakeTopic,
    faults: Faults,
    cluster: RunningCluster,
) -> None:
    sent, held = new_topic(), new_topic()
    producer = new_producer(linger_ms=60_000, batch_size=1000)
    producer.partitions_for(sent)
    producer.partitions_for(held)
    faults.add("Produce", topic=sent, delay_ms=1500)
    in_flight = producer.send(sent, bytes(900))
    producer.send(sent, bytes(900))  # it fills the first batch
    cluster.requests.wait_for("Produce")
    buffered = producer.send(held, b"small")
    began = time.monotonic()
    producer.close(0)
    assert time.monotonic() - began < 1.0
    for future, stage, persisted in ((in_flight, "in flight", True), (buffered, "linger", False)):
        error = future.exception(0)
        assert isinstance(error, ProducerClosedError)
        assert error.stage == stage
        assert error.possibly_persisted is persisted
        assert str(error).count("the producer was closed") == 1
    assert (in_flight.exception().attempts, buffered.exception().attempts) == (1, 0)


def test_records_failed_by_close_have_their_last_error(
    new_producer: MakeProducer, topic: str, faults: Faults, cluster: RunningCluster
) -> None:
    producer = new_producer(retry_backoff_ms=5, retry_backoff_max_ms=10)
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0, times=1_000_000)
    future = producer.send(topic, b"value")
    cluster.requests.wait_for("Produce", 3)
    producer.close(0)
    error = future.exception(0)
    assert isinstance(error, ProducerClosedError)
    assert "the last error was NOT_ENOUGH_REPLICAS" in str(error)
    assert isinstance(error.cause, errors.NotEnoughReplicasError)


def test_close_with_a_timeout_waits_that_long_and_fails_the_rest(
    new_producer: MakeProducer, topic: str, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    producer = new_producer()
    faults.add("Produce", topic=topic, delay_ms=3000)
    future = producer.send(topic, b"value")
    began = time.monotonic()
    producer.close(0.2)
    assert 0.2 <= time.monotonic() - began < 2
    assert isinstance(future.exception(0), ProducerClosedError)
    assert "1 record" in caplog.text


def test_close_with_time_enough_delivers(new_producer: MakeProducer, topic: str, faults: Faults, log: Log) -> None:
    producer = new_producer()
    faults.add("Produce", topic=topic, delay_ms=200)
    future = producer.send(topic, b"value")
    producer.close(SOON_S)
    assert future.result(0).offset == 0


def test_close_waits_for_callbacks(new_producer: MakeProducer, topic: str) -> None:
    seen: list[object] = []
    producer = new_producer(linger_ms=60_000)
    for number in range(100):
        producer.send(topic, b"value", callback=lambda *_, number=number: seen.append(number))
    producer.close()
    assert seen == list(range(100))


def test_many_threads_may_close_at_once(new_producer: MakeProducer, topic: str, log: Log) -> None:
    producer = new_producer(linger_ms=60_000)
    for _ in range(100):
        producer.send(topic, b"value")
    closers = [in_thread(producer.close) for _ in range(8)]
    for thread, _ in closers:
        thread.join(SOON_S)
    assert [outcome for _, outcome in closers] == [[None]] * 8
    assert log.count(topic) == 100


# ----------------------------------------------------------------------------------------------------------------- with


def test_leaving_with_delivers_and_closes(cluster: RunningCluster, topic: str, log: Log) -> None:
    with KafkaProducer(bootstrap_servers=cluster.bootstrap_servers, linger_ms=60_000) as producer:
        producer.send(topic, b"value")
    assert producer.closed
    assert log.values(topic) == [b"value"]


def test_leaving_with_raises_for_records_that_failed_unnoticed_and_closes(
    cluster: RunningCluster, topic: str, faults: Faults
) -> None:
    faults.add("Produce", topic=topic, error=REFUSED)
    with pytest.raises(DeliveryError), KafkaProducer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        producer.send(topic, b"value")
    assert producer.closed


def test_an_exception_in_a_with_block_is_kept_and_failures_are_logged(
    cluster: RunningCluster, topic: str, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.add("Produce", topic=topic, error=REFUSED)
    producer = KafkaProducer(bootstrap_servers=cluster.bootstrap_servers)

    def work() -> None:
        with producer:
            producer.send(topic, b"value")
            raise LookupError("the application's own")

    with pytest.raises(LookupError, match="the application's own"):
        work()
    assert producer.closed
    assert "1 record was not delivered" in caplog.text


def test_close_inside_a_with_block_is_allowed(cluster: RunningCluster, topic: str) -> None:
    with KafkaProducer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        producer.send(topic, b"value")
        producer.close()


# --------------------------------------------------------------------------------------------------------------- unclosed


class _Watching(ProducerInterceptor):
    def on_send(self, record: Any) -> Any:
        return record


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"partitioner_class": RoundRobinPartitioner},
        {"interceptor_classes": [_Watching()]},
        {"value_serializer": bytes},
    ],
    ids=["plain", "partitioner", "interceptor", "function"],
)
def test_a_producer_that_is_dropped_unclosed_warns_and_its_records_still_arrive(
    cluster: RunningCluster, topic: str, log: Log, options: dict[str, Any]
) -> None:
    producer = KafkaProducer(bootstrap_servers=cluster.bootstrap_servers, linger_ms=60_000, **options)
    future = producer.send(topic, b"value")
    gone = weakref.ref(producer)
    held: list[object] = [producer]
    del producer
    with pytest.warns(ResourceWarning, match="unclosed <KafkaProducer .*use `with` or close"):
        held.clear()
    assert gone() is None
    assert future.result(SOON_S).offset == 0
    assert log.values(topic) == [b"value"]


def test_a_producer_whose_constructor_failed_does_not_warn() -> None:
    with pytest.raises(errors.ConfigError):
        KafkaProducer(bootstrap_servers="localhost:9092", acks="several")
    gc.collect()


def test_close_without_a_reachable_broker_ends_within_its_timeout() -> None:
    with closed_port() as address:
        producer = KafkaProducer(bootstrap_servers=address)
        began = time.monotonic()
        producer.close(1)
        assert time.monotonic() - began < 3


def test_all_unnoticed_failures_are_counted_over_many_batches(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    # More batches than are stored one by one.
    count = 5_000
    faults.add("Produce", topic=topic, error=errors.InvalidRecordError.code or 0, times=count)
    producer = new_producer(batch_size=1, linger_ms=0)
    for _ in range(count):
        producer.send(topic, b"value")
    with pytest.raises(DeliveryError) as raised:
        producer.flush()
    assert raised.value.count == count
