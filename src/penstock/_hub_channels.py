"""How the hubs of gevent and eventlet are notified, and how one of their greenlets waits.

Native code posts calls into a hub's inbox and writes one byte into a socket pair that the hub watches. The hub then makes
the calls, which wake the waiting greenlets. A `HubChannel` belongs to one OS thread with a hub.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final

from penstock import _threads
from penstock._native import LoopInbox

_CHUNK: Final = 256
_LONGEST_S: Final = 3600.0
"""The longest single wait. Every wait has a timer: libraries refuse longer ones, and a hub without any timer may end."""


class HubChannel:
    """A hub's inbox, and how the hub is notified. Belongs to one OS thread; other threads use only `inbox`."""

    def __init__(self, hub: Any) -> None:
        """Have the hub watch the inbox; in the hub's thread."""
        self.hub = hub
        self.inbox = LoopInbox(True)
        self.pid: Final = os.getpid()
        self.thread: Final = _threads.ident()
        self.stuck = False
        """The hub's own greenlet blocks in native code, or did since the hub last read its inbox: calls may never run there."""
        self.over = False
        """The hub's thread has ended."""
        self._calls: Iterator[tuple[Callable[..., object], tuple[Any, ...], object]] = iter(())

    def waiter(self) -> Waiter:
        """For a wait of the current greenlet."""
        raise NotImplementedError

    def spawn(self, function: Callable[[], object]) -> None:
        """Start a greenlet; in the hub."""
        raise NotImplementedError

    def unwatch(self) -> None:
        """Stop watching: this is a child process, and the descriptor is shared with the parent."""

    def is_over(self) -> bool:
        """Whether this hub will run no more calls."""
        return self.over or self.pid != os.getpid()

    def deliver(self, *_: object) -> None:
        """Make the calls in the inbox. Runs in the hub, so the calls must be short and must not wait."""
        if self.pid != os.getpid():
            self.unwatch()
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
            # Ctrl-C, which the hub passes on. A new call in the inbox has the hub make the remaining ones later.
            self.inbox.post(int)
            raise


class Waiter:
    """One greenlet's wait. Native code uses `inbox`, `wake` and `wait` by name."""

    def __init__(self, channel: HubChannel) -> None:
        """A call of `wake` is posted into the channel's inbox."""
        self.inbox = channel.inbox

    def wake(self) -> None:
        """End the present wait, or the next one; runs in the hub."""
        raise NotImplementedError

    def wait(self, timeout: float | None) -> bool:
        """Let other greenlets run until `wake` is called, or for up to `timeout` seconds (False).

        Raises what another greenlet throws into this one (`gevent.Timeout`, `GreenletExit`).
        """
        return self._wait(_LONGEST_S if timeout is None else min(max(timeout, 0.0), _LONGEST_S))

    def wait_until(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `ready()`, which is called again after each wake-up, or for up to `timeout` seconds (False)."""
        deadline = None if timeout is None else monotonic() + timeout
        while not ready():
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return False
            self.wait(left)
        return True

    def _wait(self, timeout: float) -> bool:
        raise NotImplementedError


class _GeventChannel(HubChannel):
    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        # `ref=False`: a watcher that counts would keep `gevent.wait()` from ending. While a greenlet waits, the timer of its
        # wait keeps the hub running.
        self._watcher = hub.loop.io(self.inbox.fileno(), 1, ref=False)
        self._watcher.start(self.deliver)

    def waiter(self) -> Waiter:
        return _GeventWaiter(self)

    def spawn(self, function: Callable[[], object]) -> None:
        import gevent

        # Raw: no other code can find this greenlet and kill it before it starts.
        gevent.spawn_raw(function)

    def unwatch(self) -> None:
        if self.hub.loop is not None:
            self._watcher.stop()

    def is_over(self) -> bool:
        return super().is_over() or self.hub.loop is None


class _GeventWaiter(Waiter):
    def __init__(self, channel: HubChannel) -> None:
        from gevent.event import Event as GeventEvent

        super().__init__(channel)
        self._event = GeventEvent()

    def wake(self) -> None:
        self._event.set()

    def _wait(self, timeout: float) -> bool:
        woken = self._event.wait(timeout)
        self._event.clear()
        return bool(woken)


class _EventletChannel(HubChannel):
    def __init__(self, hub: Any) -> None:
        super().__init__(hub)
        hub.add(hub.READ, self.inbox.fileno(), self.deliver, self.deliver, None)

    def waiter(self) -> Waiter:
        return _EventletWaiter(self)

    def spawn(self, function: Callable[[], object]) -> None:
        import eventlet

        eventlet.spawn_n(function)


class _EventletWaiter(Waiter):
    def __init__(self, channel: HubChannel) -> None:
        from eventlet.event import Event as EventletEvent

        super().__init__(channel)
        self._new = EventletEvent
        self._event = EventletEvent()

    def wake(self) -> None:
        if not self._event.ready():
            self._event.send(True)

    def _wait(self, timeout: float) -> bool:
        woken = bool(self._event.wait(timeout))
        if woken:
            self._event = self._new()
        return woken


def find_hub() -> tuple[Any, type[HubChannel], Any] | None:
    """The hub of this OS thread, the class of its channel, and its greenlet; None if this thread has no hub."""
    modules = sys.modules
    # Another thread may be importing these modules right now; a module without the attribute has no hub yet.
    find = getattr(modules.get("gevent._hub_local"), "get_hub_if_exists", None)
    hub = None if find is None else find()
    if hub is not None and hub.loop is not None:
        return hub, _GeventChannel, hub
    hub = getattr(getattr(modules.get("eventlet.hubs"), "_threadlocal", None), "hub", None)
    if hub is not None:
        return hub, _EventletChannel, hub.greenlet
    return None
