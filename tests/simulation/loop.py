"""An event loop in virtual time: asyncio's own tasks, futures and timers, and the producer's bell, in an order that follows
from the seed.

The loop has other things to do: whatever is ready runs only after a while. The descriptor that it watches is real; since
nobody writes to it but the code that is stepped here, whether it can be read is no matter of chance.
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
    """As much of an event loop as tasks, futures, `asyncio.timeout` and the producer ask for."""

    def __init__(self, world: World, lag_us: Callable[[], int], after: Callable[[], None]) -> None:
        """`lag_us`: for how long it is busy elsewhere before it has a turn; `after`: called behind each turn."""
        self._world = world
        self._lag_us = lag_us
        self._after = after
        self._ready: deque[asyncio.Handle] = deque()
        self._readers: dict[int, Callable[[], object]] = {}
        self._woken = False
        self._closed = False
        self.errors: list[str] = []
        """What reached the exception handler."""

    # ------------------------------------------------------------------------------------------------------ by the world

    def poll(self) -> None:
        """Look whether a bell has been rung."""
        if self._readers and not self._woken and select.select(list(self._readers), (), (), 0)[0]:
            self._wake()

    def _wake(self) -> None:
        if not self._woken and not self._closed:
            self._woken = True
            self._world.after(self._lag_us(), self._turn)

    def _turn(self) -> None:
        """What is ready now; what becomes ready meanwhile has the next turn."""
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
                    LoopInbox.begin_slice()  # time slices follow the wall clock, which does not run here
                    handle._run()
        finally:
            asyncio._set_running_loop(None)
        if self._ready:
            self._wake()
        self._after()

    # ------------------------------------------------------------------------------------------------------- by asyncio

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
        """Let everything that is ready run, and what follows from it; then close."""
        while self._ready:
            self._turn()
        self._closed = True
        self._ready.clear()
        self._readers.clear()
