"""`send_many` and its result on the embedded broker, in both facades."""

from __future__ import annotations

import gc
import logging
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from driven import FACADES, blocking_only
from facade_support import SOON_S, Gate, Log, MakeProducer, MakeTopic, numbered, silent_server
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import (
    BufferExhaustedError,
    BulkResult,
    DeliveryError,
    KafkaError,
    KafkaProducer,
    KafkaTimeoutError,
    LongSerializer,
    ProducerClosedError,
    ProducerInterceptor,
    ProducerRecord,
    RecordTooLargeError,
    SerializationError,
    StringSerializer,
    errors,
)
from penstock.devbroker import Faults, RunningCluster

REFUSED = errors.TopicAuthorizationError.code or 0
TOO_LARGE = 10
QUICK = {"retry_backoff_ms": 5, "retry_backoff_max_ms": 20}


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> Any:
    """Every test here holds for both."""
    return request.param


# ------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("shape", [list, tuple, iter, lambda values: (value for value in values), np.array])
def test_any_iterable_of_values_is_sent_in_order(
    producer: KafkaProducer[Any, Any], topic: str, log: Log, shape: Any
) -> None:
    values = [f"{number:05}".encode() for number in range(5_000)]
    result = producer.send_many(topic, shape(values))
    assert result.result(SOON_S) is result
    assert log.values(topic) == values
    assert list(result.offsets) == list(range(5_000))
    assert set(result.partitions) == {0}
    assert (len(result), result.done(), result.errors) == (5_000, True, {})
    result.raise_for_errors()


def test_every_column_arrives(new_producer: MakeProducer, new_topic: MakeTopic, log: Log) -> None:
    topic = new_topic(3)
    producer = new_producer(key_serializer=StringSerializer(), value_serializer=LongSerializer())
    moment = datetime(2024, 2, 29, tzinfo=UTC)
    result = producer.send_many(
        topic,
        [1, None, 3],
        keys=["a", None, "c"],
        headers=[None, {"h": b"1"}, [("x", None), ("x", b"")]],
        timestamps=[5, moment, np.int64(7)],
        partition=2,
    )
    result.raise_for_errors()
    assert list(result.partitions) == [2, 2, 2]
    assert [(r.value, r.key, r.timestamp, r.headers) for r in log.records(topic)] == [
        ((1).to_bytes(8), b"a", 5, ()),
        (None, None, int(moment.timestamp() * 1000), (("h", b"1"),)),
        ((3).to_bytes(8), b"c", 7, (("x", None), ("x", b""))),
    ]


def test_keys_choose_partitions_as_send_does(producer: KafkaProducer[Any, Any], new_topic: MakeTopic, log: Log) -> None:
    topic, other = new_topic(7), new_topic(7)
    values = numbered(10_000)
    keys = [b"key %d" % (number % 31) for number in range(10_000)]
    result = producer.send_many(topic, values, keys=keys)
    futures = [producer.send(other, value, key=key) for value, key in zip(values, keys, strict=True)]
    assert list(result.partitions) == [future.result(SOON_S).partition for future in futures]
    assert list(result.offsets) == [future.result().offset for future in futures]
    assert log.by_partition(topic) == log.by_partition(other)


def test_an_empty_call_returns_an_empty_result(producer: KafkaProducer[Any, Any], topic: str) -> None:
    result = producer.send_many(topic, [])
    assert (len(result), result.done(), list(result.offsets), result.errors) == (0, True, [], {})
    assert result
    assert repr(result) == f"<BulkResult 0 records for {topic}: delivered>"


record = st.tuples(
    st.none() | st.binary(max_size=300),
    st.none() | st.binary(max_size=20),
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=6),
    st.none() | st.integers(0, 10**12),
)


@pytest.mark.parametrize("facade", FACADES)
@given(records=st.lists(record, min_size=1, max_size=60), batch_size=st.sampled_from([0, 100, 16_384]))
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_send_many_equals_repeated_sends(
    cluster: RunningCluster, facade: type[KafkaProducer[Any, Any]], records: list[Any], batch_size: int
) -> None:
    log = Log(cluster)
    one, many = (f"equal-{kind}-{uuid.uuid4().hex}" for kind in "ab")
    for topic in (one, many):
        cluster.create_topic(topic, 1)
    values, keys, headers, timestamps = (list(column) for column in zip(*records, strict=True))
    with facade(bootstrap_servers=cluster.bootstrap_servers, batch_size=batch_size, linger_ms=0) as producer:
        for value, key, header, timestamp in records:
            producer.send(one, value, key=key, headers=header, timestamp=timestamp)
        producer.send_many(many, values, keys=keys, headers=headers, timestamps=timestamps).raise_for_errors()

    def logged(topic: str) -> list[Any]:
        return [
            (r.value, r.key, r.headers, None if timestamp is None else r.timestamp)
            for r, timestamp in zip(log.records(topic), timestamps, strict=True)
        ]

    assert logged(many) == logged(one)


