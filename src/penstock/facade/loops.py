"""Event loops: one inbox for each, through which native code has things called there.

What is resolved on the I/O thread is put into the loop's inbox natively, and one ring of a bell wakes the loop, however much
it is. Where the loop can watch a descriptor, the bell is a byte in a socket pair. Where it cannot (Windows' proactor), a
daemon thread waits without the GIL and says so with `call_soon_threadsafe`, which every loop has. That costs a hand-over of
the GIL per burst; reading a socket with `loop.sock_recv` would cost a task, and tasks are in everybody's reach: whoever
cancels all of them (test frameworks, `asyncio.run` at its end) would stop deliveries.

Callbacks run in the loop, but not through `call_soon` one by one: a burst is worked off in slices of `SLICE_S`, between
which the loop has a turn.
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
"""A burst of callbacks leaves the loop to others after this long."""
_CHUNK: Final = 32
"""Calls between looks at the clock."""

_lock = _threads.Lock()
_channels: weakref.WeakKeyDictionary[AbstractEventLoop, Channel] = weakref.WeakKeyDictionary()
_ended: list[LoopInbox] = []
"""Inboxes of loops that have ended, while a record on its way may still put something in. Appended to without the lock."""


class Channel:
    """A loop's inbox, and how the loop gets to hear of it. Knows the loop weakly: it must not outlive its end."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Begin to listen."""
        self._loop = weakref.ref(loop)
        self._pid = os.getpid()
        self._calls: Iterator[tuple[Callable[..., object], tuple[Any, ...], Context | None]] = iter(())
        self._repeats = Repeats()
        self.inbox = LoopInbox(True)
        try:
            loop.add_reader(self.inbox.fileno(), self.deliver)
        except (NotImplementedError, RuntimeError):
            # RuntimeError: `fileno` of a platform without socket pairs.
            self.inbox = LoopInbox(False)
            OsThread(partial(_wait_for, self, self.inbox), "penstock-loop").start()

    def is_over(self) -> bool:
        """Whether the loop is closed, or gone."""
        loop = self._loop()
        return loop is None or loop.is_closed()

    def tell(self) -> bool:
        """Have the loop look into the inbox, from another thread; whether it can."""
        loop = self._loop()
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(self.deliver)
        except RuntimeError:  # it is closed
            return False
        return True

    def deliver(self) -> None:
        """Make the calls that are due; in the loop."""
        loop = self._loop()
        if loop is None or self._pid != os.getpid():
            return  # a child of the parent's loop: the bell is the parent's
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
            more = True  # the calls behind the one that was interrupted
            raise
        finally:
            if more and not loop.is_closed():
                loop.call_soon(self.deliver)


def report(loop: AbstractEventLoop, function: Callable[..., object], error: BaseException, repeats: Repeats) -> None:
    """Tell the loop's exception handler. The default one logs, and a log handler may send, with such a callback again: it is
    told only now and then."""
    try:
        logs = loop.get_exception_handler() is None
    except NotImplementedError:  # of loops that know no such handlers
        logs = False
    more = repeats.more(subject_of(function, error), time.monotonic()) if logs else ""
    if more is not None:
        loop.call_exception_handler({"message": f"Exception in callback {function!r}{more}", "exception": error})


def _wait_for(channel: Channel, inbox: LoopInbox) -> None:
    reference = weakref.ref(channel)
    del channel
    while inbox.wait():
        strong = reference()
        if strong is None or not strong.tell():
            return
        del strong  # not while waiting


def here() -> tuple[AbstractEventLoop, LoopInbox, int | None]:
    """The loop that runs in this thread (or the thread's own, if none runs), its inbox, the thread's number.

    The number is None if the loop does not say by it (`_thread_id`) that it runs here.

    Raises `RuntimeError` if there is none.
    """
    loop = _loop_here()
    with _lock:
        channel = _channels.get(loop)
        over = [] if channel is not None else _take_ended()
        if channel is None:
            channel = _channels[loop] = Channel(loop)
            # A loop that is dropped unclosed; called by the garbage collector, which may interrupt whoever has the lock.
            with contextlib.suppress(ImportError):  # at the interpreter's end it may find nothing to import
                weakref.finalize(loop, _ended.append, channel.inbox).atexit = False
    _drop(over)
    ident = threading.get_ident()
    return loop, channel.inbox, ident if getattr(loop, "_thread_id", None) == ident else None


def _loop_here() -> AbstractEventLoop:
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    with warnings.catch_warnings():
        # For `loop.run_until_complete(future)`, which asks before it runs.
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop()


def next_turn() -> bool:
    """Have the running loop say when it has had its next turn; False if none runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    loop.call_soon(LoopInbox.begin_turn)
    return True


def sweep() -> None:
    """Drop what waits for loops that have ended. Now and then: when a loop is new, when a producer closes."""
    with _lock:
        over = _take_ended()
    _drop(over)


def _take_ended() -> list[LoopInbox]:
    """Under the lock. A task keeps its loop, and what waits for a batch keeps the task: hence the look at all."""
    over = [loop for loop, channel in _channels.items() if channel.is_over()]
    inboxes = _ended[:]
    del _ended[: len(inboxes)]
    return inboxes + [_channels.pop(loop).inbox for loop in over]


def _drop(inboxes: list[LoopInbox]) -> None:
    """Without the lock: what is dropped here may run anything."""
    for inbox in inboxes:
        inbox.close()
    left = [inbox for inbox in inboxes if not inbox.is_forgotten()]
    _ended.extend(left)


def _after_fork_in_child() -> None:
    # Descriptors and threads are the parent's.
    global _lock, _channels
    _lock = _threads.Lock()
    _channels = weakref.WeakKeyDictionary()
    _ended.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
