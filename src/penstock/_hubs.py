"""Greenlets (gevent, eventlet): our waits let other greenlets run, and our threads make calls in the application's hub.

*Waits.* A greenlet that has to wait registers its `Waiter` with native code, as a coroutine does, and switches to the hub
of its thread. Where no hub runs, the OS thread waits natively. So does the hub's own greenlet, which cannot wait for
itself.

*Calls.* In a monkey-patched process the locks of the application and of `logging` are made for greenlets of one OS thread,
and eventlet's break if another thread uses them. So our threads do not call the application's code (callbacks, log
handlers) themselves: `call` runs it in a greenlet of the application's hub.
"""

from __future__ import annotations

import os
from _queue import SimpleQueue
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from penstock import _threads
from penstock._hub_channels import HubChannel, Waiter, find_hub
from penstock._native import Engine, PendingFlush
from penstock._threads import Event, OsThread

T = TypeVar("T")

_CHECK_S: Final = 0.1
"""While a call waits for the hub, how often to check that the hub still runs calls."""

_here: Final = _threads.Local()
_home: HubChannel | None = None
"""The hub of the application's greenlets, as far as is known."""
_in_callbacks: Final[set[int]] = set()
"""Greenlets that run callbacks, by `id`."""


class _Tie:
    """Marks the channel as over when its OS thread ends: thread-local, so it is dropped with the thread."""

    def __init__(self, channel: HubChannel) -> None:
        self.channel = channel

    def __del__(self) -> None:
        self.channel.over = True


def here() -> HubChannel | None:
    """The channel of the hub that runs in this OS thread.

    None: no hub runs here, or the caller is the hub's own greenlet.
    """
    global _home
    found = find_hub()
    if found is None:
        return None
    hub, kind, greenlet = found
    tie: _Tie | None = getattr(_here, "tie", None)
    if tie is not None and tie.channel.hub is hub and tie.channel.pid == os.getpid():
        channel = tie.channel
    elif greenlet is _threads.current_greenlet():
        return None  # the hub cannot wait for itself: it needs no channel
    else:
        if tie is not None:
            tie.channel.unwatch()
        channel = kind(hub)
        _here.tie = _Tie(channel)
        if _home is None or _home.is_over() or _threads.on_main_thread():
            _home = channel
    if greenlet is _threads.current_greenlet():
        channel.stuck = True
        return None
    return channel


def waiter() -> Waiter | None:
    """For native code: a wait of the current greenlet, or None where the OS thread may wait."""
    channel = here()
    return None if channel is None else channel.waiter()


def in_hub() -> bool:
    """Whether the caller is a hub's own greenlet (a signal handler, a watcher's callback), which stops all others."""
    found = find_hub()
    return found is not None and found[2] is _threads.current_greenlet()


def prepare() -> None:
    """Called by each new producer. In a patched process it creates the application's hub if there is none yet, and imports
    modules that our threads need: the import system's locks may be made for greenlets of one thread.
    """
    library = _threads.patched_by()
    if library is not None:
        import encodings.idna  # noqa: F401
        import ipaddress  # noqa: F401
    if library is not None and find_hub() is None and _threads.on_main_thread():
        if library == "gevent":
            from gevent import get_hub
        else:
            from eventlet.hubs import get_hub
        get_hub()
    here()


def wait(event: Event, timeout: float | None = None) -> bool:
    """Wait up to `timeout` seconds (None: without limit) for an event; other greenlets run. Whether it is set."""
    channel = here()
    if channel is None:
        return event.wait(timeout)
    waiter = channel.waiter()

    def notify() -> None:
        waiter.inbox.post(waiter.wake)

    if event.add_waiter(notify):
        try:
            waiter.wait_until(event.is_set, timeout)
        finally:
            event.remove_waiter(notify)
    return event.is_set()


def join(thread: OsThread, timeout: float) -> None:
    """Wait up to `timeout` seconds for a thread's end; other greenlets run."""
    if wait(thread.ended, timeout):
        thread.join(timeout)  # returns almost at once


