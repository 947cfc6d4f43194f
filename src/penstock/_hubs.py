"""Greenlets (gevent, eventlet): waits of ours give way to the others, and what they may not do elsewhere is done in their hub.

*Waits.* A greenlet that has to wait registers a notice, as a coroutine does, and switches to its thread's hub. Native code
puts notices into the hub's inbox and writes one byte into a socket pair that the hub watches; the hub then wakes the
greenlets. There is one such `Channel` for each OS thread with a hub. Where no hub runs, and in the hub's own greenlet, which
cannot wait for itself, the OS thread waits natively.

*Calls.* In a monkey-patched process the application's locks, and those of `logging`, are made for greenlets of one OS thread.
eventlet's break when another one uses them. So what a thread of ours has to call there (callbacks, log handlers) is run
by `call` in a greenlet of the application's hub.
"""

from __future__ import annotations

import os
import sys
from _queue import SimpleQueue
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from penstock import _threads
from penstock._native import Engine, LoopInbox, PendingFlush
from penstock._threads import Event, OsThread

T = TypeVar("T")

_CHUNK: Final = 256
_LONGEST_S: Final = 3600.0
"""A wait in a hub is looked after this often: every wait has a timer, of a length that timers take."""
_LOOK_S: Final = 0.1
"""How often it is looked after whether the hub still takes what it is to run."""


class Channel:
    """A hub's inbox, and how the hub is notified. Belongs to one OS thread; only `inbox` is for others."""

    def __init__(self, hub: Any) -> None:
        """Begin to listen; in the hub's thread."""
        self.hub = hub
        self.inbox = LoopInbox(True)
        self.pid: Final = os.getpid()
        self.thread: Final = _threads.ident()
        self.stuck = False
        """The hub's own greenlet waits natively, or has done so since the hub last looked: nothing is to be expected of it."""
        self.over = False
        """The hub's thread has ended."""
        self._calls: Iterator[tuple[Callable[..., object], tuple[Any, ...], object]] = iter(())

    def bell(self) -> Bell:
        """For a wait of the present greenlet."""
        raise NotImplementedError

    def spawn(self, function: Callable[[], object]) -> None:
        """Start a greenlet; in the hub."""
        raise NotImplementedError

    def forget(self) -> None:
        """Stop listening: this is a child, and the descriptor is shared with the parent."""

    def is_over(self) -> bool:
        """Whether nothing will run there any more."""
        return self.over or self.pid != os.getpid()

    def deliver(self, *_: object) -> None:
        """Make the calls that are due; in the hub, which they must not hold up."""
        if self.pid != os.getpid():
            self.forget()
            return
        self.stuck = False
        more = True
        try:
            while more:
                for function, arguments, _context in self._calls:
                    function(*arguments)
                calls, more = self.inbox.take(_CHUNK)
                self._calls = iter(calls)
                more = more or bool(calls)
        except BaseException:
            # Ctrl-C, which the hub hands on. The calls behind the one that was interrupted are made the next time.
            self.inbox.post(int)
            raise


class Bell:
    """One greenlet's wait. Native code knows `inbox`, `ring` and `wait` by name (`loops/hub.rs`)."""

    def __init__(self, channel: Channel) -> None:
        """`ring` goes into the channel's inbox."""
        self.inbox = channel.inbox

    def ring(self) -> None:
        """End the wait, the present one or the next; in the hub."""
        raise NotImplementedError

    def wait(self, timeout: float | None) -> bool:
        """Let other greenlets run until `ring`, or for up to `timeout` seconds; whether it was rung.

        Raises what another greenlet throws into this one (`gevent.Timeout`, `GreenletExit`).
        """
        return self._wait(_LONGEST_S if timeout is None else min(max(timeout, 0.0), _LONGEST_S))

    def _wait(self, timeout: float) -> bool:
        raise NotImplementedError


