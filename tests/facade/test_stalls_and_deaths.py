"""Threads that stall, fail, or are many; and the application's code that blocks inside the producer."""

from __future__ import annotations

import ctypes
import re
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from facade_support import SOON_S, Gate, Log, MakeProducer, MakeTopic, eventually, in_thread

from penstock import BufferExhaustedError, KafkaProducer, ProducerClosedError
from penstock.control.boundary import BatchDecision, ResumeLane
from penstock.devbroker import Faults
from penstock.errors import InternalError
from penstock.interceptor import ProducerInterceptor
from penstock.partitioner import Partitioner


def waiting_threads(producer: KafkaProducer[Any, Any]) -> float:
    return producer.metrics()["producer-metrics"]["waiting-threads"]


# ---------------------------------------------------------------------------------------------------------- dying threads


def _raise(*_: object) -> list[object]:
    raise ZeroDivisionError("by design")


def _return_a_wrong_decision(*_: object) -> list[object]:
    return [ResumeLane("no such topic", 0, (BatchDecision(1, "retry"),), None, 0)]


@pytest.mark.parametrize(
    ("step", "message"),
    [(_raise, "the control thread failed: ZeroDivisionError: by design"), (_return_a_wrong_decision, "no such lane")],
    ids=["control thread", "I/O thread"],
)
def test_when_a_producer_thread_fails_every_future_fails_and_sends_raise(
    new_producer: MakeProducer,
    topic: str,
    faults: Faults,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: Callable[..., list[object]],
    message: str,
) -> None:
    producer = new_producer(linger_ms=0)
    producer.send(topic, b"fine").result(SOON_S)
    faults.add("Produce", topic=topic, drop="silent")
    in_flight = producer.send(topic, b"in flight")
    errors_seen: list[BaseException | None] = []
    ran = threading.Event()
    buffered = producer.send(topic, b"buffered", callback=lambda _, error: (errors_seen.append(error), ran.set()))
    waiter, outcome = in_thread(lambda: producer.send("never-there", b"value"))

    life = producer._life
    assert life is not None
    monkeypatch.setattr(life.runtime._controller, "step", step)
    life.engine.wake()

    for future in (in_flight, buffered):
        error = future.exception(SOON_S)
        assert isinstance(error, InternalError)
        assert message in str(error)
    waiter.join(SOON_S)
    assert ran.wait(SOON_S)
    assert [type(error) for error in [*outcome, *errors_seen]] == [InternalError, InternalError]
    with pytest.raises(InternalError, match=message):
        producer.send(topic, b"late")
    with pytest.raises(InternalError, match=message):
        producer.partitions_for("another")
    producer.flush(SOON_S)
    producer.close(SOON_S)
    eventually(lambda: "CRITICAL" in [record.levelname for record in caplog.records])


# ---------------------------------------------------------------------------------------------------------------- stalls


class _BlockingPartitioner(Partitioner):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def partition(self, topic: str, key: Any, key_bytes: Any, value: Any, value_bytes: Any, cluster: Any) -> int:
        if value == b"still":
            self.gate()
        return 0


class _BlockingInterceptor(ProducerInterceptor):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def on_send(self, record: Any) -> Any:
        if record.value == b"still":
            self.gate()
        return record


def _blocking_serializer(gate: Gate) -> Callable[[bytes], bytes]:
    def serialize(value: bytes) -> bytes:
        if value == b"still":
            gate()
        return value

    return serialize


