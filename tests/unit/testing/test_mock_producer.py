"""`MockProducer`: the real serializers and partitions, completed by the test."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import (
    DeliveryError,
    DeliveryFuture,
    IntegerSerializer,
    InvalidTopicError,
    KafkaError,
    KafkaProducer,
    KafkaTimeoutError,
    Producer,
    ProducerClosedError,
    ProducerRecord,
    RecordMetadata,
    RecordPurgedError,
    RoundRobinPartitioner,
    SerializationError,
    StringSerializer,
    as_completed,
    wait,
)
from penstock._native import partition_for_key
from penstock.testing import MockProducer, SentRecord


def test_records_are_acknowledged_at_once() -> None:
    producer = MockProducer(key_serializer=StringSerializer(), value_serializer=IntegerSerializer())
    first = producer.send("t", 1, key="a", timestamp=7)
    second = producer.send(ProducerRecord("t", 2))
    assert first.result() == RecordMetadata("t", 0, 0, 7, 1, 4)
    assert second.result().offset == 1
    assert second.result().serialized_key_size == -1
    assert producer.history() == [ProducerRecord("t", 1, key="a", timestamp=7), ProducerRecord("t", 2)]
    assert producer.sent[0] == SentRecord(producer.history()[0], 0, b"a", b"\0\0\0\1")


def test_the_clock_sets_missing_timestamps() -> None:
    assert MockProducer(clock_ms=lambda: 42).send("t", b"v").result().timestamp == 42


def test_records_are_completed_in_the_order_of_sending() -> None:
    producer = MockProducer(auto_complete=False)
    first, second, third = (producer.send("t", b"%d" % number) for number in range(3))
    assert first.running()
    assert not producer.flushed
    with pytest.raises(TimeoutError, match="complete_next"):
        first.result(timeout=0)
    assert producer.complete_next()
    error = KafkaError("no room")
    assert producer.error_next(error)
    assert (first.done(), second.done(), third.done()) == (True, True, False)
    assert second.exception() is error
    with pytest.raises(KafkaError, match="no room"):
        second.result()
    assert producer.complete_next()
    assert third.result().offset == 1  # the failed record took no offset
    assert not producer.complete_next()
    assert not producer.error_next(error)
    assert producer.flushed


def test_a_record_cannot_be_cancelled() -> None:
    future = MockProducer(auto_complete=False).send("t", b"v")
    assert not future.cancel()
    assert not future.cancelled()
    assert future.running()


def test_the_future_is_done_before_the_callback_runs() -> None:
    producer = MockProducer(auto_complete=False)
    seen: list[object] = []
    futures: list[DeliveryFuture] = []
    future = producer.send("t", b"v", callback=lambda *given: seen.append((futures[0].done(), *given)))
    futures.append(future)
    future.add_done_callback(lambda done: seen.append(done))
    producer.complete_next()
    assert seen == [future, (True, future.result(), None)]
    future.add_done_callback(lambda done: seen.append("at once"))
    assert seen[-1] == "at once"


def test_a_callback_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    producer = MockProducer(auto_complete=False)
    future = producer.send("t", b"v", callback=lambda metadata, error: 1 // 0)
    future.add_done_callback(lambda done: [][0])
    producer.complete_next()
    assert future.result().offset == 0
    assert [record.getMessage() for record in caplog.records] == [
        "a done callback of a record raised",
        "the callback of a record raised",
    ]


def test_a_callback_may_send() -> None:
    producer = MockProducer()
    producer.send("t", b"first", callback=lambda metadata, error: producer.send("t", b"second"))
    assert [record.value for record in producer.history()] == [b"first", b"second"]


def test_flush_acknowledges_pending_records() -> None:
    producer = MockProducer(auto_complete=False)
    futures = [producer.send("t", b"v") for _ in range(3)]
    producer.flush()
    assert [future.result().offset for future in futures] == [0, 1, 2]


def test_flush_raises_unnoticed_failures_once() -> None:
    producer = MockProducer(auto_complete=False)
    asked = producer.send("t", b"asked")
    producer.send("t", b"called", callback=lambda metadata, error: None)
    producer.send("t", b"ignored")
    for _ in range(3):
        producer.error_next(KafkaError("lost"))
    asked.exception()
    with pytest.raises(DeliveryError, match="1 record was not delivered") as raised:
        producer.flush()
    assert raised.value.count == 1
    producer.flush()


def test_leaving_with_raises_unnoticed_failures_unless_an_error_is_raised() -> None:
    producer = MockProducer(auto_complete=False)
    producer.send("t", b"v")
    producer.error_next(KafkaError("lost"))
    with pytest.raises(DeliveryError), producer:
        pass
    assert producer.closed
    with pytest.raises(ZeroDivisionError), MockProducer() as other:
        raise ZeroDivisionError
    assert other.closed


def test_close_delivers_pending_records_or_fails_them() -> None:
    kept, given_up = MockProducer(auto_complete=False), MockProducer(auto_complete=False)
    delivered, lost = kept.send("t", b"v"), given_up.send("t", b"v")
    kept.close()
    given_up.close(timeout=0)
    kept.close()
    assert delivered.result().offset == 0
    assert isinstance(lost.exception(), ProducerClosedError)
    for use in (lambda: kept.send("t", b"v"), kept.flush, lambda: kept.partitions_for("t")):
        with pytest.raises(ProducerClosedError):
            use()


def test_methods_can_be_made_to_raise() -> None:
    producer = MockProducer()
    producer.send_error = producer.flush_error = KafkaError("as set")
    producer.close_error = producer.partitions_for_error = KafkaError("as set")
    for use in (lambda: producer.send("t"), producer.flush, producer.close, lambda: producer.partitions_for("t")):
        with pytest.raises(KafkaError, match="as set"):
            use()
    assert producer.history() == []
    producer.metrics_values = {"producer-metrics": {"record-send-total": 1.0}}
    assert producer.metrics() == {"producer-metrics": {"record-send-total": 1.0}}


def test_a_record_that_cannot_be_serialized_is_not_sent() -> None:
    calls: list[object] = []
    producer = MockProducer(value_serializer=IntegerSerializer())
    with pytest.raises(SerializationError, match=r"str .*value\.serializer"):
        producer.send("t", "text", callback=lambda *given: calls.append(given))  # type: ignore[call-overload]
    with pytest.raises(SerializationError, match=r"key\.serializer"):
        producer.send("t", 1, key="text")  # type: ignore[call-overload]
    assert (producer.history(), calls) == ([], [])


@given(st.binary(), st.integers(1, 100))
def test_keys_go_to_kafkas_partitions(key: bytes, partitions: int) -> None:
    producer = MockProducer(partitions=partitions)
    assert producer.send("t", b"v", key=key).result().partition == partition_for_key(key, partitions)


def test_partitions_per_topic() -> None:
    producer = MockProducer(partitions={"one": 1, "three": 3})
    assert [info.partition for info in producer.partitions_for("three")] == [0, 1, 2]
    assert producer.send("three", b"v", partition=2).result().partition == 2
    assert producer.send("one", b"v").result().partition == 0
    with pytest.raises(KafkaTimeoutError, match=r"no partition 1.*topic one"):
        producer.send("one", b"v", partition=1)
    with pytest.raises(KafkaTimeoutError, match="add partitions") as raised:
        producer.send("one", b"v", partition=1)
    assert raised.value.partition == 1
    with pytest.raises(KafkaTimeoutError, match="topic none"):
        producer.send("none", b"v")


def test_a_partitioner_chooses_the_partition() -> None:
    producer = MockProducer(partitioner=RoundRobinPartitioner(), partitions=3)
    assert [producer.send("t", b"v", key=b"k").result().partition for _ in range(4)] == [0, 1, 2, 0]
    assert producer.send("t", b"v", partition=2).result().partition == 2


def test_a_partitioner_s_result_is_checked_as_by_the_real_producer() -> None:
    class Fixed:
        def __init__(self, answer: object) -> None:
            self.answer = answer

        def partition(self, *_: object) -> Any:
            return self.answer

    def send(answer: object) -> int:
        return MockProducer(partitioner=Fixed(answer), partitions=np.int64(3)).send("t", b"v").result().partition

    assert [send(np.int64(2)), send(1)] == [2, 1]
    for wrong in (None, 1.0, "1", np.float64(1)):
        with pytest.raises(TypeError, match="the partitioner returned"):
            send(wrong)
    for beyond in (3, np.int64(-1), 10**30):
        with pytest.raises(ValueError, match=f"the partitioner chose partition {beyond} of t, which has 3 partitions"):
            send(beyond)


def test_numpy_numbers_and_other_bytes_like_types_are_accepted() -> None:
    producer = MockProducer(partitions=3, clock_ms=lambda: 7)
    changing = bytearray(b"x")
    record = {"partition": np.int64(2), "headers": {"h": changing}}
    producer.send("t", b"v", timestamp=np.int64(5), **record)
    headers = [{"h": memoryview(changing)}, [("h", changing)]]
    producer.send_many("t", [b"v", b"v"], headers=headers, timestamps=np.array([5, 5]), partition=np.uint8(2))
    producer.send_arrow("t", pa.table({"v": [b"v"]}), value="v", partition=np.int32(2))
    changing[:] = b"y"
    sent = [(sent.partition, sent.record.headers, sent.record.timestamp) for sent in producer.sent]
    assert sent == [(2, (("h", b"x"),), 5)] * 3 + [(2, (), None)]


def test_clear_drops_records_and_keeps_offsets() -> None:
    producer = MockProducer()
    producer.send("t", b"v")
    producer.auto_complete = False
    producer.send("t", b"v")
    producer.clear()
    assert (producer.history(), producer.sent, producer.flushed) == ([], [], True)
    producer.auto_complete = True
    assert producer.send("t", b"v").result().offset == 1


def test_a_record_and_fields_exclude_each_other() -> None:
    with pytest.raises(TypeError, match="no other argument"):
        MockProducer().send(ProducerRecord("t"), key=b"k")  # type: ignore[call-overload]


def test_send_has_the_arguments_of_the_real_producer() -> None:
    producer = MockProducer()
    for send in (
        lambda: producer.send("t", value=b"v", key=b"k"),
        lambda: producer.send(topic="t", value=b"v", key=b"k"),
        lambda: producer.send(value=b"v", topic="t", key=b"k", partition=None, timestamp=None, headers=None),
        lambda: producer.send(topic=ProducerRecord("t", b"v", key=b"k")),
    ):
        send()
    assert set(producer.history()) == {ProducerRecord("t", b"v", key=b"k")}
    assert len(producer.history()) == 4


@pytest.mark.parametrize("method", ["send", "flush", "close", "partitions_for", "metrics"])
def test_mock_protocol_and_producer_have_the_same_signatures(method: str) -> None:
    def shape(of: type) -> list[tuple[str, object, object]]:
        _itself, *found = inspect.signature(getattr(of, method)).parameters.values()
        return [(parameter.name, parameter.kind, parameter.default) for parameter in found]

    assert shape(MockProducer) == shape(KafkaProducer)
    # Only type checkers see a protocol's overloads: tests/unit/test_typing.py checks `send`.
    if method != "send":
        assert shape(Producer) == shape(KafkaProducer)


def test_the_mock_refuses_what_the_real_producer_refuses() -> None:
    producer = MockProducer()
    with pytest.raises(TypeError, match="callback is not callable"):
        producer.send("t", b"v", callback=5)  # type: ignore[call-overload]
    with pytest.raises(InvalidTopicError):
        producer.send("not a name", b"v")
    for method in (producer.flush, producer.close):
        with pytest.raises(ValueError, match="timeout"):
            method(timeout=-1)
    assert not producer.closed
    assert producer.history() == []


def test_another_thread_can_wait_for_a_future() -> None:
    producer = MockProducer(auto_complete=False)
    future = producer.send("t", b"v")
    results: list[RecordMetadata] = []
    waiting = threading.Thread(target=lambda: results.append(future.result(timeout=30)))
    waiting.start()
    producer.complete_next()
    waiting.join()
    assert results == [future.result()]


def test_wait_and_as_completed_accept_its_futures() -> None:
    producer = MockProducer(auto_complete=False)
    first, second = producer.send("t", b"1"), producer.send("t", b"2")
    producer.complete_next()
    assert wait([first, second], timeout=0).done == {first}
    producer.complete_next()
    assert set(as_completed([first, second], timeout=0)) == {first, second}


def test_type_checkers_accept_it_as_a_producer() -> None:
    def application(producer: Producer[str, bytes]) -> None:
        producer.send("t", b"v", key="k")

    application(MockProducer(key_serializer=StringSerializer()))


def test_send_many_equals_many_sends() -> None:
    producer = MockProducer(
        False, key_serializer=StringSerializer(), value_serializer=IntegerSerializer(), partitions=5
    )
    result = producer.send_many("t", [1, 2**40, 3], keys=["a", "b", "c"], headers=[{"h": b"1"}, None, None])
    assert not result.done()
    with pytest.raises(TimeoutError):
        result.result(0)
    called: list[object] = []
    result.add_done_callback(called.append)
    producer.complete_next()
    producer.error_next(KafkaError("lost"))
    assert called == [result]
    assert {index: str(error) for index, error in result.errors.items()} == {
        1: str(result.errors[1]),
        2: "lost",
    }
    assert isinstance(result.errors[1], SerializationError)
    assert list(result.offsets) == [0, -1, -1]
    assert list(result.partitions) == [producer.sent[0].partition, -1, producer.sent[1].partition]
    assert (len(result), result.serialized_bytes, bool(result)) == (3, 10, True)
    with pytest.raises(DeliveryError, match="2 of 3 records not delivered"):
        result.raise_for_errors()
    with pytest.raises(SerializationError):
        producer.send_many("t", ["x"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="different lengths"):
        producer.send_many("t", [1], keys=[])


def test_arrow_rows_are_read_as_the_real_producer_reads_them() -> None:
    producer = MockProducer(value_serializer=IntegerSerializer(), partitions=3)
    table = pa.table({"id": [1, 2], "name": ["x", None], "p": pa.array([2, None])})
    result = producer.send_arrow("t", table, key="name", partition="p")
    assert [(sent.value, sent.key, sent.partition) for sent in producer.sent] == [
        (b'{"id":1,"name":"x"}', b"x", 2),
        (b'{"id":2,"name":null}', None, 0),
    ]
    result.raise_for_errors()
    assert list(result.offsets) == [0, 0]


def test_an_empty_bulk_is_done() -> None:
    called: list[object] = []
    result = MockProducer().send_many("t", [])
    result.add_done_callback(called.append)
    assert called == [result]
    assert result.errors == {}


def test_purge_fails_pending_records_of_a_topic() -> None:
    producer: MockProducer[bytes, bytes] = MockProducer(auto_complete=False)
    calls: list[object] = []
    kept = producer.send("kept", b"1")
    purged = producer.send("given-up", b"2", callback=lambda _, error: calls.append(error))
    assert producer.purge("unknown") == 0
    assert producer.purge("given-up") == 1
    error = purged.exception()
    assert isinstance(error, RecordPurgedError)
    assert (error.topic, error.partition, error.possibly_persisted) == ("given-up", 0, False)
    assert calls == [error]
    assert not kept.done()
    assert producer.purge() == 1
    producer.flush()
    producer.close()
    with pytest.raises(ProducerClosedError):
        producer.purge()