class _GeventChannel(Channel):
    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        # Not `ref`: a watcher that counts would keep `gevent.wait()` from ever ending. What keeps the hub from taking itself
        # for idle while a greenlet waits is the timer that every wait has.
        self._watcher = hub.loop.io(self.inbox.fileno(), 1, ref=False)
        self._watcher.start(self.deliver)

    def bell(self) -> Bell:
        return _GeventBell(self)

    def spawn(self, function: Callable[[], object]) -> None:
        import gevent

        # Raw: nobody can find it and kill it before it has begun.
        gevent.spawn_raw(function)

    def forget(self) -> None:
        if self.hub.loop is not None:
            self._watcher.stop()

    def is_over(self) -> bool:
        return super().is_over() or self.hub.loop is None


class _GeventBell(Bell):
    def __init__(self, channel: Channel) -> None:
        from gevent.event import Event as GeventEvent

        super().__init__(channel)
        self._event = GeventEvent()

    def ring(self) -> None:
        self._event.set()

    def _wait(self, timeout: float) -> bool:
        rung = self._event.wait(timeout)
        self._event.clear()
        return bool(rung)


class _EventletChannel(Channel):
    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        hub.add(hub.READ, self.inbox.fileno(), self.deliver, self.deliver, None)

    def bell(self) -> Bell:
        return _EventletBell(self)

    def spawn(self, function: Callable[[], object]) -> None:
        import eventlet

        eventlet.spawn_n(function)


class _EventletBell(Bell):
    def __init__(self, channel: Channel) -> None:
        from eventlet.event import Event as EventletEvent

        super().__init__(channel)
        self._new = EventletEvent
        self._event = EventletEvent()

    def ring(self) -> None:
        if not self._event.ready():
            self._event.send(True)

    def _wait(self, timeout: float) -> bool:
        rung = bool(self._event.wait(timeout))
        if rung:
            self._event = self._new()
        return rung


class _Tie:
    """Goes with the OS thread that holds it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def __del__(self) -> None:
        self.channel.over = True


_here: Final = _threads.Local()
_home: Channel | None = None
"""Where the application's greenlets run, as far as is known."""
_in_callbacks: Final[set[int]] = set()
"""Greenlets that run callbacks, by `id`."""


