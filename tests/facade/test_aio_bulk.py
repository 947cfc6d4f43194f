"""Bulk in asyncio: waiting, cancelling, async iterables, the result. The tests of `test_bulk*.py` hold here, too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from aio_support import LOOPS, producing, turns
from facade_support import Log, MakeProducer, MakeTopic, numbered

from penstock import (
    AsyncBulkResult,
    AsyncKafkaProducer,
    BufferExhaustedError,
    DeliveryError,
    JSONSerializer,
    KafkaTimeoutError,
    ProducerClosedError,
    ProducerRecord,
    SerializationError,
    errors,
)
from penstock._native import LoopInbox
from penstock.devbroker import Faults, RunningCluster

Producing = Callable[..., Any]
Sends = Callable[..., Any]

REFUSED = errors.TopicAuthorizationError.code or 0
SMALL: dict[str, Any] = {"buffer_memory": 40_000, "batch_size": 4_000}
"""Memory for ten batches."""

pytestmark = pytest.mark.parametrize("kind", LOOPS)


def big(count: int) -> list[bytes]:
    """Values of which four fill a batch."""
    return [b"%06d" % number + b"x" * 900 for number in range(count)]


def by_many(producer: AsyncKafkaProducer[Any, Any], topic: str, values: list[bytes]) -> Any:
    return producer.send_many(topic, values)


def by_many_async(producer: AsyncKafkaProducer[Any, Any], topic: str, values: list[bytes]) -> Any:
    return producer.send_many(topic, later(values))


def by_arrow(producer: AsyncKafkaProducer[Any, Any], topic: str, values: list[bytes]) -> Any:
    return producer.send_arrow(topic, pa.table({"v": values}), value="v")


each_way = pytest.mark.parametrize("send", [by_many, by_many_async, by_arrow])


async def later(values: Any, every: int = 3) -> AsyncIterator[Any]:
    """The values; at some of them it yields to the loop."""
    for number, value in enumerate(values):
        if number % every == 0:
            await asyncio.sleep(0)
        yield value


class Untouched:
    """An interceptor: with one, records are sent one by one."""

    def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
        return record


one_by_one = pytest.mark.parametrize("options", [{}, {"interceptor_classes": [Untouched()]}], ids=["chunks", "each"])


# --- Waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [list, tuple])
def test_large_values_are_buffered_in_steps_between_which_the_loop_runs(
    run: Producing, topic: str, shape: Callable[[list[bytes]], Any]
) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.partitions_for(topic)
        pending, inbox = producer._send_many(topic, shape([b"x" * 32 * 1024] * 2048)), LoopInbox(False)
        yields = 0
        while (step := pending.attempt(inbox, int))[0] == "yield":
            yields += 1
            for _ in range(step[1]):
                await asyncio.sleep(0)
        assert step[0] == "done"
        assert yields >= 4, "64 MiB take several time slices of 1 ms"

    run(scenario, buffer_memory=128 << 20, batch_size=1 << 20, linger_ms=60_000)


@each_way
@one_by_one
def test_waiting_for_buffer_memory_does_not_block_the_loop(
    run: Producing, topic: str, faults: Faults, log: Log, send: Sends, options: dict[str, Any]
) -> None:
    values = big(400)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.partitions_for(topic)
        for _ in range(3):
            faults.add("Produce", topic=topic, delay_ms=100)
        sending = asyncio.create_task(send(producer, topic, values))
        alive = 0
        while not sending.done():
            await asyncio.sleep(0.001)
            alive += 1
        assert alive > 20, "three answers were delayed by 100 ms each"
        (await (await sending)).raise_for_errors()
        await producer.flush()
        assert producer.metrics()["producer-metrics"]["waiting-threads"] == 0
        assert producer.metrics()["producer-metrics"]["buffer-available-bytes"] == SMALL["buffer_memory"]

    run(scenario, **SMALL, **options)
    assert log.values(topic) == values


@each_way
@one_by_one
def test_a_buffer_that_stays_full_for_max_block_ms_refuses_the_rest(
    run: Producing, topic: str, faults: Faults, send: Sends, options: dict[str, Any]
) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.partitions_for(topic)
        faults.add("Produce", topic=topic, drop="silent", times=1_000)
        result: AsyncBulkResult = await send(producer, topic, big(200))
        refused = [index for index, partition in enumerate(result.partitions) if partition < 0]
        assert refused == list(range(refused[0], len(result)))
        assert 10 < refused[0] < 100
        assert len(result) == 200 or send is by_many_async, "the length of an async iterable is unknown"
        with pytest.raises(BufferExhaustedError):
            await send(producer, topic, big(5))
        await producer.close(0)
        assert {type(result.errors[index]) for index in refused} == {BufferExhaustedError}

    run(scenario, max_block_ms=100, **SMALL, **options)


@each_way
@one_by_one
def test_an_absent_topic_is_awaited(
    run: Producing,
    cluster: RunningCluster,
    new_topic: MakeTopic,
    log: Log,
    send: Sends,
    options: dict[str, Any],
) -> None:
    name = f"{new_topic()}-later"

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        sending = asyncio.create_task(send(producer, name, numbered(10)))
        await turns()
        await asyncio.to_thread(cluster.create_topic, name, 1)
        (await (await sending)).raise_for_errors()

    async def times_out(producer: AsyncKafkaProducer[Any, Any]) -> None:
        sending = asyncio.create_task(send(producer, "absent", numbered(10)))
        await turns()
        assert not sending.done()
        with pytest.raises(KafkaTimeoutError, match="absent"):
            await sending
        with pytest.raises(errors.InvalidTopicError):
            await send(producer, "no topic", numbered(10))

    run(scenario, **options)
    run(times_out, max_block_ms=100, **options)
    assert log.values(name) == numbered(10)


@each_way
def test_buffer_memory_is_granted_in_the_order_of_waiting(
    run: Producing, topic: str, faults: Faults, log: Log, send: Sends
) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.partitions_for(topic)
        faults.add("Produce", topic=topic, delay_ms=300)
        first = asyncio.create_task(send(producer, topic, big(41)))
        await turns(60)
        second = asyncio.create_task(producer.send_and_wait(topic, b"second"))
        for result in await asyncio.gather(first, second):
            assert result

    # With small batches one grant comes at a time. A grown one frees enough for both, and tasks of a loop then run in any order.
    run(scenario, penstock_batch_growth_max_bytes=0, **SMALL)
    assert log.values(topic) == [*big(41), b"second"]


@each_way
def test_closing_ends_the_wait(run: Producing, topic: str, faults: Faults, send: Sends) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.partitions_for(topic)
        faults.add("Produce", topic=topic, drop="silent", times=1_000)
        waiting = [asyncio.create_task(send(producer, name, big(200))) for name in (topic, "absent")]
        await turns(100)
        await producer.close(0)
        result = await (await waiting[0])
        assert {type(error) for error in result.errors.values()} == {ProducerClosedError}
        with pytest.raises(ProducerClosedError):
            await waiting[1]
        with pytest.raises(ProducerClosedError):
            await send(producer, topic, numbered(3))

    run(scenario, **SMALL)


# --- Cancelling -------------------------------------------------------------------------------------------------------


@each_way
@one_by_one
def test_a_cancelled_bulk_call_sends_only_buffered_records(
    run: Producing, topic: str, faults: Faults, log: Log, send: Sends, options: dict[str, Any]
) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.partitions_for(topic)
        faults.add("Produce", topic=topic, delay_ms=300)
        sending = asyncio.create_task(send(producer, topic, big(200)))
        while not producer.metrics()["producer-metrics"]["waiting-threads"]:
            await asyncio.sleep(0.001)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await producer.send_and_wait(topic, b"behind")
        await producer.flush()
        assert producer.metrics()["producer-metrics"]["waiting-threads"] == 0
        assert producer.metrics()["producer-metrics"]["buffer-available-bytes"] == SMALL["buffer_memory"]

    run(scenario, **SMALL, **options)
    *sent, last = log.values(topic)
    assert 10 < len(sent) < 200
    assert (sent, last) == (big(200)[: len(sent)], b"behind")


def test_a_bulk_call_cancelled_while_it_waits_for_its_topic_sends_nothing(
    run: Producing, cluster: RunningCluster, new_topic: MakeTopic, log: Log
) -> None:
    name = f"{new_topic()}-later"
    taken: list[bytes] = []

    def values() -> Iterator[bytes]:
        for value in numbered(10_000):
            taken.append(value)
            yield value

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        sending = asyncio.create_task(producer.send_many(name, values()))
        await turns(10)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.to_thread(cluster.create_topic, name, 1)
        await producer.send_and_wait(name, b"sent")

    run(scenario)
    assert log.values(name) == [b"sent"]
    assert len(taken) < 10_000


def test_interceptors_are_notified_of_a_cancelled_record(run: Producing) -> None:
    errors_seen: list[Any] = []

    class Noting:
        def on_acknowledgement(self, metadata: Any, error: Any, headers: Any) -> None:
            errors_seen.append(type(error))

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        sending = asyncio.create_task(producer.send_many("absent", numbered(10)))
        await turns(5)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    run(scenario, interceptor_classes=[Noting()])
    assert errors_seen == [asyncio.CancelledError]


def test_a_bulk_call_that_is_never_awaited_sends_nothing(run: Producing, topic: str, log: Log) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        forgotten = producer.send_many(topic, numbered(10))
        with pytest.warns(RuntimeWarning, match="never awaited"):
            del forgotten

    run(scenario)
    assert log.count(topic) == 0


# --- Fairness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["list", "endless", "async", "each", "arrow"])
def test_large_calls_yield_to_the_loop(run: Producing, topic: str, shape: str) -> None:
    async def endless() -> AsyncIterator[Any]:
        while True:
            yield 1

    def numbers() -> Iterator[Any]:
        while True:
            yield 1

    table = pa.table({"v": list(range(300_000)), "w": ["text"] * 300_000})
    sends: dict[str, Callable[[AsyncKafkaProducer[Any, Any]], Any]] = {
        "list": lambda producer: producer.send_many(topic, [1] * 300_000),
        "endless": lambda producer: producer.send_many(topic, numbers()),
        "async": lambda producer: producer.send_many(topic, endless()),
        "each": lambda producer: producer.send_many(topic, numbers()),
        "arrow": lambda producer: producer.send_arrow(topic, table),
    }

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.partitions_for(topic)
        tasks = [asyncio.create_task(sends[shape](producer)) for _ in range(2)]
        # A sleeping task would wake up only at the end if one of them blocked the loop.
        for _ in range(10):
            await asyncio.sleep(0.001)
            assert not all(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    each = {"interceptor_classes": [Untouched()]} if shape == "each" else {}
    run(scenario, value_serializer=JSONSerializer(), **each)


# --- Async iterables --------------------------------------------------------------------------------------------------


def test_every_column_may_be_an_async_iterable(run: Producing, new_topic: MakeTopic, log: Log) -> None:
    topic = new_topic()
    values, keys = numbered(3_000), numbered(3_000, "key")

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        for columns in (
            (later(values), later(keys), None, later(range(3_000))),
            (values, later(keys), later([[("h", b"1")]] * 3_000), range(3_000)),
            (later(values), iter(keys), [None] * 3_000, None),
        ):
            first, *beside = columns
            result = await producer.send_many(
                topic, first, **dict(zip(("keys", "headers", "timestamps"), beside, strict=True))
            )
            assert len(result) == 3_000
            (await result).raise_for_errors()

    run(scenario)
    found = log.records(topic)
    assert [(record.value, record.key) for record in found] == list(zip(values, keys, strict=True)) * 3
    assert [record.timestamp for record in found[:6_000]] == list(range(3_000)) * 2
    assert [record.headers for record in found[3_000:6_000]] == [(("h", b"1"),)] * 3_000


@one_by_one
def test_each_entry_of_an_async_iterable_is_buffered_at_once(
    run: Producing, topic: str, options: dict[str, Any]
) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def values() -> AsyncIterator[bytes]:
            while (value := await queue.get()) is not None:
                yield value

        sending = asyncio.create_task(producer.send_many(topic, values()))
        for number in range(3):
            await queue.put(b"value")
            while producer.metrics()["producer-topic-metrics"].get(f"record-send-total{{topic={topic}}}") != number + 1:
                await asyncio.sleep(0.001)
        assert not sending.done()
        await queue.put(None)
        assert list((await (await sending)).offsets) == [0, 1, 2]

    run(scenario, linger_ms=0, **options)


def test_columns_of_different_lengths_end_the_call(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        short = await (await producer.send_many(topic, later(numbered(5)), keys=later(numbered(3))))
        assert "keys ended after 3 records" in str(short.errors[3])
        long = await (await producer.send_many(topic, later(numbered(3)), keys=later(numbered(5))))
        assert (len(long), list(long.errors)) == (4, [3])
        assert "values ended after 3 records, keys go on" in str(long.errors[3])
        sync = await (await producer.send_many(topic, numbered(3), keys=later(numbered(5))))
        assert "values ended after 3 records, keys go on" in str(sync.errors[3])
        with pytest.raises(ValueError, match="keys ended after 0 records"):
            await producer.send_many(topic, later(numbered(5)), keys=[])

    run(scenario)


@one_by_one
def test_an_async_iterable_that_raises_ends_the_call(
    run: Producing, topic: str, log: Log, options: dict[str, Any]
) -> None:
    async def failing(after: int) -> AsyncIterator[bytes]:
        for value in numbered(after):
            yield value
        raise OSError("the peer is gone")

    class Broken:
        def __aiter__(self) -> Broken:
            return self

        def __anext__(self) -> Any:
            raise OSError("no peer")

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        result = await (await producer.send_many(topic, failing(7)))
        assert (len(result), list(result.errors)) == (8, [7])
        assert isinstance(result.errors[7].__cause__, OSError)
        for values in (failing(0), Broken()):
            with pytest.raises(OSError, match="peer"):
                await producer.send_many(topic, values)

    run(scenario, **options)
    assert log.values(topic) == numbered(7)


def test_async_iteration_is_preferred_if_both_are_available(run: Producing, topic: str, log: Log) -> None:
    class Both:
        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError("this may block")

        def __aiter__(self) -> AsyncIterator[bytes]:
            return later(numbered(5))

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await (await producer.send_many(topic, Both()))

    run(scenario)
    assert log.values(topic) == numbered(5)


def test_the_blocking_producer_refuses_async_iterables(kind: str, new_producer: MakeProducer, topic: str) -> None:
    with pytest.raises(TypeError, match=r"AsyncKafkaProducer\.send_many takes async iterables"):
        new_producer().send_many(topic, later(numbered(5)))  # type: ignore[arg-type]


# --- The result -------------------------------------------------------------------------------------------------------


def test_a_bulk_result_can_be_awaited_repeatedly_and_by_asyncio_s_tools(
    run: Producing, topic: str, faults: Faults
) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.partitions_for(topic)
        faults.add("Produce", topic=topic, delay_ms=200)
        result = await producer.send_many(topic, numbered(100))
        assert not result.done()
        for ask in (lambda: result.errors, lambda: result.offsets, result.raise_for_errors):
            with pytest.raises(asyncio.InvalidStateError, match="100 of 100 records are still being sent: await"):
                ask()
        assert list(result.partitions) == [0] * 100
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(result, 0.01)
        found = await asyncio.gather(result, asyncio.wait_for(result, None), asyncio.shield(result))
        assert all(one is result for one in found)
        assert await result is result
        assert (len(result), list(result.offsets), result.errors) == (100, list(range(100)), {})
        assert repr(result) == f"<AsyncBulkResult 100 records for {topic}: delivered>"

    run(scenario, batch_size=100)


def test_awaiting_a_bulk_result_leaves_its_errors_to_flush(run: Producing, topic: str, faults: Faults) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        faults.add("Produce", topic=topic, error=REFUSED)
        result = await producer.send_many(topic, [b"a", 7, b"b"])
        await result
        with pytest.raises(DeliveryError) as raised:
            await producer.flush()
        assert raised.value.count == 3
        with pytest.raises(DeliveryError, match="3 of 3 records"):
            result.raise_for_errors()
        assert [type(error) for error in result.errors.values()] == [
            errors.TopicAuthorizationError,
            SerializationError,
            errors.TopicAuthorizationError,
        ]
        await producer.flush()

    run(scenario)


def test_bulk_callbacks_run_in_the_loop_after_the_last_record(run: Producing, new_topic: MakeTopic) -> None:
    topic = new_topic(6)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        loop = asyncio.get_running_loop()
        seen: list[AsyncBulkResult] = []

        def note(result: AsyncBulkResult) -> None:
            assert asyncio.get_running_loop() is loop
            assert result.done()
            seen.append(result)

        result = await producer.send_many(topic, numbered(2_000), keys=numbered(2_000))
        result.add_done_callback(note)
        await producer.flush()
        assert seen == [result], "flush waits for callbacks"
        result.add_done_callback(note)
        assert seen == [result], "like asyncio's futures: not inside the call"
        await turns()
        await producer.flush()
        assert seen == [result, result]
        with pytest.raises(TypeError, match="not callable"):
            result.add_done_callback(5)  # type: ignore[arg-type]

    run(scenario, batch_size=500, linger_ms=0)


def test_the_child_of_a_fork_gets_a_fork_error(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        result = await producer.send_many(topic, numbered(10))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                result.raise_for_errors()
            except errors.ProducerForkedError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        await producer.flush()
        result.raise_for_errors()

    run(scenario, linger_ms=10_000)


def test_several_loops_send_in_bulk_with_one_producer(
    kind: str, cluster: RunningCluster, new_topic: MakeTopic, log: Log
) -> None:
    topic = new_topic(2)

    async def main() -> None:
        async with producing(cluster.bootstrap_servers, batch_size=500) as producer:

            async def send(number: int) -> None:
                result = await producer.send_many(topic, numbered(5_000), partition=number)
                (await result).raise_for_errors()

            await asyncio.gather(send(0), asyncio.to_thread(lambda: asyncio.run(send(1))))

    asyncio.run(main())
    assert log.by_partition(topic) == {0: numbered(5_000), 1: numbered(5_000)}