@pytest.mark.parametrize("where", ["serializer", "partitioner", "interceptor"])
def test_application_code_that_blocks_inside_send_delays_its_own_thread_only(
    new_producer: MakeProducer, topic: str, log: Log, where: str
) -> None:
    gate = Gate()
    options: dict[str, Any] = {
        "serializer": {"value_serializer": _blocking_serializer(gate)},
        "partitioner": {"partitioner_class": _BlockingPartitioner(gate)},
        "interceptor": {"interceptor_classes": [_BlockingInterceptor(gate)]},
    }[where]
    producer = new_producer(**options)
    thread, outcome = in_thread(lambda: producer.send(topic, b"still"))
    assert gate.entered.wait(SOON_S)
    assert producer.send(topic, b"goes on").result(SOON_S).offset == 0
    producer.flush(SOON_S)
    producer.close(SOON_S)
    gate.open.set()
    thread.join(SOON_S)
    assert [type(error) for error in outcome] == [ProducerClosedError], "and its record is too late"
    assert log.values(topic) == [b"goes on"]


def test_an_interceptor_that_blocks_at_an_acknowledgement_delays_no_future(
    new_producer: MakeProducer, topic: str
) -> None:
    gate = Gate()

    class Still(ProducerInterceptor):
        def on_acknowledgement(self, *_: object) -> None:
            gate()

    producer = new_producer(interceptor_classes=[Still()])
    producer.send(topic, b"first")
    assert gate.entered.wait(SOON_S)
    assert producer.send(topic, b"second").result(SOON_S).offset == 1
    gate.open.set()
    producer.flush(SOON_S)