def _hub() -> tuple[Any, type[Channel], Any] | None:
    """The hub of this OS thread, the kind of its channel, and its greenlet."""
    modules = sys.modules
    # Another thread may be importing them just now: what is not there yet has no hub.
    find = getattr(modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    hub = None if find is None else find()
    if hub is not None and hub.loop is not None:
        return hub, _GeventChannel, hub
    hub = getattr(getattr(modules.get("eventlet.hubs"), "_threadlocal", None), "hub", None)
    if hub is not None:
        return hub, _EventletChannel, hub.greenlet
    return None


def here() -> Channel | None:
    """That of the hub that runs in this OS thread. None: there is none, or the caller is the hub's own greenlet."""
    global _home
    found = _hub()
    if found is None:
        return None
    hub, kind, greenlet = found
    tie: _Tie | None = getattr(_here, "tie", None)
    if tie is not None and tie.channel.hub is hub and tie.channel.pid == os.getpid():
        channel = tie.channel
    elif greenlet is _threads.current_greenlet():
        return None  # nothing can be waited for here, now or later
    else:
        if tie is not None:
            tie.channel.forget()
        channel = kind(hub)
        _here.tie = _Tie(channel)
        if _home is None or _home.is_over() or _threads.on_main_thread():
            _home = channel
    if greenlet is _threads.current_greenlet():
        channel.stuck = True
        return None
    return channel


def bell() -> Bell | None:
    """For native code: a wait of the present greenlet, or None where the OS thread may wait."""
    channel = here()
    return None if channel is None else channel.bell()


def in_hub() -> bool:
    """Whether the caller is a hub's own greenlet (a signal handler, a watcher's callback), which stops all others."""
    found = _hub()
    return found is not None and found[2] is _threads.current_greenlet()


def settle() -> None:
    """A producer begins here. In a patched process make sure that the application's hub is known, and that our threads find
    imported what they need: the locks of imports may be made for greenlets of one thread."""
    library = _threads.patched_by()
    if library is not None:
        import encodings.idna  # noqa: F401
        import ipaddress  # noqa: F401
    if library is not None and _hub() is None and _threads.on_main_thread():
        if library == "gevent":
            from gevent import get_hub
        else:
            from eventlet.hubs import get_hub
        get_hub()
    here()


def wait(event: Event, timeout: float | None = None) -> bool:
    """Wait up to `timeout` seconds for an event; other greenlets go on. Whether it is set."""
    channel = here()
    if channel is None:
        return event.wait(timeout)
    bell = channel.bell()

    def tell() -> None:
        bell.inbox.post(bell.ring)

    deadline = None if timeout is None else monotonic() + timeout
    if event.tell(tell):
        try:
            while not event.is_set():
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    break
                bell.wait(left)
        finally:
            event.forget(tell)
    return event.is_set()


def join(thread: OsThread, timeout: float) -> None:
    """Wait up to `timeout` seconds for a thread's end; other greenlets go on."""
    if wait(thread.ended, timeout):
        thread.join(timeout)  # at its very end by now


def run(function: Callable[[], T], name: str) -> T:
    """What `function` returns or raises, which blocks: called right here, or on an OS thread of that name while other
    greenlets go on. It goes on by itself if the wait is interrupted."""
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
    except RuntimeError:  # no more threads: the interpreter exits
        return function()
    wait(thread.ended)
    if raised:
        raise raised[0]
    return returned[0]


def flush(engine: Engine, timeout: float | None) -> int:
    """As `Engine.flush`. In the hub's own greenlet callbacks are not waited for: they may need the hub."""
    channel = here()
    if channel is None:
        return engine.flush(timeout, callbacks=not in_hub())
    deadline = None if timeout is None else monotonic() + timeout
    pending, bell = PendingFlush(engine), channel.bell()
    try:
        while pending.attempt(bell.inbox, bell.ring)[0] != "done":
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return engine.unresolved_records() or -1
            bell.wait(left)
    finally:
        pending.end()
    return 0


def in_callback() -> bool:
    """Whether the caller is a callback."""
    return Engine.in_callback() or (bool(_in_callbacks) and id(_threads.current_greenlet()) in _in_callbacks)


class _Job:
    """A call that one of two makes: the hub, or who asked for it."""

    def __init__(self, function: Callable[[], object], channel: Channel, is_callback: bool) -> None:
        self.done: Final = Event()
        self.error: BaseException | None = None
        self._function = function
        self._channel = channel
        self._is_callback = is_callback
        self._lock = _threads.Lock()
        self._taken = False

    def take(self) -> bool:
        with self._lock:
            taken, self._taken = self._taken, True
        return not taken

    def start(self) -> None:
        """In the hub."""
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
    """Make a call on behalf of a thread of ours and wait for its end: where the application's greenlets run, in a patched
    process; otherwise, and where its hub will not come to it, right here. Raises what it raises."""
    channel = _home
    if channel is None or _threads.patched_by() is None or channel.is_over() or channel.thread == _threads.ident():
        function()
        return
    job = _Job(function, channel, is_callback)
    channel.inbox.post(job.start)
    while not job.done.wait(_LOOK_S):
        if (channel.stuck or channel.is_over()) and job.take():
            function()
            return
    if job.error is not None:
        raise job.error


class Arrivals(Generic[T]):
    """A queue from any thread to whoever waits."""

    def __init__(self) -> None:
        """Empty."""
        self._items: SimpleQueue[T] = SimpleQueue()
        self._bell: Bell | None = None

    def put(self, item: T) -> None:
        """Add one; from any thread."""
        self._items.put(item)
        bell = self._bell
        if bell is not None:
            bell.inbox.post(bell.ring)

    def get(self, timeout: float | None) -> T:
        """The next one; waits up to `timeout` seconds. Raises `queue.Empty`."""
        channel = here()
        if channel is None:
            return self._items.get(timeout=timeout)
        deadline = None if timeout is None else monotonic() + timeout
        self._bell = bell = channel.bell()
        try:
            while self._items.empty():
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    break
                bell.wait(left)
            return self._items.get_nowait()
        finally:
            self._bell = None


def _after_fork_in_child() -> None:
    # Other greenlets of the parent's are still here, asleep: what wakes them belongs to the parent.
    global _home
    _home = None
    _in_callbacks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
