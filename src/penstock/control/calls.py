"""Calls of the application into the controller, from any thread.

`Runtime.call` puts a `Call` among the events of the control thread; its `Reply` resolves the `PendingCall`, also when the
control thread has ended. A facade waits in its own way: `_hubs.wait(pending.done, timeout)` on a thread or greenlet; a
coroutine passes a function that calls `loop.call_soon_threadsafe` to `pending.done.add_waiter`.
"""

from penstock import _threads
from penstock.control.boundary import Trouble


class PendingCall:
    """A call that will be answered; the handle of a `Call`."""

    def __init__(self) -> None:
        """Not answered yet."""
        self.done = _threads.Event()
        self.trouble = Trouble()
        """Why it failed; false if it succeeded. Valid once it is done."""

    def resolve(self, trouble: Trouble) -> None:
        """Answer it; once."""
        self.trouble = trouble
        self.done.set()
