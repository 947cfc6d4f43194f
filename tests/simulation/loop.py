"""An event loop in virtual time: asyncio's own tasks, futures and timers, and the producer's wake-ups, in an order that
follows from the seed.

The loop is also busy with other work: ready callbacks run only after a while. The watched descriptor is real; since only
the stepped code writes to it, its readability does not depend on chance.
"""

from __future__ import annotations

import asyncio
import math
import select
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from penstock._native import LoopInbox
from simulation.world import S, World


class VirtualLoop(asyncio.AbstractEventLoop):
    """The parts of an event loop that tasks, futures, `asyncio.timeout` and the producer use."""

    def __init__(self, world: World, lag_us: Callable[[], int], after: Callable[[], None]) -> None:
        """`lag_us`: how long the loop is busy before it runs; `after`: called after each iteration."""
        self._world = world
        self._lag_us = lag_us
        self._after = after
        self._ready: deque[asyncio.Handle] = deque()
        self._readers: dict[int, Callable[[], object]] = {}
        self._woken = False
        self._closed = False
        self.errors: list[str] = []
        """The errors that reached the exception handler."""

    # ------------------------------------------------------------------------------------------------ called by the world

    def poll(self) -> None:
        """Check whether a wake-up is pending."""
        if self._readers and not self._woken and select.select(list(self._readers), (), (), 0)[0]:
            self._wake()

    def _wake(self) -> None:
        if not self._woken and not self._closed:
            self._woken = True
            self._world.after(self._lag_us(), self._iterate)

    def _iterate(self) -> None:
        """Run the callbacks that are ready; those that become ready during it run in the next iteration."""
        self._woken = False
        if self._closed:
            return
        if self._readers:
            for descriptor in select.select(list(self._readers), (), (), 0)[0]:
                self.call_soon(self._readers[descriptor])
        asyncio._set_running_loop(self)
        try:
            for _ in range(len(self._ready)):
                handle = self._ready.popleft()
                if not handle.cancelled():
                    LoopInbox.begin_slice()  # the wall clock must not decide when it yields
                    handle._run()
        finally:
            asyncio._set_running_loop(None)
        if self._ready:
            self._wake()
        self._after()

    # ------------------------------------------------------------------------------------------------- called by asyncio

    def time(self) -> float:
        return self._world.now_us / S

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        self._wake()
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)

        def due() -> None:
            if not handle.cancelled():
                self._ready.append(handle)
                self._wake()

        self._world.at(math.ceil(when * S), due)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        return asyncio.Task(coro, loop=self, **options)

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        assert not args
        self._readers[fd] = callback

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._closed

    def finish(self) -> None:
        """Run everything that is ready, and its consequences; then close."""
        while self._ready:
            self._iterate()
        self._closed = True
        self._ready.clear()
        self._readers.clear()
