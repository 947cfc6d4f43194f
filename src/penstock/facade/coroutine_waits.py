"""How a coroutine waits for native code: for a topic, memory, a flush, a bulk call, the end of a thread.

A wait is an `attempt` that is repeated. A native `attempt(inbox, wake)` returns a pair: it is done, with a result, or it says
how to wait. Before a wait it registers `wake`; the I/O thread posts `wake` into the loop's inbox, and the coroutine attempts
again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from penstock._native import AsyncBulkResult, LoopInbox, PendingBulk
from penstock._threads import OsThread
from penstock.facade import loops

if TYPE_CHECKING:
    from penstock._native import _Step

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Pending(Protocol[T_co]):
    """A native operation: the coroutine takes its steps; it never waits itself."""

    def attempt(self, inbox: LoopInbox, wake: Callable[[], object], /) -> _Step[T_co]:
        """Take the next steps. If they end with a wait, `wake` is called when it is worth another attempt."""
        ...


class LoopWaiter:
    """One coroutine's wait for a call that comes through its loop's inbox."""

    def __init__(self) -> None:
        """For the running loop; raises `RuntimeError` if there is none."""
        self.inbox: LoopInbox
        self._loop, self.inbox, _ = loops.here()
        self._future: asyncio.Future[bool] | None = None
        self._woken = False

    def wake(self) -> None:
        """End the present wait, or the next one; runs in the loop."""
        self._woken = True
        self._end(True)

    def _end(self, woken: bool) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(woken)

    async def wait(self, timeout: float | None) -> bool:
        """Wait until `wake` is called, or for `timeout` seconds (False); None: without limit."""
        if not self._woken:
            self._future = self._loop.create_future()
            timer = None if timeout is None else self._loop.call_later(timeout, self._end, False)
            try:
                await self._future
            finally:
                self._future = None
                if timer is not None:
                    timer.cancel()
        woken, self._woken = self._woken, False
        return woken


async def until_done(pending: Pending[T], timeout: float | None = None) -> T:
    """Attempt until it is done, and wait between the attempts. Raises `TimeoutError` after `timeout` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    waiter = LoopWaiter()
    while True:
        match pending.attempt(waiter.inbox, waiter.wake):
            case "done", result:
                return result
            case "wait", wait_s:
                if deadline is not None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    wait_s = left if wait_s is None else min(left, wait_s)
                await waiter.wait(wait_s)
            case "yield", times:
                for _ in range(times):
                    await asyncio.sleep(0)
            case "await", entry:
                await _feed(cast("PendingBulk", pending), entry)


async def until_called() -> None:
    """Wait until the calls that are in this loop's inbox now have been made."""
    waiter = LoopWaiter()
    waiter.inbox.post(waiter.wake)
    await waiter.wait(None)


async def until_buffered(pending: PendingBulk) -> AsyncBulkResult:
    """The result of a bulk call. If the wait is interrupted, buffered records are sent, and the others are not."""
    try:
        return await until_done(pending)
    except BaseException as error:
        pending.give_up(error)
        raise


async def _feed(pending: PendingBulk, entry: Awaitable[Any]) -> None:
    """Await the next entry of an async iterable, and pass it on."""
    try:
        found = await entry
    except StopAsyncIteration:
        pending.end()
    except Exception as error:
        pending.fail(error)
    else:
        pending.feed(found)


def in_thread(function: Callable[[], None], name: str) -> Awaitable[None]:
    """Run a function on a thread of its own, which goes on if the wait is cancelled.

    Not an executor's thread: executors limit their threads, and the interpreter waits for those at shutdown.
    """
    waiter = LoopWaiter()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)
        finally:
            waiter.inbox.post(waiter.wake)

    try:
        OsThread(run, name).start()
    except RuntimeError:  # no thread can be started: the interpreter shuts down, and blocking this loop does no harm
        run()

    async def wait() -> None:
        await waiter.wait(None)
        if raised:
            raise raised[0]

    return wait()
