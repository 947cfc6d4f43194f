"""Event loops: each has one inbox, and native code posts calls into it.

The I/O thread resolves futures and posts their callbacks natively. At most one wake-up of the loop is outstanding,
however many calls are posted. If the loop can watch a descriptor, the wake-up is a byte in a socket pair. If it cannot
(Windows' proactor), a daemon thread waits without the GIL and calls `call_soon_threadsafe`, which every loop has. That
costs one acquisition of the GIL per burst. Reading the socket with `loop.sock_recv` would need a task instead, and code
that cancels all tasks (test frameworks, `asyncio.run` at its end) would stop deliveries.

Callbacks run in the loop, but without a `call_soon` for each: a burst is processed in time slices of `SLICE_S`, and the
loop runs other work between two slices.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import warnings
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextvars import Context
from functools import partial
from typing import Any, Final

from penstock import _threads
from penstock._log import Repeats, subject_of
from penstock._native import LoopInbox
from penstock._threads import OsThread

SLICE_S: Final = 0.001
"""A burst of callbacks yields to the loop after this many seconds."""
_CHUNK: Final = 32
"""Calls between two reads of the clock."""

_lock = _threads.Lock()
_channels: weakref.WeakKeyDictionary[AbstractEventLoop, Channel] = weakref.WeakKeyDictionary()
_ended: list[LoopInbox] = []
"""Inboxes of loops that have ended, as long as a record in flight may still post to them. Appended to without the lock."""


class Channel:
    """A loop's inbox, and how the loop is notified. It holds the loop weakly, so that the loop can be collected."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Have the loop watch the inbox."""
        self._loop = weakref.ref(loop)
        self._pid = os.getpid()
        self._calls: Iterator[tuple[Callable[..., object], tuple[Any, ...], Context | None]] = iter(())
        self._repeats = Repeats()
        self.inbox = LoopInbox(True)
        try:
            loop.add_reader(self.inbox.fileno(), self.deliver)
        except (NotImplementedError, RuntimeError):
            # RuntimeError: from `fileno`, on a platform without socket pairs.
            self.inbox = LoopInbox(False)
            OsThread(partial(_wait_for, self, self.inbox), "penstock-loop").start()

    def is_over(self) -> bool:
        """Whether the loop is closed, or collected."""
        loop = self._loop()
        return loop is None or loop.is_closed()

    def notify(self) -> bool:
        """Have the loop call `deliver`; from another thread. False: the loop is closed."""
        loop = self._loop()
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(self.deliver)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def deliver(self) -> None:
        """Make the calls in the inbox; runs in the loop."""
        loop = self._loop()
        if loop is None or self._pid != os.getpid():
            return  # after a fork, in the child: the socket pair is the parent's
        until = time.monotonic() + SLICE_S
        more = True
        try:
            while True:
                for function, arguments, context in self._calls:
                    try:
                        if context is None:
                            function(*arguments)
                        else:
                            context.run(function, *arguments)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:
                        report(loop, function, error, self._repeats)
                if not more or time.monotonic() >= until:
                    break
                calls, more = self.inbox.take(_CHUNK)
                self._calls = iter(calls)
                if not calls:
                    more = False
                    break
        except BaseException:
            more = True  # the calls after the interrupted one
            raise
        finally:
            if more and not loop.is_closed():
                loop.call_soon(self.deliver)


def report(loop: AbstractEventLoop, function: Callable[..., object], error: BaseException, repeats: Repeats) -> None:
    """Call the loop's exception handler.

    The default one logs, and a log handler may send with a callback that raises again. So it is called at most once in
    `LOG_EVERY_S` seconds for the same error.
    """
    try:
        logs = loop.get_exception_handler() is None
    except NotImplementedError:  # a loop without exception handlers
        logs = False
    more = repeats.more(subject_of(function, error), time.monotonic()) if logs else ""
    if more is not None:
        loop.call_exception_handler({"message": f"Exception in callback {function!r}{more}", "exception": error})


def _wait_for(channel: Channel, inbox: LoopInbox) -> None:
    reference = weakref.ref(channel)
    del channel
    while inbox.wait():
        strong = reference()
        if strong is None or not strong.notify():
            return
        del strong  # not held during the wait


def here() -> tuple[AbstractEventLoop, LoopInbox, int | None]:
    """The loop that runs in this thread (or the thread's own loop, if none runs), its inbox, and the thread's number.

    The number is None if the loop has no attribute `_thread_id`, by which native code can check that it runs here.

    Raises:
        RuntimeError: this thread has no event loop.
    """
    loop = _loop_here()
    with _lock:
        channel = _channels.get(loop)
        over = [] if channel is not None else _take_ended()
        if channel is None:
            channel = _channels[loop] = Channel(loop)
            # For a loop that is dropped without being closed. The garbage collector may call this while the lock is held.
            with contextlib.suppress(
                ImportError
            ):  # `finalize` imports `atexit`, which may fail at interpreter shutdown
                weakref.finalize(loop, _ended.append, channel.inbox).atexit = False
    _drop(over)
    ident = threading.get_ident()
    return loop, channel.inbox, ident if getattr(loop, "_thread_id", None) == ident else None


def _loop_here() -> AbstractEventLoop:
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    with warnings.catch_warnings():
        # For `loop.run_until_complete(future)`, which calls `__await__` before the loop runs.
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop()


def next_slice() -> bool:
    """Have the running loop call `LoopInbox.begin_slice` in its next iteration; False if no loop runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    loop.call_soon(LoopInbox.begin_slice)
    return True


def sweep() -> None:
    """Drop the inboxes of loops that have ended. Called when a loop is new and when a producer closes."""
    with _lock:
        over = _take_ended()
    _drop(over)


def _take_ended() -> list[LoopInbox]:
    """The inboxes to drop; under the lock.

    All loops are checked, because not every ended loop is collected: a waiter of a batch references its task, and a task
    its loop.
    """
    over = [loop for loop, channel in _channels.items() if channel.is_over()]
    inboxes = _ended[:]
    del _ended[: len(inboxes)]
    return inboxes + [_channels.pop(loop).inbox for loop in over]


def _drop(inboxes: list[LoopInbox]) -> None:
    """Without the lock: destructors of the dropped objects may run any code."""
    for inbox in inboxes:
        inbox.close()
    left = [inbox for inbox in inboxes if not inbox.is_forgotten()]
    _ended.extend(left)


def _after_fork_in_child() -> None:
    # Descriptors and threads belong to the parent.
    global _lock, _channels
    _lock = _threads.Lock()
    _channels = weakref.WeakKeyDictionary()
    _ended.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