def test_a_callback_may_wait_for_a_future_of_a_later_callback(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    # Futures complete before callbacks run: waiting for a future inside a callback waits for the I/O thread only.
    producer = new_producer(delivery_timeout_ms=600, request_timeout_ms=600, linger_ms=0, batch_size=100)
    order: list[str] = []

    def wait_for_both(*_: object) -> None:
        faults.add("Produce", topic=topic, drop="silent", times=100)
        lost = producer.send(topic, bytes(90), callback=lambda *_: order.append("its own callback"))
        order.append(type(lost.exception(SOON_S)).__name__)

    producer.send(topic, bytes(90), callback=wait_for_both)
    eventually(lambda: len(order) == 2)
    assert order == ["KafkaTimeoutError", "its own callback"]


def test_deadlines_are_met_while_another_library_holds_the_gil(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer = new_producer(delivery_timeout_ms=500, request_timeout_ms=500, linger_ms=0, batch_size=1_000)
    producer.send(topic, b"first").result(SOON_S)
    faults.add("Produce", topic=topic, drop="silent", times=100)
    futures = [producer.send(topic, bytes(900)) for _ in range(8)]
    hold = ctypes.PyDLL(None).sleep  # PyDLL, unlike CDLL, keeps the GIL during the call
    hold(2)
    assert all(future.done() for future in futures), "no Python code could run meanwhile"
    for future in futures:
        after = re.search(r"after (\d+) ms", str(future.exception()))
        assert after is not None
        assert 500 <= int(after[1]) < 2_000


def test_the_wall_clock_may_jump_while_deadlines_run(
    new_producer: MakeProducer, topic: str, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = new_producer(delivery_timeout_ms=600, request_timeout_ms=600, linger_ms=0)
    producer.send(topic, b"first").result(SOON_S)
    faults.add("Produce", topic=topic, drop="silent", times=100)
    real = time.time
    for jump_s in (86_400, -86_400):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: real() + jump_s)
        future = producer.send(topic, b"value")
        with pytest.raises(TimeoutError, match="still being sent"):
            future.result(0.05)
        began = time.monotonic()
        assert future.exception(SOON_S) is not None
        assert 0.3 < time.monotonic() - began < 10
    faults.clear()
    producer.close(SOON_S)


# ------------------------------------------------------------------------------------------------------------------ many


def test_three_hundred_threads_at_once_deliver_everything_once_and_in_order_per_thread(
    new_producer: MakeProducer, new_topic: MakeTopic, log: Log
) -> None:
    topic = new_topic(4)
    # So little memory that most of them wait for it.
    producer = new_producer(buffer_memory=20_000, batch_size=1_000)
    start = threading.Event()

    def send(name: int) -> None:
        start.wait()
        for number in range(8):
            producer.send(topic, b"%d %d" % (name, number) + bytes(200), partition=name % 4)

    threads = [in_thread(lambda name=name: send(name)) for name in range(300)]
    start.set()
    for thread, _ in threads:
        thread.join(60)
    assert [outcome for _, outcome in threads] == [[None]] * 300
    producer.flush(SOON_S)
    found: dict[int, list[int]] = {}
    for values in log.by_partition(topic).values():
        for value in values:
            name, number = (value or b"").rstrip(b"\0").split()
            found.setdefault(int(name), []).append(int(number))
    assert found == {name: list(range(8)) for name in range(300)}
    metrics = producer.metrics()["producer-metrics"]
    assert metrics["buffer-available-bytes"] == metrics["buffer-total-bytes"]
    assert metrics["waiting-threads"] == 0


# -------------------------------------------------------------------------------------------- waiters for buffer memory


def _fill(producer: KafkaProducer[Any, Any], topic: str, gate: Gate | None = None) -> KafkaProducer[Any, Any]:
    """Two batches fill the memory; with a gate they keep it until the gate opens, though they are delivered.

    A batch keeps its memory until its callbacks run, and this one is behind a callback that blocks.
    """
    producer.partitions_for(topic)
    if gate is not None:
        producer.send(topic, b"", callback=gate)
        assert gate.entered.wait(SOON_S)
    for _ in range(2):
        producer.send(topic, bytes(900), callback=gate)
    return producer


def _is_all_memory_free(producer: KafkaProducer[Any, Any]) -> bool:
    metrics = producer.metrics()["producer-metrics"]
    return metrics["buffer-available-bytes"] == 2_000 and metrics["waiting-threads"] == 0


def test_ctrl_c_in_a_wait_for_memory_releases_the_memory(new_producer: MakeProducer, topic: str, log: Log) -> None:
    gate = Gate()
    full = _fill(new_producer(buffer_memory=2_000, batch_size=1_000, linger_ms=0), topic, gate)
    main = threading.get_ident()
    assert threading.current_thread() is threading.main_thread()

    def interrupt() -> None:
        eventually(lambda: waiting_threads(full) == 2)
        signal.pthread_kill(main, signal.SIGINT)

    behind, outcome = in_thread(lambda: full.send(topic, b"behind" + bytes(900)))
    interrupter, _ = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        full.send(topic, b"interrupted" + bytes(900))
    gate.open.set()
    interrupter.join(SOON_S)
    behind.join(SOON_S)
    assert outcome[0].result(SOON_S).offset == 3
    full.flush(SOON_S)
    assert _is_all_memory_free(full)
    assert not any(value and value.startswith(b"interrupted") for value in log.values(topic))


def test_waiters_that_time_out_pass_the_memory_to_later_ones(new_producer: MakeProducer, topic: str) -> None:
    gate = Gate()
    producer = _fill(new_producer(buffer_memory=2_000, batch_size=1_000, linger_ms=0, max_block_ms=300), topic, gate)
    waiters = [in_thread(lambda: producer.send(topic, bytes(900))) for _ in range(20)]
    for thread, _ in waiters:
        thread.join(SOON_S)
    assert {type(outcome[0]) for _, outcome in waiters} == {BufferExhaustedError}
    gate.open.set()
    producer.flush(SOON_S)
    assert _is_all_memory_free(producer)
    assert producer.send(topic, bytes(900)).result(SOON_S).offset == 3


def test_a_close_ends_waits_for_memory_at_once(new_producer: MakeProducer, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, drop="silent")
    full = _fill(new_producer(buffer_memory=2_000, batch_size=1_000, linger_ms=0), topic)
    waiters = [in_thread(lambda: full.send(topic, bytes(900))) for _ in range(20)]
    eventually(lambda: waiting_threads(full) == 20)
    full.close(0)
    for thread, _ in waiters:
        thread.join(SOON_S)
    assert {type(outcome[0]) for _, outcome in waiters} == {ProducerClosedError}
    assert _is_all_memory_free(full)
