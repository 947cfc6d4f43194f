"""`AsyncMockProducer`: `MockProducer`'s engine behind the asyncio facade."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from penstock import AsyncProducer, DeliveryError, KafkaTimeoutError, ProducerClosedError, StringSerializer, errors
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


def test_the_test_decides_what_becomes_of_a_record_from_any_thread() -> None:
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


def test_failures_that_nobody_asked_about_are_raised_by_flush_as_of_a_cancelled_future() -> None:
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


def test_what_is_to_raise_raises() -> None:
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