# ------------------------------------------------------------------------------------------------- errors


class Unsized:
    """An iterable without a length."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.entries)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (([3],), SerializationError, "without a serializer"),
        ((b"abc",), TypeError, "values must be an iterable with one entry per record, not <class 'bytes'>"),
        (("abc",), TypeError, "not <class 'str'>"),
        ((7,), TypeError, "not <class 'int'>"),
        (([b"a"], [b"k", b"l"]), ValueError, "1 values and 2 keys"),
        ((Unsized([b"a"]), []), ValueError, "keys ended after 0 records, values go on"),
        ((Unsized([]), [b"k"]), ValueError, "values ended after 0 records, keys go on"),
        (([b"a"], None, [7]), TypeError, "headers must be pairs"),
        (([b"a"], None, None, ["x"]), TypeError, "timestamp must be an int"),
        (([b"x" * 2_000_000],), RecordTooLargeError, "max.request.size"),
    ],
)
def test_the_first_record_s_error_is_raised(
    producer: KafkaProducer[Any, Any], topic: str, log: Log, arguments: Any, kind: type[Exception], words: str
) -> None:
    values, keys, headers, timestamps = (*arguments, None, None, None)[:4]
    with pytest.raises(kind, match=words):
        producer.send_many(topic, values, keys=keys, headers=headers, timestamps=timestamps)
    with pytest.raises(TypeError, match="topic must be a str"):
        producer.send_many(b"t", [b"v"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="partition must lie between"):
        producer.send_many(topic, [b"v"], partition=-1)
    producer.flush()
    assert log.count(topic) == 0


def test_later_errors_are_entries_of_the_result(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    values: list[Any] = [*numbered(100), 7, *numbered(5), b"x" * 2_000_000, b"y" * 1_500_000, b"end"]
    result = producer.send_many(topic, values)
    assert list(result.errors) == [100, 106, 107]
    assert [type(error) for error in result.errors.values()] == [
        SerializationError,
        RecordTooLargeError,
        RecordTooLargeError,
    ]
    assert log.values(topic) == [*numbered(100), *numbered(5), b"end"]
    assert [offset for offset in result.offsets if offset >= 0] == list(range(106))
    assert [index for index, partition in enumerate(result.partitions) if partition < 0] == [100, 106, 107]
    with pytest.raises(DeliveryError, match="3 of 109 records not delivered; the first error, of record 100") as raised:
        result.raise_for_errors()
    assert (raised.value.count, raised.value.errors[0]) == (3, result.errors[100])
    assert "3 failed" in repr(result)


def test_a_too_large_keyed_record_is_an_error_at_its_index(
    producer: KafkaProducer[Any, Any], new_topic: MakeTopic, log: Log
) -> None:
    topic = new_topic(5)
    values = [b"x" * (2_000_000 if number in (3, 50) else 10) for number in range(100)]
    result = producer.send_many(topic, values, keys=numbered(100))
    assert list(result.errors) == [3, 50]
    assert log.count(topic) == 98


def test_an_iterator_that_raises_ends_the_call(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    def values() -> Iterator[bytes]:
        yield from numbered(3_000)
        raise OSError("the disk is gone")

    result = producer.send_many(topic, values())
    assert len(result) == 3_001
    assert list(result.errors) == [3_000]
    assert isinstance(result.errors[3_000].__cause__, OSError)
    assert "the disk is gone" in str(result.errors[3_000])
    assert log.count(topic) == 3_000


def test_a_column_that_ends_too_early_ends_the_call(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    result = producer.send_many(topic, numbered(50), keys=iter(numbered(20)))
    assert list(result.errors) == list(range(20, 50))
    assert "keys ended after 20 records" in str(result.errors[20])
    result = producer.send_many(topic, iter(numbered(20)), keys=iter(numbered(21)))
    assert list(result.errors) == [20]
    producer.flush()
    assert log.count(topic) == 40


def test_ctrl_c_is_raised_and_buffered_records_are_delivered(
    producer: KafkaProducer[Any, Any], topic: str, log: Log
) -> None:
    def values() -> Iterator[bytes]:
        yield from numbered(3_000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        producer.send_many(topic, values())
    producer.flush()
    assert log.count(topic) == 3_000


@blocking_only
def test_a_producer_closed_during_the_call_refuses_the_rest(new_producer: MakeProducer, topic: str, log: Log) -> None:
    producer = new_producer()

    def values() -> Iterator[bytes]:
        yield from numbered(5_000)
        producer.close()
        yield from numbered(5_000)

    result = producer.send_many(topic, values())
    buffered = log.count(topic)
    assert buffered % 2_048 == 0
    assert result.errors
    assert min(result.errors) == buffered
    assert {type(error) for error in result.errors.values()} == {ProducerClosedError}
    with pytest.raises(ProducerClosedError):
        producer.send_many(topic, [b"v"])


@pytest.mark.parametrize("keyed", [False, True])
def test_a_buffer_that_stays_full_refuses_the_rest(
    new_producer: MakeProducer, new_topic: MakeTopic, faults: Faults, keyed: bool
) -> None:
    topic = new_topic(3)
    producer = new_producer(buffer_memory=200_000, max_block_ms=200, delivery_timeout_ms=60_000)
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, drop="silent", times=1_000)
    values = [b"x" * 100] * 10_000
    result = producer.send_many(topic, values, keys=numbered(10_000) if keyed else None)
    assert not result.done()
    with pytest.raises(TimeoutError):
        result.result(0)
    refused = [index for index, partition in enumerate(result.partitions) if partition < 0]
    assert 7_000 < len(refused) < 9_500
    if not keyed:
        assert refused == list(range(refused[0], 10_000))
    with pytest.raises(BufferExhaustedError):
        producer.send_many(topic, [b"x" * 20_000])  # no open batch has room for it
    producer.close(0)
    assert len(result.errors) == 10_000
    assert all(isinstance(result.errors[index], BufferExhaustedError) for index in refused)


@blocking_only
def test_a_timeout_of_the_result_reports_the_pending_records(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer = new_producer()
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, drop="silent", times=1_000)
    with pytest.raises(TimeoutError, match=f"7 of 7 records for {topic} are still being sent after 0 s"):
        producer.send_many(topic, numbered(7)).result(0)
    producer.close(0)


def test_a_full_buffer_is_waited_for(new_producer: MakeProducer, topic: str, faults: Faults, log: Log) -> None:
    producer = new_producer(buffer_memory=100_000, max_block_ms=20_000)
    for _ in range(3):
        faults.add("Produce", topic=topic, delay_ms=150)
    values = [b"%d" % number + b"x" * 100 for number in range(5_000)]
    producer.send_many(topic, values).raise_for_errors()
    assert log.values(topic) == values


def test_a_topic_that_does_not_exist_is_raised(new_producer: MakeProducer) -> None:
    producer = new_producer(max_block_ms=100)
    with pytest.raises(KafkaTimeoutError, match=r"send_many|topic"):
        producer.send_many("nowhere", [b"v"])
    with pytest.raises(errors.InvalidTopicError):
        producer.send_many("no where", [b"v"])


# ------------------------------------------------------------------------------------------------- brokers


def test_a_batch_that_fails_fails_its_records(new_producer: MakeProducer, topic: str, faults: Faults, log: Log) -> None:
    producer = new_producer(batch_size=1_000, linger_ms=0, penstock_batch_growth_max_bytes=0)  # more than one batch
    faults.add("Produce", topic=topic, error=REFUSED)
    values = [b"%04d" % number + b"x" * 90 for number in range(200)]
    result = producer.send_many(topic, values).result(SOON_S)
    failed = list(result.errors)
    assert 0 < len(failed) < 200
    assert failed == list(range(failed[0], failed[-1] + 1))
    assert {type(error) for error in result.errors.values()} == {errors.TopicAuthorizationError}
    assert log.values(topic) == [value for index, value in enumerate(values) if index not in result.errors]
    assert [offset for offset in result.offsets if offset >= 0] == list(range(200 - len(failed)))


def test_results_follow_split_batches(new_producer: MakeProducer, new_topic: MakeTopic, log: Log) -> None:
    topic = new_topic(max_message_bytes="3000")
    producer = new_producer(batch_size=20_000, linger_ms=50, **QUICK)
    values = [b"%04d" % number + b"x" * 90 for number in range(500)]
    result = producer.send_many(topic, values)
    called: list[BulkResult] = []
    result.add_done_callback(called.append)
    producer.flush()
    assert called == [result]
    result.raise_for_errors()
    assert list(result.offsets) == list(range(500))
    assert log.values(topic) == values


# ------------------------------------------------------------------------------------------------- the result


def test_numpy_reads_offsets_and_partitions_without_a_copy(producer: KafkaProducer[Any, Any], topic: str) -> None:
    result = producer.send_many(topic, numbered(10))
    offsets, partitions = np.asarray(result.offsets), np.asarray(result.partitions)
    assert (offsets.dtype, partitions.dtype) == (np.int64, np.int32)
    assert np.shares_memory(offsets, np.asarray(result.offsets))
    assert offsets.tolist() == list(range(10))


def test_flush_raises_unnoticed_bulk_failures(producer: KafkaProducer[Any, Any], topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, error=REFUSED)
    result = producer.send_many(topic, [b"a", 7, b"b", 8])
    with pytest.raises(DeliveryError) as raised:
        producer.flush()
    assert raised.value.count == 4
    assert len(result.errors) == 4
    producer.flush()


def test_flush_does_not_raise_noticed_bulk_failures(
    new_producer: MakeProducer, new_topic: MakeTopic, faults: Faults
) -> None:
    producer = new_producer()
    for look in ("errors", "raise_for_errors"):
        topic = new_topic()
        faults.add("Produce", topic=topic, error=REFUSED)
        result = producer.send_many(topic, [b"a", 7, b"b", 8])
        if look == "errors":
            assert len(result.errors) == 4
        else:
            with pytest.raises(DeliveryError):
                result.raise_for_errors()
        producer.flush()


def test_close_logs_how_many_failed_unnoticed(
    new_producer: MakeProducer, topic: str, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.add("Produce", topic=topic, error=REFUSED)
    producer = new_producer()
    producer.send_many(topic, [b"a", 7, b"b"])
    with caplog.at_level(logging.ERROR, "penstock.producer"):
        producer.close()
    assert "3 records were not delivered" in caplog.text


@blocking_only
def test_the_bulk_callback_runs_after_the_last_record(new_producer: MakeProducer, new_topic: MakeTopic) -> None:
    topic = new_topic(6)
    producer = new_producer(batch_size=500, linger_ms=0)
    result = producer.send_many(topic, numbered(5_000), keys=numbered(5_000))
    seen: list[tuple[bool, str]] = []
    gate = Gate()

    def called(result: BulkResult) -> None:
        seen.append((result.done(), threading.current_thread().name))
        gate.entered.set()

    result.add_done_callback(called)
    assert gate.entered.wait(SOON_S)
    assert seen[0][0]
    result.add_done_callback(called)
    assert seen[1] == (True, threading.current_thread().name)
    with pytest.raises(TypeError, match="not callable"):
        result.add_done_callback(5)  # type: ignore[arg-type]


def test_a_dropped_result_frees_its_memory(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    for _ in range(5):
        producer.send_many(topic, numbered(1_000))
    gc.collect()
    producer.flush()
    assert log.count(topic) == 5_000


# ------------------------------------------------------------------------------------------------- extensions


def test_interceptors_see_each_record(new_producer: MakeProducer, topic: str, log: Log) -> None:
    class Marks(ProducerInterceptor):
        seen = 0

        def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
            return record.replace(headers=[("mark", b"1")])

        def on_acknowledgement(self, metadata: Any, error: Any, headers: Any) -> None:
            Marks.seen += 1

    producer = new_producer(interceptor_classes=[Marks()])
    result = producer.send_many(topic, numbered(50), keys=numbered(50))
    producer.flush()
    result.raise_for_errors()
    assert Marks.seen == 50
    assert {record.headers for record in log.records(topic)} == {(("mark", b"1"),)}


def test_a_partitioner_chooses_for_each_record(new_producer: MakeProducer, new_topic: MakeTopic) -> None:
    topic = new_topic(4)

    class ByValue:
        def partition(self, topic: str, key: Any, key_bytes: Any, value: Any, value_bytes: Any, view: Any) -> int:
            if value == b"7":
                raise RuntimeError("no seven")
            return int(value) % 4

    producer = new_producer(partitioner_class=ByValue())
    result = producer.send_many(topic, numbered(40))
    assert list(result.errors) == [7]
    assert list(result.partitions) == [-1 if number == 7 else number % 4 for number in range(40)]
    assert set(producer.send_many(topic, numbered(40), partition=1).partitions) == {1}


@blocking_only
def test_the_child_of_a_fork_gets_a_fork_error(new_producer: MakeProducer, topic: str) -> None:
    import os

    producer = new_producer(linger_ms=10_000)
    result = producer.send_many(topic, numbered(10))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            result.result(1)
        except errors.ProducerForkedError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    producer.flush(SOON_S)  # the parent's producer still works, and need not linger
    result.raise_for_errors()


def test_a_broker_that_never_answers_is_a_timeout_of_the_topic(new_producer: MakeProducer) -> None:
    with silent_server() as address:
        producer = new_producer(bootstrap_servers=address, max_block_ms=100)
        with pytest.raises(KafkaError):
            producer.send_many("t", [b"v"])
