"""How Penstock writes log lines, so that a log handler may send to Kafka.

A handler is the user's code and may use a producer: it may send each line, create the producer on the first line, or
flush it. This leads to three rules:

* While a thread handles one of our lines, further lines on the same thread are dropped. Otherwise a handler that fails
  would be called again from within itself, without end.
* The same error is logged at most once in `LOG_EVERY_S` seconds (`Repeats`). Otherwise a handler on another thread that
  causes the error it handles would be called without end.
* Lines from inside `send`, from the control thread and from the callback thread are written by a helper thread
  (`Runtime.say`). A handler that waits for Kafka must delay neither a `send` nor the threads that it waits for.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final, TypeAlias

from penstock._threads import caller

Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]
"""The form in which `logging` takes an exception (`exc_info`)."""

LOG_EVERY_S: Final = 10.0
"""The shortest time between two lines about the same error; the later line has the number of lines left out."""
_MAX_SUBJECTS: Final = 1_000

_handlers: Final[set[tuple[int, int]]] = set()
"""Threads and greenlets that are handling one of our lines. Not a `threading.local`, which may be per thread or per
greenlet, depending on monkey patching."""


def handling() -> bool:
    """Whether this thread, or this greenlet, is handling one of our lines."""
    return bool(_handlers) and caller() in _handlers


def log_line(
    logger: logging.Logger, level: int, message: str, *arguments: object, exc_info: Raised | BaseException | None = None
) -> None:
    """Log at once, on this thread, unless it is handling one of our lines."""
    me = caller()
    if me in _handlers:
        return
    _handlers.add(me)
    try:
        logger.log(level, message, *arguments, exc_info=exc_info, stacklevel=2)
    finally:
        _handlers.discard(me)


class Repeats:
    """When each subject was logged last, and how many lines were left out since. Without a lock: a race costs one extra line."""

    def __init__(self, every_s: float = LOG_EVERY_S) -> None:
        """Nothing was logged yet."""
        self._every_s = every_s
        self._last: dict[str, tuple[float, int]] = {}

    def more(self, subject: str, now_s: float) -> str | None:
        """The text to add to the line about `subject`; None: do not log it now."""
        last_s, hidden = self._last.get(subject, (None, 0))
        if last_s is not None and now_s - last_s < self._every_s:
            self._last[subject] = (last_s, hidden + 1)
            return None
        if len(self._last) >= _MAX_SUBJECTS:
            self._last.clear()
        self._last[subject] = (now_s, 0)
        return f" ({hidden} more of these since)" if hidden else ""


def subject_of(function: object, error: BaseException) -> str:
    """The subject of a callback's error for `Repeats`: the same for the same function and the same type of error."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None)}.{name} {type(error).__name__}"
