"""How Penstock writes log lines, so that a log handler may send to Kafka.

A handler is the user's code and may use a producer: send what it is given, make the producer when the first line comes,
flush it. Hence two rules:

* What is logged while a line of ours is being handled on the same thread is dropped: a handler can hear of itself once, and
  not again from within.
* The same trouble is logged only now and then (`Repeats`), so that a handler on another thread that meets the trouble of
  which it is told does not keep itself busy.

What happens inside `send`, on the control thread or on that of the callbacks is handed to a helper thread
(`Runtime.say`): a handler that waits for Kafka must not keep a `send` waiting, nor that which it waits for.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final, TypeAlias

from penstock._threads import caller

Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
"""What `logging` takes as `exc_info`."""

LOG_EVERY_S: Final = 10.0
"""The same trouble is logged this often at most, then with the number of times that it was not."""
_MAX_SUBJECTS: Final = 1_000


_handlers: Final[set[tuple[int, int]]] = set()
"""Threads, and greenlets, that are handling a line of ours. Not a `threading.local`: is it the thread's or the greenlet's?"""


def handling() -> bool:
    """Whether a line of ours is being handled on this thread, or in this greenlet."""
    return bool(_handlers) and caller() in _handlers


def say(
    logger: logging.Logger, level: int, message: str, *arguments: object, exc_info: Raised | BaseException | None = None
) -> None:
    """Log here and now, unless this thread is handling a line of ours."""
    me = caller()
    if me in _handlers:
        return
    _handlers.add(me)
    try:
        logger.log(level, message, *arguments, exc_info=exc_info, stacklevel=2)
    finally:
        _handlers.discard(me)


class Repeats:
    """When what was logged last, and how often it was not since. A race costs a line too many, never a lock."""

    def __init__(self, every_s: float = LOG_EVERY_S) -> None:
        """Nothing was logged yet."""
        self._every_s = every_s
        self._last: dict[str, tuple[float, int]] = {}

    def more(self, subject: str, now_s: float) -> str | None:
        """What to add to the line about `subject`; None if it is not to be logged now."""
        last_s, hidden = self._last.get(subject, (None, 0))
        if last_s is not None and now_s - last_s < self._every_s:
            self._last[subject] = (last_s, hidden + 1)
            return None
        if len(self._last) >= _MAX_SUBJECTS:
            self._last.clear()
        self._last[subject] = (now_s, 0)
        return f" ({hidden} more of these since)" if hidden else ""


def subject_of(function: object, error: BaseException) -> str:
    """What a callback and its error have in common with others of their kind."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None)}.{name} {type(error).__name__}"
