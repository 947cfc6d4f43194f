"""`AsyncKafkaProducer` without its futures: waiting, cancelling, loops and threads, closing."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from aio_support import LOOPS, producing, run_on, turns
from facade_support import SOON_S, Log, MakeProducer, MakeTopic, in_thread, numbered

from penstock import (
    AsyncKafkaProducer,
    BufferExhaustedError,
    DeliveryError,
    KafkaError,
    KafkaProducer,
    KafkaTimeoutError,
    ProducerClosedError,
    ProducerRecord,
    RecordMetadata,
    SerializationError,
    StringSerializer,
    errors,
)
from penstock.devbroker import Faults, RunningCluster

Producing = Callable[..., Any]
Outcome = tuple[RecordMetadata | None, KafkaError | None]

pytestmark = pytest.mark.parametrize("kind", LOOPS)


# --- Sending ----------------------------------------------------------------------------------------------------------


def test_records_arrive_in_the_order_of_the_sends(run: Producing, topic: str, log: Log) -> None:
    values = numbered(5000)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        for value in values:
            await producer.send(topic, value)
        await producer.flush()

    run(scenario, batch_size=2000)
    assert log.values(topic) == values


def test_a_record_has_key_headers_timestamp_and_partition(run: Producing, new_topic: MakeTopic, log: Log) -> None:
    topic = new_topic(3)

    async def scenario(producer: AsyncKafkaProducer[str, str]) -> None:
        await producer.send(topic, "short", key="k", partition=2, timestamp=5, headers={"h": b"1", "n": None})
        await producer.send(ProducerRecord(topic, "whole", key="k", partition=2, timestamp=6, headers=[("h", b"2")]))
        await producer.flush()

    run(scenario, key_serializer=StringSerializer(), value_serializer=StringSerializer())
    short, whole = log.records(topic)
    assert (short.partition, short.key, short.value, short.timestamp) == (2, b"k", b"short", 5)
    assert list(short.headers) == [("h", b"1"), ("n", None)]
    assert (whole.partition, whole.value, whole.timestamp, list(whole.headers)) == (2, b"whole", 6, [("h", b"2")])


def test_extensions_are_those_of_the_blocking_producer(run: Producing, new_topic: MakeTopic, log: Log) -> None:
    topic = new_topic(4)
    threads: list[str] = []

    class Marking:
        def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
            return record.replace(value=record.value + b"!")

        def on_acknowledgement(self, metadata: Any, error: Any, headers: Any) -> None:
            threads.append(threading.current_thread().name)
            order.append("interceptor")

    class Third:
        def partition(self, topic: str, key: Any, key_bytes: Any, value: Any, value_bytes: Any, view: Any) -> int:
            return 3

    order: list[str] = []

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        def note(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
            assert metadata is not None
            assert (metadata.partition, metadata.serialized_value_size) == (3, 6)
            asyncio.get_running_loop()
            order.append("callback")

        await producer.send(topic, b"value", callback=note)
        await producer.flush()
        assert order == ["interceptor", "callback"]

    run(scenario, interceptor_classes=[Marking()], partitioner_class=Third())
    assert threads == ["penstock-callbacks"], "an interceptor may be slow"
    assert log.by_partition(topic) == {3: [b"value!"]}


def test_interceptors_get_the_error_of_a_record_that_was_not_sent(run: Producing, topic: str) -> None:
    errors_seen: list[Any] = []

    class Noting:
        def on_acknowledgement(self, metadata: Any, error: Any, headers: Any) -> None:
            errors_seen.append(error)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        with pytest.raises(KafkaTimeoutError) as caught:
            await producer.send("absent", b"value")
        waiting = asyncio.create_task(producer.send("absent", b"value"))
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(SerializationError):
            await producer.send(topic, 5)
        assert errors_seen[0] is caught.value
        assert [type(error) for error in errors_seen[1:]] == [asyncio.CancelledError, SerializationError]

    run(scenario, interceptor_classes=[Noting()], max_block_ms=500)


def test_awaiting_send_raises_its_errors(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        for wrong in (lambda: producer.send(topic, object()), lambda: producer.send("bad topic!", b"value")):
            awaitable = wrong()
            with pytest.raises((SerializationError, errors.InvalidTopicError)):
                await awaitable
        with pytest.raises(TypeError, match="not callable"):
            producer.send(topic, b"value", callback=5)  # type: ignore[arg-type]
        with pytest.raises(errors.RecordTooLargeError):
            await producer.send(topic, bytes(2_000_000))
        await producer.close()
        with pytest.raises(ProducerClosedError):
            await producer.send(topic, b"late")

    run(scenario)


# --- Callbacks --------------------------------------------------------------------------------------------------------


def test_callbacks_run_in_the_loop_once_each_and_in_order(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        seen: list[int] = []
        loop = asyncio.get_running_loop()

        def note(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
            assert asyncio.get_running_loop() is loop
            assert error is None
            assert metadata is not None
            seen.append(metadata.offset)

        for _ in range(500):
            await producer.send(topic, b"value", callback=note)
        await producer.flush()
        assert seen == list(range(500))

    run(scenario, batch_size=500)


def test_flush_returns_only_after_the_callbacks_have_run(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        seen: list[Outcome] = []
        for count in range(1, 101):
            await producer.send(topic, b"value", callback=lambda *outcome: seen.append(outcome))
            await producer.flush()
            assert len(seen) == count

    run(scenario)


def test_a_failed_record_has_an_error_and_no_metadata(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        seen: list[Outcome] = []
        await producer.send(topic, b"value", callback=lambda *outcome: seen.append(outcome))
        await producer.flush()
        ((metadata, error),) = seen
        assert metadata is None
        assert isinstance(error, errors.TopicAuthorizationError)

    run(scenario)


def test_callbacks_of_records_that_close_failed_run(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=1000)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        seen: list[Outcome] = []
        future = await producer.send(topic, b"value", callback=lambda *outcome: seen.append(outcome))
        await producer.close(0)
        assert [type(error) for _, error in seen] == [ProducerClosedError]
        with pytest.raises(ProducerClosedError):
            await future

    run(scenario)


def test_a_callback_never_runs_if_send_raised(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        seen: list[Outcome] = []
        with pytest.raises(KafkaTimeoutError):
            await producer.send("absent", b"value", callback=lambda *outcome: seen.append(outcome))
        await producer.flush()
        await producer.close()
        assert seen == []

    run(scenario, max_block_ms=50)


# --- Waiting ----------------------------------------------------------------------------------------------------------


def test_waiting_for_an_absent_topic_does_not_block_the_loop(run: Producing) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        waiting = asyncio.create_task(producer.send("absent", b"value"))
        asking = asyncio.create_task(producer.partitions_for("absent"))
        await turns()
        assert not waiting.done()
        for task in (waiting, asking):
            with pytest.raises(KafkaTimeoutError, match="absent"):
                await task

    run(scenario, max_block_ms=200)


def test_a_topic_that_appears_ends_the_wait(run: Producing, cluster: RunningCluster, new_topic: MakeTopic) -> None:
    name = f"{new_topic()}-later"

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        waiting = [asyncio.create_task(producer.send_and_wait(name, b"value")) for _ in range(3)]
        await turns()
        await asyncio.to_thread(cluster.create_topic, name, 1)
        assert sorted(metadata.offset for metadata in await asyncio.gather(*waiting)) == [0, 1, 2]
        assert [info.partition for info in await producer.partitions_for(name)] == [0]

    run(scenario)


def test_a_send_cancelled_while_it_waits_for_its_topic_sends_nothing(
    run: Producing, cluster: RunningCluster, new_topic: MakeTopic, log: Log
) -> None:
    name = f"{new_topic()}-later"

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        waiting = asyncio.create_task(producer.send(name, b"cancelled"))
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.to_thread(cluster.create_topic, name, 1)
        await producer.send_and_wait(name, b"sent")

    run(scenario)
    assert log.values(name) == [b"sent"]


FULL: dict[str, Any] = {"buffer_memory": 2000, "batch_size": 1000}
"""Memory for two batches of one record of 900 bytes."""


async def fill(producer: AsyncKafkaProducer[Any, Any], topic: str) -> None:
    await producer.partitions_for(topic)
    for _ in range(2):
        await producer.send(topic, bytes(900))


def test_a_full_buffer_is_awaited_up_to_max_block_ms(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=1500)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await fill(producer, topic)
        waiting = asyncio.create_task(producer.send(topic, bytes(900)))
        await turns()
        assert not waiting.done()
        with pytest.raises(BufferExhaustedError):
            await waiting
        await producer.flush()
        metrics = producer.metrics()["producer-metrics"]
        assert metrics["buffer-available-bytes"] == 2000

    run(scenario, max_block_ms=100, **FULL)


def test_buffer_memory_is_granted_in_the_order_of_waiting(run: Producing, topic: str, faults: Faults, log: Log) -> None:
    faults.add("Produce", topic=topic, delay_ms=300)
    values = [bytes([65 + number]) * 900 for number in range(6)]

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await fill(producer, topic)
        tasks = []
        for value in values:
            tasks.append(asyncio.create_task(producer.send(topic, value)))
            await turns()
        for future in await asyncio.gather(*tasks):
            await future

    run(scenario, **FULL)
    assert log.values(topic)[2:] == values


def test_a_cancelled_waiter_for_memory_wakes_the_next_one(run: Producing, topic: str, faults: Faults, log: Log) -> None:
    faults.add("Produce", topic=topic, delay_ms=500)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await fill(producer, topic)
        first = asyncio.create_task(producer.send(topic, b"c" * 900))
        await turns()
        second = asyncio.create_task(producer.send(topic, b"s" * 900))
        await turns()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await (await second)
        await producer.flush()
        assert producer.metrics()["producer-metrics"]["buffer-available-bytes"] == 2000
        assert producer.metrics()["producer-metrics"]["waiting-threads"] == 0

    run(scenario, **FULL)
    assert log.values(topic)[2:] == [b"s" * 900]


def test_a_send_that_is_never_awaited_sends_nothing(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=300)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await fill(producer, topic)
        forgotten = producer.send(topic, bytes(900))
        with pytest.warns(RuntimeWarning, match="never awaited"):
            del forgotten
        await producer.flush()
        assert producer.metrics()["producer-metrics"]["buffer-available-bytes"] == 2000

    run(scenario, **FULL)


def test_closing_ends_every_wait(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=5000)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await fill(producer, topic)
        waiting = [asyncio.create_task(producer.send(name, bytes(900))) for name in (topic, "absent")]
        await turns()
        await producer.close(0)
        for task in waiting:
            with pytest.raises(ProducerClosedError):
                await task

    run(scenario, **FULL)


def test_an_unresolvable_address_is_reported_by_the_first_waiting_send(kind: str) -> None:
    async def main() -> None:
        async with producing("no-such-host.invalid:9092", max_block_ms=300) as producer:
            with pytest.raises(KafkaTimeoutError, match=r"no-such-host\.invalid"):
                await producer.send("topic", b"value")

    run_on(kind, main())


# --- Fairness ---------------------------------------------------------------------------------------------------------


def test_endless_sends_and_awaits_of_done_futures_yield_to_the_loop(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        done = await producer.send(topic, b"value")
        await done

        async def send() -> None:
            while True:
                await producer.send(topic, b"value")

        async def ask() -> None:
            while True:
                await done

        tasks = [asyncio.create_task(each()) for each in (send, send, ask, ask)]
        # A sleeping task would never wake up if one of them blocked the loop.
        for _ in range(20):
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        assert [type(found) for found in await asyncio.gather(*tasks, return_exceptions=True)] == [
            asyncio.CancelledError
        ] * 4

    run(scenario)


# --- Flush, close -----------------------------------------------------------------------------------------------------


def test_flush_sends_lingering_records_and_reports_pending_ones(run: Producing, topic: str, faults: Faults) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value")
        await producer.flush()
        assert future.done()
        faults.add("Produce", topic=topic, delay_ms=500)
        late = await producer.send(topic, b"value")
        with pytest.raises(KafkaTimeoutError, match=r"flush\(0.05\) ran out of time with 1 record"):
            await producer.flush(0.05)
        with pytest.raises(ValueError, match="timeout"):
            await producer.flush(-1)
        assert (await late).offset == 1
        flushing = asyncio.create_task(producer.flush())
        await turns()
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)

    run(scenario, linger_ms=60_000)


def test_a_cancelled_flush_lets_batches_linger_again(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=300)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        first = await producer.send(topic, b"first")
        flushing = asyncio.create_task(producer.flush())
        await turns()
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        second = await producer.send(topic, b"second")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(second), 0.2)
        await producer.flush()
        assert [future.result().offset for future in (first, second)] == [0, 1]

    run(scenario, linger_ms=60_000)


def test_flush_raises_unnoticed_failures_only_once(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        for _ in range(3):
            await producer.send(topic, b"value")
        with pytest.raises(DeliveryError) as caught:
            await producer.flush()
        assert caught.value.count == 3
        await producer.flush()

    run(scenario)


def test_leaving_a_with_block_raises_unnoticed_failures(
    kind: str, cluster: RunningCluster, topic: str, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(then: BaseException | None) -> None:
        async with AsyncKafkaProducer(bootstrap_servers=cluster.bootstrap_servers) as producer:
            faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0, times=1)
            await producer.send(topic, b"value")
            if then is not None:
                raise then

    with pytest.raises(DeliveryError):
        run_on(kind, main(None))
    with pytest.raises(ZeroDivisionError):
        run_on(kind, main(ZeroDivisionError()))
    assert [record.levelno for record in caplog.records if "1 record" in record.getMessage()] == [logging.ERROR]


def test_close_delivers_buffered_records_and_may_be_called_again(run: Producing, topic: str, log: Log) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value")
        await asyncio.gather(producer.close(), producer.close())
        assert producer.closed
        assert future.result().offset == 0
        await producer.close()

    run(scenario, linger_ms=60_000)
    assert log.values(topic) == [b"value"]


def test_a_cancelled_close_continues_in_the_background(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=300)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value")
        closing = asyncio.create_task(producer.close())
        await turns()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ProducerClosedError):
            await producer.send(topic, b"late")
        assert (await future).offset == 0
        await producer.close()

    run(scenario)


# --- Loops and threads ------------------------------------------------------------------------------------------------


def test_several_loops_and_blocking_threads_share_one_producer_and_one_broker(
    kind: str, cluster: RunningCluster, new_producer: MakeProducer, new_topic: MakeTopic, log: Log
) -> None:
    topic = new_topic(3)
    producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(
        bootstrap_servers=cluster.bootstrap_servers, batch_size=500
    )
    blocking: KafkaProducer[Any, Any] = new_producer()

    async def send(number: int) -> int:
        futures = [await producer.send(topic, value, partition=number) for value in numbered(500)]
        return len({metadata.offset for metadata in await asyncio.gather(*futures)})

    def block() -> int:
        futures = [blocking.send(topic, value, partition=2) for value in numbered(500)]
        return len({future.result(SOON_S).offset for future in futures})

    loops = [in_thread(lambda number=number: run_on(kind, send(number))) for number in range(2)]
    running = [*loops, in_thread(block)]
    for thread, _ in running:
        thread.join()
    assert [outcome for _, outcome in running] == [[500]] * 3
    run_on(kind, producer.close())
    assert log.by_partition(topic) == {number: numbered(500) for number in range(3)}


def test_a_loop_closed_with_pending_futures_does_not_affect_others(
    kind: str, cluster: RunningCluster, topic: str, faults: Faults
) -> None:
    producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(bootstrap_servers=cluster.bootstrap_servers)
    faults.add("Produce", topic=topic, delay_ms=300, times=1)
    called: list[object] = []

    async def leave() -> None:
        future = await producer.send(topic, b"value", callback=lambda *outcome: called.append(outcome))
        future.add_done_callback(called.append)

    async def go_on() -> int:
        metadata = await producer.send_and_wait(topic, b"next")
        await producer.close()
        return metadata.offset

    run_on(kind, leave())
    assert run_on(kind, go_on()) == 1
    assert called == []


def test_ctrl_c_inside_a_callback_ends_the_program_and_loses_no_other_callback(
    run: Producing, kind: str, cluster: RunningCluster, topic: str, faults: Faults
) -> None:
    seen: list[int] = []

    def interrupt(number: int) -> Callable[..., None]:
        def call(*_: object) -> None:
            seen.append(number)
            if number == 1:
                raise KeyboardInterrupt

        return call

    loop = LOOPS[kind]()
    producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(bootstrap_servers=cluster.bootstrap_servers)

    async def send() -> None:
        for number in range(4):
            await producer.send(topic, b"value", callback=interrupt(number))
        await producer.flush()

    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(send())
        loop.run_until_complete(producer.close())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
    assert seen == [0, 1, 2, 3]


def test_cancelling_every_task_does_not_stop_deliveries(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.send_and_wait(topic, b"value")
        me = asyncio.current_task()
        assert [task for task in asyncio.all_tasks() if task is not me and "soon" not in repr(task)] == []
        assert (await producer.send_and_wait(topic, b"value")).offset == 1

    run(scenario)


def test_a_dropped_producer_warns_and_delivers(kind: str, cluster: RunningCluster, topic: str, log: Log) -> None:
    async def main() -> None:
        producer: AsyncKafkaProducer[Any, Any] | None = AsyncKafkaProducer(bootstrap_servers=cluster.bootstrap_servers)
        assert producer is not None
        future = await producer.send(topic, b"value")
        with pytest.warns(ResourceWarning, match="unclosed <AsyncKafkaProducer"):
            producer = None
        assert (await future).offset == 0

    run_on(kind, main())
    assert log.values(topic) == [b"value"]
