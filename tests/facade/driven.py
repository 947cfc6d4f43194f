"""`AsyncKafkaProducer` with `KafkaProducer`'s blocking methods, so that one test holds for both."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from penstock import AsyncBulkResult, AsyncDeliveryFuture, AsyncKafkaProducer, KafkaError, KafkaProducer


class DrivenFuture:
    """As `DeliveryFuture`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, future: AsyncDeliveryFuture) -> None:
        self._loop, self._future = loop, future

    def result(self, timeout: float | None = None) -> Any:
        async def main() -> Any:
            return await asyncio.wait_for(self._future, timeout)

        return self._loop.run_until_complete(main())


class DrivenResult:
    """Like `BulkResult`: its methods wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop, result: AsyncBulkResult) -> None:
        self._loop, self.of = loop, result

    def result(self, timeout: float | None = None) -> DrivenResult:
        async def main() -> None:
            assert await asyncio.wait_for(self.of, timeout) is self.of

        if not self._loop.is_closed():
            self._loop.run_until_complete(main())
        return self

    @property
    def errors(self) -> dict[int, KafkaError]:
        return self.result().of.errors

    @property
    def offsets(self) -> array[int]:
        return self.result().of.offsets

    def raise_for_errors(self) -> None:
        self.result().of.raise_for_errors()

    def add_done_callback(self, fn: Callable[[DrivenResult], object]) -> None:
        async def main() -> None:
            self.of.add_done_callback(lambda result: fn(self) if result is self.of else None)

        self._loop.run_until_complete(main())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)

    def __len__(self) -> int:
        return len(self.of)

    def __bool__(self) -> bool:
        return bool(self.of)

    def __repr__(self) -> str:
        return repr(self.of).replace("Async", "")


class Driven:
    """A loop that runs during each method."""

    def __init__(self, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(**options)

    def _run(self, main: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(main)

    def send(self, *arguments: Any, **more: Any) -> DrivenFuture:
        async def main() -> AsyncDeliveryFuture:
            return await self._producer.send(*arguments, **more)

        return DrivenFuture(self._loop, self._run(main()))

    def send_many(self, *arguments: Any, **more: Any) -> DrivenResult:
        return DrivenResult(self._loop, self._run(self._producer.send_many(*arguments, **more)))

    def send_arrow(self, *arguments: Any, **more: Any) -> DrivenResult:
        return DrivenResult(self._loop, self._run(self._producer.send_arrow(*arguments, **more)))

    def partitions_for(self, topic: str) -> Any:
        return self._run(self._producer.partitions_for(topic))

    def flush(self, timeout: float | None = None) -> None:
        self._run(self._producer.flush(timeout))

    def purge(self, topic: str | None = None) -> int:
        return self._producer.purge(topic)

    def close(self, timeout: float | None = None) -> None:
        if not self._loop.is_closed():
            self._run(self._producer.close(timeout))
            self._loop.close()

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
        finally:
            self.close()


FACADES = [pytest.param(KafkaProducer, id="blocking"), pytest.param(Driven, id="asyncio")]

blocking_only = pytest.mark.parametrize("facade", FACADES[:1])
"""Methods with another form in asyncio; see `test_aio_bulk.py`."""
