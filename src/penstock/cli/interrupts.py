"""The signals that end a run: a record is counted before a signal interrupts, and exit codes are those of shells."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType, TracebackType
from typing import Final, Self

_BLOCKED_S: Final = 0.25
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def exit_code(number: signal.Signals) -> int:
    """The exit code of a process that a signal ended, by the convention of shells."""
    return 128 + number


def cut_short(number: signal.Signals) -> tuple[str, int]:
    """The message about a run that a signal ended, and its exit code."""
    return "interrupted" if number is signal.SIGINT else f"terminated by {number.name}", exit_code(number)


class Interrupts:
    """Handles Ctrl-C, SIGTERM and SIGHUP: the first one raises `KeyboardInterrupt`. For the main thread.

    A later Ctrl-C ends the process at once. A later SIGTERM or SIGHUP does nothing: a terminal that closes and a system that
    shuts down send several, and their senders wait for longer than the drain. A signal that was ignored from the start
    (`nohup`) stays ignored.

    While `guarded`, only `pending` is set and nothing is raised: no record may get lost between its send and its counting.
    A send that waits for buffer memory is also interrupted, a moment later.
    """

    def __init__(self) -> None:
        """Takes effect as a context manager."""
        self.guarded = False
        self.pending = False
        self.stopped_by: signal.Signals | None = None
        """The first signal that arrived."""

    def __enter__(self) -> Self:
        """Install the handlers."""
        numbers = [signal.SIGINT, signal.SIGALRM]
        numbers += [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the handlers."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Leave the guarded section, and raise for a signal that arrived in it."""
        self.guarded = False
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM:
            if self.guarded and self.pending:
                self.guarded = self.pending = False
                raise KeyboardInterrupt
            return
        if self.stopped_by is not None:
            if number != signal.SIGINT:
                return
            with contextlib.suppress(OSError):
                os.write(2, b"\x1b[?25h\n" if os.isatty(2) else b"\n")  # the progress bar hid the cursor
            os._exit(exit_code(signal.SIGINT))
        else:
            self.stopped_by = signal.Signals(number)
        if not self.guarded:
            raise KeyboardInterrupt
        self.pending = True
        signal.setitimer(signal.ITIMER_REAL, _BLOCKED_S)
