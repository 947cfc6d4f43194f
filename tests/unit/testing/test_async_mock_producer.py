"""`AsyncMockProducer`: `MockProducer` behind the asyncio facade."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest

from penstock import (
    AsyncProducer,
    DeliveryError,
    IntegerSerializer,
    KafkaTimeoutError,
    ProducerClosedError,
    SerializationError,
    StringSerializer,
    errors,
)
from penstock.testing import AsyncMockProducer


def test_records_are_kept_and_acknowledged_at_once() -> None:
    async def main() -> None:
        async with AsyncMockProducer(value_serializer=StringSerializer()) as producer:
            application: AsyncProducer[bytes, str] = producer
            future = await application.send("topic", "one", key=b"k")
            assert asyncio.isfuture(future)
            assert (await future).offset == 0
            assert (await application.send_and_wait("topic", "two")).offset == 1
            assert [sent.value for sent in producer.sent] == [b"one", b"two"]
        assert producer.closed

    asyncio.run(main())


def test_records_can_be_completed_from_any_thread() -> None:
    async def main() -> None:
        producer = AsyncMockProducer(auto_complete=False)
        first, second = await producer.send("topic", b"1"), await producer.send("topic", b"2")
        producer.complete_next()
        thread = threading.Thread(target=producer.error_next, args=(errors.TopicAuthorizationError("no"),))
        thread.start()
        assert (await first).offset == 0
        with pytest.raises(errors.TopicAuthorizationError):
            await second
        thread.join()
        await producer.flush()

    asyncio.run(main())


def test_callbacks_run_in_the_loop_and_before_flush_returns() -> None:
    async def main() -> None:
        producer = AsyncMockProducer()
        seen: list[Any] = []
        await producer.send("topic", b"value", callback=lambda *outcome: seen.append(asyncio.get_running_loop()))
        assert seen == []
        await producer.flush()
        assert seen == [asyncio.get_running_loop()]

    asyncio.run(main())


def test_flush_raises_unnoticed_failures_also_of_cancelled_futures() -> None:
    async def main() -> None:
        producer = AsyncMockProducer(auto_complete=False)
        await producer.send("topic", b"1")
        cancelled = await producer.send("topic", b"2")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cancelled, 0)
        for _ in range(2):
            producer.error_next(errors.TopicAuthorizationError("no"))
        with pytest.raises(DeliveryError) as caught:
            await producer.flush()
        assert caught.value.count == 2

    asyncio.run(main())


def test_methods_raise_the_errors_that_were_set() -> None:
    async def main() -> None:
        producer = AsyncMockProducer(partitions={"known": 2})
        with pytest.raises(KafkaTimeoutError):
            await producer.send("absent", b"value")
        assert [info.partition for info in await producer.partitions_for("known")] == [0, 1]
        producer.flush_error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            await producer.flush()
        await producer.close()
        with pytest.raises(ProducerClosedError):
            await producer.send("known", b"late")

    asyncio.run(main())


def test_send_many_equals_many_sends() -> None:
    async def values() -> AsyncIterator[int]:
        for value in (1, 2**40, 3):
            await asyncio.sleep(0)
            yield value

    async def main() -> None:
        producer = AsyncMockProducer(
            False, key_serializer=StringSerializer(), value_serializer=IntegerSerializer(), partitions=5
        )
        application: AsyncProducer[str, int] = producer
        result = await application.send_many("t", values(), keys=["a", "b", "c"])
        called: list[object] = []
        result.add_done_callback(called.append)
        with pytest.raises(asyncio.InvalidStateError, match="await the result"):
            result.raise_for_errors()
        waiting = asyncio.create_task(asyncio.wait_for(result, None))
        producer.complete_next()
        producer.error_next(errors.KafkaError("lost"))
        assert await waiting is result
        await asyncio.sleep(0)
        assert called == [result]
        assert {index: type(error) for index, error in result.errors.items()} == {
            1: SerializationError,
            2: errors.KafkaError,
        }
        assert list(result.offsets) == [0, -1, -1]
        assert list(result.partitions) == [producer.sent[0].partition, -1, producer.sent[1].partition]
        assert (len(result), result.serialized_bytes, bool(result)) == (3, 10, True)
        with pytest.raises(DeliveryError, match="2 of 3 records not delivered"):
            result.raise_for_errors()
        with pytest.raises(SerializationError):
            await producer.send_many("t", ["x"])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="different lengths"):
            await producer.send_many("t", [1], keys=[])

    asyncio.run(main())


def test_awaiting_a_bulk_result_does_not_notice_errors() -> None:
    async def main() -> None:
        producer = AsyncMockProducer(False)
        result = await producer.send_many("t", [b"1", b"2"])
        producer.error_next(errors.TopicAuthorizationError("no"))
        producer.complete_next()
        await result
        with pytest.raises(DeliveryError):
            await producer.flush()

    asyncio.run(main())


def test_arrow_rows_are_read_as_the_real_producer_reads_them() -> None:
    async def main() -> None:
        producer = AsyncMockProducer(partitions=3)
        table = pa.table({"id": [1, 2], "name": ["x", None], "p": pa.array([2, None])})
        result = await producer.send_arrow("t", table, key="name", partition="p")
        assert [(sent.value, sent.key, sent.partition) for sent in producer.sent] == [
            (b'{"id":1,"name":"x"}', b"x", 2),
            (b'{"id":2,"name":null}', None, 0),
        ]
        (await result).raise_for_errors()
        empty = await producer.send_many("t", [])
        called: list[object] = []
        empty.add_done_callback(called.append)
        assert (await empty).errors == {}
        await asyncio.sleep(0)
        assert called == [empty]

    asyncio.run(main())