def run(function: Callable[[], T], name: str) -> T:
    """Call a function that blocks; return what it returns, raise what it raises.

    Without a hub it is called here. With a hub it runs on an OS thread of that name, and other greenlets run meanwhile; if
    the wait is interrupted, the function goes on.
    """
    if here() is None:
        return function()
    returned: list[T] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            returned.append(function())
        except BaseException as error:
            raised.append(error)

    thread = OsThread(work, name)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started: the interpreter shuts down
        return function()
    wait(thread.ended)
    if raised:
        raise raised[0]
    return returned[0]


def flush(engine: Engine, timeout: float | None) -> int:
    """As `Engine.flush`. In the hub's own greenlet it does not wait for callbacks: they may need the hub."""
    channel = here()
    if channel is None:
        return engine.flush(timeout, callbacks=not in_hub())
    pending, waiter = PendingFlush(engine), channel.waiter()
    try:
        if not waiter.wait_until(lambda: pending.attempt(waiter.inbox, waiter.wake)[0] == "done", timeout):
            return engine.unresolved_records() or -1
    finally:
        pending.end()
    return 0


def in_callback() -> bool:
    """Whether the caller is a callback."""
    return Engine.in_callback() or (bool(_in_callbacks) and id(_threads.current_greenlet()) in _in_callbacks)


class _Job:
    """A call that either the hub makes or the thread that needs it; whichever takes it first."""

    def __init__(self, function: Callable[[], object], channel: HubChannel, is_callback: bool) -> None:
        self.done: Final = Event()
        self.error: BaseException | None = None
        self._function = function
        self._channel = channel
        self._is_callback = is_callback
        self._lock = _threads.Lock()
        self._taken = False

    def take(self) -> bool:
        """Whether the caller is to make the call; True once."""
        with self._lock:
            taken, self._taken = self._taken, True
        return not taken

    def start(self) -> None:
        """Start a greenlet for it; runs in the hub."""
        self._channel.spawn(self._run)

    def _run(self) -> None:
        if not self.take():
            return
        me = id(_threads.current_greenlet())
        if self._is_callback:
            _in_callbacks.add(me)
        try:
            self._function()
        except BaseException as error:
            self.error = error
        finally:
            _in_callbacks.discard(me)
            self.done.set()


def call(function: Callable[[], object], *, is_callback: bool = False) -> None:
    """Make a call for one of our threads, and wait for its end. Raises what the function raises.

    In a patched process the call runs in the application's hub. Otherwise, and if the hub does not run calls, it runs on
    this thread.
    """
    channel = _home
    if channel is None or _threads.patched_by() is None or channel.is_over() or channel.thread == _threads.ident():
        function()
        return
    job = _Job(function, channel, is_callback)
    channel.inbox.post(job.start)
    while not job.done.wait(_CHECK_S):
        if (channel.stuck or channel.is_over()) and job.take():
            function()
            return
    if job.error is not None:
        raise job.error


class Arrivals(Generic[T]):
    """A queue from any threads to one reader, which may be a greenlet."""

    def __init__(self) -> None:
        """Empty."""
        self._items: SimpleQueue[T] = SimpleQueue()
        self._waiter: Waiter | None = None

    def put(self, item: T) -> None:
        """Add one; from any thread."""
        self._items.put(item)
        waiter = self._waiter
        if waiter is not None:
            waiter.inbox.post(waiter.wake)

    def get(self, timeout: float | None) -> T:
        """Take the next one; wait for it up to `timeout` seconds (None: without limit).

        Raises:
            queue.Empty: none came in time.
        """
        channel = here()
        if channel is None:
            return self._items.get(timeout=timeout)
        self._waiter = waiter = channel.waiter()
        try:
            waiter.wait_until(lambda: not self._items.empty(), timeout)
            return self._items.get_nowait()
        finally:
            self._waiter = None


def _after_fork_in_child() -> None:
    # The parent's other greenlets exist here, too, suspended. Their wake-ups belong to the parent.
    global _home
    _home = None
    _in_callbacks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
