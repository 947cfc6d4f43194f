"""`AsyncDeliveryFuture` under asyncio's own tools, on every kind of loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable
from typing import Any

import pytest
from aio_support import LOOPS, run_on
from facade_support import SOON_S, MakeTopic

from penstock import AsyncDeliveryFuture, AsyncKafkaProducer, DeliveryError, RecordMetadata, errors
from penstock.devbroker import Faults, RunningCluster

Producing = Callable[..., Any]
HELD_MS = 300

pytestmark = pytest.mark.parametrize("kind", LOOPS)


def test_send_returns_a_future_and_the_future_the_metadata(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value", key=b"k", timestamp=12345)
        assert asyncio.isfuture(future)
        assert await future == RecordMetadata(topic, 0, 0, 12345, 1, 5)
        assert await future == future.result(), "a future may be awaited again"
        assert future.exception() is None
        assert (future.done(), future.cancelled(), future.cancel()) == (True, False, False)
        assert "offset 0" in repr(future)
        assert (await producer.send_and_wait(topic, b"second")).offset == 1

    run(scenario)


def test_a_pending_future_has_no_result(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value")
        assert not future.done()
        assert "being sent" in repr(future)
        for ask in (future.result, future.exception):
            with pytest.raises(asyncio.InvalidStateError, match="still being sent"):
                ask()
        assert (await future).offset == 0

    run(scenario)


def test_asyncios_tools_accept_the_future(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        async def send() -> AsyncDeliveryFuture:
            return await producer.send(topic, b"value")

        assert [each.offset for each in await asyncio.gather(*[await send() for _ in range(3)])] == [0, 1, 2]
        assert (await asyncio.wait_for(await send(), SOON_S)).offset == 3
        assert (await asyncio.shield(await send())).offset == 4
        done, pending = await asyncio.wait([await send(), await send()])
        assert ({future.result().offset for future in done}, pending) == ({5, 6}, set())
        completed = asyncio.as_completed([await send(), await send()])
        assert {(await future).offset for future in completed} == {7, 8}
        assert (await asyncio.ensure_future(await send())).offset == 9
        assert (await (await asyncio.create_task(producer.send(topic, b"as a task")))).offset == 10
        futures = await asyncio.gather(producer.send(topic, b"a"), producer.send(topic, b"b"))
        assert [(await future).offset for future in futures] == [11, 12]

    run(scenario)


def test_many_tasks_may_await_one_future(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value")

        async def ask() -> int:
            return (await future).offset

        assert await asyncio.gather(*(ask() for _ in range(10))) == [0] * 10

    run(scenario)


def test_done_callbacks_run_in_the_loop_in_their_context(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)
    name = contextvars.ContextVar("name", default="none")

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        seen: list[Any] = []
        finished = asyncio.Event()

        def note(future: AsyncDeliveryFuture) -> None:
            seen.append((future.result().offset, name.get(), asyncio.get_running_loop()))
            if len(seen) == 3:
                finished.set()

        def never(_: AsyncDeliveryFuture) -> None:
            seen.append("called")

        future = await producer.send(topic, b"value")
        name.set("of the caller")
        other = contextvars.copy_context()
        other.run(name.set, "given")
        future.add_done_callback(never)
        future.add_done_callback(note)
        future.add_done_callback(note, context=other)
        future.add_done_callback(never)
        assert future.remove_done_callback(never) == 2
        assert future.remove_done_callback(never) == 0
        await future
        future.add_done_callback(note)
        assert len(seen) == 2, "also for a future that is done, the loop calls them"
        await finished.wait()
        loop = asyncio.get_running_loop()
        assert seen == [(0, "of the caller", loop), (0, "given", loop), (0, "of the caller", loop)]
        with pytest.raises(TypeError, match="not callable"):
            future.add_done_callback(5)  # type: ignore[arg-type]

    run(scenario)


def test_a_raising_done_callback_goes_to_the_loops_exception_handler(
    run: Producing, topic: str, faults: Faults
) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        raised: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        future = await producer.send(topic, b"value")
        future.add_done_callback(lambda _: 1 / 0)
        assert (await future).offset == 0
        assert [type(error) for error in raised] == [ZeroDivisionError]

    run(scenario)


def test_each_await_of_a_failed_record_raises(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value")
        for _ in range(2):
            with pytest.raises(errors.TopicAuthorizationError):
                await future
        assert isinstance(future.exception(), errors.TopicAuthorizationError)
        await producer.flush()

    run(scenario)


def test_cancelling_a_future_does_not_cancel_the_record(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"cancelled")
        seen: list[bool] = []
        future.add_done_callback(lambda future: seen.append(future.cancelled()))
        assert future.cancel("enough")
        assert (future.done(), future.cancelled(), future.cancel()) == (True, True, False)
        assert "cancelled" in repr(future)
        for ask in (future.result, future.exception):
            with pytest.raises(asyncio.CancelledError, match="enough"):
                ask()
        await producer.flush()
        assert seen == [True]
        assert (await producer.send_and_wait(topic, b"next")).offset == 1, "the record is in the log"
        assert future.cancelled()

    run(scenario)


@pytest.mark.parametrize("way", ["task", "wait_for", "gather"])
def test_cancelling_a_waiting_task_does_not_cancel_the_record(
    run: Producing, topic: str, faults: Faults, way: str
) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value")
        if way == "task":

            async def wait() -> None:
                await future

            task = asyncio.create_task(wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        elif way == "gather":
            together = asyncio.gather(future)
            together.cancel()
            with pytest.raises(asyncio.CancelledError):
                await together
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(future, 0.01)
        assert future.cancelled()
        assert (await producer.send_and_wait(topic, b"next")).offset == 1

    run(scenario)


def test_a_shielded_future_outlives_its_waiter(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, delay_ms=HELD_MS)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(future), 0.01)
        assert (await future).offset == 0

    run(scenario)


def test_a_failure_after_a_cancellation_is_unnoticed(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0, delay_ms=HELD_MS)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        await producer.partitions_for(topic)
        future = await producer.send(topic, b"value")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)
        with pytest.raises(DeliveryError) as caught:
            await producer.flush()
        assert caught.value.count == 1

    run(scenario)


def test_a_callback_notices_a_failure_also_after_a_cancellation(run: Producing, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, error=errors.TopicAuthorizationError.code or 0, delay_ms=HELD_MS)

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        seen: list[Any] = []
        future = await producer.send(topic, b"value", callback=lambda *outcome: seen.append(outcome))
        assert future.cancel()
        await producer.flush()
        assert [type(error) for _, error in seen] == [errors.TopicAuthorizationError]

    run(scenario)


def test_futures_of_a_split_batch_follow_their_records(run: Producing, new_topic: MakeTopic) -> None:
    topic = new_topic(max_message_bytes="3000")

    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        futures = [await producer.send(topic, bytes(500)) for _ in range(40)]
        offsets = [metadata.offset for metadata in await asyncio.gather(*futures)]
        assert offsets == list(range(40))

    run(scenario, linger_ms=50)


def test_a_future_may_be_awaited_in_another_loop(kind: str, cluster: RunningCluster, topic: str) -> None:
    producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(bootstrap_servers=cluster.bootstrap_servers)

    async def send() -> AsyncDeliveryFuture:
        return await producer.send(topic, b"value")

    async def ask(future: AsyncDeliveryFuture) -> int:
        return (await future).offset

    future = run_on(kind, send())
    assert run_on(kind, ask(future)) == 0
    run_on(kind, producer.close())


def test_a_loop_may_be_run_until_a_future_is_done(kind: str, cluster: RunningCluster, topic: str) -> None:
    loop = LOOPS[kind]()
    asyncio.set_event_loop(loop)
    try:
        producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(bootstrap_servers=cluster.bootstrap_servers)
        future = loop.run_until_complete(producer.send(topic, b"value"))
        assert loop.run_until_complete(future).offset == 0
        loop.run_until_complete(producer.close())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_futures_are_freed_without_the_garbage_collector(run: Producing, topic: str) -> None:
    async def scenario(producer: AsyncKafkaProducer[Any, Any]) -> None:
        future = await producer.send(topic, b"value")
        assert not gc.is_tracked(future)
        await future

    run(scenario)
