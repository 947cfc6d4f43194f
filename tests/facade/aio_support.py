"""Helpers of the asyncio tests: event loops of each kind, and producers that are created in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from facade_support import SOON_S

from penstock import AsyncKafkaProducer


class BlindLoop(asyncio.SelectorEventLoop):
    """A loop that cannot watch descriptors for others, as Windows' proactor."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
        raise NotImplementedError


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
    "blind": BlindLoop,
}


def run_on(kind: str, main: Coroutine[Any, Any, Any]) -> Any:
    """As `asyncio.run`, on a loop of that kind; fails after `SOON_S`, and on errors that asyncio logs."""
    wrong: list[dict[str, Any]] = []

    async def soon() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        async with asyncio.timeout(SOON_S):
            return await main

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        found = runner.run(soon())
    assert wrong == []
    return found


@asynccontextmanager
async def producing(servers: str, **options: Any) -> AsyncIterator[AsyncKafkaProducer[Any, Any]]:
    """A producer that is closed without waiting."""
    producer = AsyncKafkaProducer(bootstrap_servers=servers, **options)
    try:
        yield producer
    finally:
        await producer.close(0)


async def turns(count: int = 3) -> None:
    """Let all ready callbacks and tasks run."""
    for _ in range(count):
        await asyncio.sleep(0)
